"""Several worker processes on one Redis share one exact limit."""

import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType

import pytest
from tests.processes import free_port, guarded, stop
from tests.redis_servers import RedisServer
from tests.selection import parameters

TOKENS = 100
KEY = {"X-API-Key": "awx_test_shared"}
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
START_SECONDS = 20.0
ROOT = Path(__file__).parents[2]
APPS = "tests.integration.redis_apps"
COMMANDS = {
    "uvicorn, 2 workers": f"uvicorn {APPS}:asgi --factory --port {{port}} --workers 2 --log-level warning",
    "gunicorn, 2 workers of 8 threads": (
        f"gunicorn {APPS}:wsgi() --bind 127.0.0.1:{{port}} --workers 2 --worker-class gthread --threads 8"
    ),
    "gunicorn, preloaded": (
        f"gunicorn {APPS}:wsgi() --bind 127.0.0.1:{{port}} --workers 4 --worker-class gthread --threads 4 --preload"
    ),
}


def command_line(command: str) -> list[str]:
    """The command that starts a server: a Python module, or uWSGI, which is a program."""
    program, *arguments = shlex.split(command)
    if program != "uwsgi":
        return [sys.executable, "-m", program, *arguments]
    uwsgi = Path(sys.executable).with_name("uwsgi")
    if not uwsgi.exists():
        pytest.fail("uWSGI is needed: `make uwsgi` compiles it")
    return [str(uwsgi), "--home", sys.prefix, "--pythonpath", str(ROOT), *arguments]


@contextmanager
def serving(command: str, backend: str, folder: Path, *, workers: int = 2) -> Iterator[int]:
    """A server with this many workers, each of which has responded; its port."""
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command_line(command.format(port=port)),
            stdout=log,
            stderr=log,
            env={**os.environ, "AWX_TEST_BACKEND": backend},
            start_new_session=True,
        )
    guard = guarded(process)
    try:
        _wait_for(workers, port, process, folder / "log")
        yield port
    finally:
        stop(process, guard)


def _wait_for(workers: int, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until this many workers have responded."""
    until, answered = time.monotonic() + START_SECONDS, set()
    while time.monotonic() < until and process.poll() is None:
        try:
            answered.add(ask(port, "/pid")[1])
        except OSError:
            time.sleep(0.05)
        if len(answered) >= workers:
            return
    pytest.fail(f"the workers did not start:\n{log.read_text(errors='replace')}")


@pytest.mark.parametrize("command", parameters(COMMANDS, full=("gunicorn, 2 workers of 8 threads",)))
def test_workers_share_one_limit(command: str, redis_server: RedisServer, tmp_path: Path) -> None:
    """Of three times as many requests as the limit has tokens, sent concurrently, exactly its tokens are admitted.

    The responses show that several processes took part.
    """
    with (
        serving(command, f"{redis_server.socket_url}?budget_ms=5000", tmp_path) as port,
        ThreadPoolExecutor(16) as threads,
    ):
        answers = list(threads.map(lambda _: ask(port, "/", KEY), range(3 * TOKENS)))

    statuses = Counter(status for status, _ in answers)
    processes = {body for status, body in answers if status == HTTPStatus.OK}
    assert statuses == {200: TOKENS, 429: 2 * TOKENS}
    assert len(processes) > 1


def ask(port: int, path: str, headers: Mapping[str, str] = NO_HEADERS) -> tuple[int, bytes]:
    """One request on a new connection, which any worker may accept."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
