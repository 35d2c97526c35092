"""Worker processes that share a host file share one exact limit, also across a restart."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import pytest
from tests.integration.test_redis_workers import COMMANDS, KEY, TOKENS, ask, serving
from tests.redis_servers import RedisServer
from tests.selection import parameters

SERVERS = {
    **COMMANDS,
    "gunicorn, 3 plain workers": (
        "gunicorn tests.integration.redis_apps:wsgi() --bind 127.0.0.1:{port} --workers 3 --worker-class sync"
    ),
}
WARNING = "MemoryBackend is per process"


def decided(port: int) -> tuple[int, bytes]:
    """The answer to a request. A busy machine may let no process have the file for 40 ms: then it charges nothing."""
    while (answer := ask(port, "/", KEY))[0] == HTTPStatus.SERVICE_UNAVAILABLE:
        pass
    return answer


@pytest.mark.parametrize(
    "command", parameters(SERVERS, full=("gunicorn, 2 workers of 8 threads", "gunicorn, 3 plain workers"))
)
def test_workers_share_one_limit_exactly(command: str, tmp_path: Path) -> None:
    """Workers that get twice the limit allow exactly that limit, and log no warning."""
    with serving(command, f"host://{tmp_path}/limits", tmp_path) as port, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: decided(port), range(2 * TOKENS)))

    statuses = Counter(status for status, _ in answers)
    processes = {body for status, body in answers if status == HTTPStatus.OK}
    assert statuses == {200: TOKENS, 429: TOKENS}
    assert len(processes) > 1
    assert WARNING not in (tmp_path / "log").read_text()


def test_restart(tmp_path: Path) -> None:
    """After a restart the workers know what was used before."""
    url, command = f"host://{tmp_path}/limits", COMMANDS["gunicorn, preloaded"]
    with serving(command, url, tmp_path) as port:
        before = [ask(port, "/", KEY)[0] for _ in range(TOKENS)]
    with serving(command, url, tmp_path) as port:
        after = [ask(port, "/", KEY)[0] for _ in range(10)]

    assert before == [200] * TOKENS
    assert after == [429] * 10


@pytest.mark.parametrize("command", parameters(COMMANDS, full=("gunicorn, 2 workers of 8 threads",)))
def test_too_few_expected_workers(command: str, redis_server: RedisServer, tmp_path: Path) -> None:
    """Workers of one server log a warning if `expected_workers` is less than their number, and only then."""
    said = {}
    for number in (1, 4):
        with serving(command, f"{redis_server.socket_url}?expected_workers={number}", tmp_path) as port:
            ask(port, "/", KEY)
        said[number] = (tmp_path / "log").read_text()

    assert "expected_workers is 1, and this process is one of " in said[1]
    assert "expected_workers" not in said[4]


@pytest.mark.parametrize(
    "command", parameters(SERVERS, full=("gunicorn, 2 workers of 8 threads", "gunicorn, preloaded"))
)
def test_memory_backend_warns_workers(command: str, tmp_path: Path) -> None:
    """Workers of one server that keep limits in memory log a warning, before their first decision at the latest."""
    with serving(command, "memory://", tmp_path) as port:
        ask(port, "/", KEY)

    assert WARNING in (tmp_path / "log").read_text()
