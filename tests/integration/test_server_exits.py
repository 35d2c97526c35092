"""Real servers that end a worker, or themselves, leave no slot taken on Redis."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import RemoteDisconnected
from io import BufferedWriter
from pathlib import Path

import pytest
from tests.integration.test_redis_workers import KEY, ask, serving
from tests.processes import STOP_SECONDS
from tests.redis_servers import RedisServer
from tests.selection import parameters

from awx_ratelimit import Concurrency, Limiter, Plan, Rate
from awx_ratelimit.backends.open import open_backend

APPS = "tests.integration.exit_apps"
BARE = "tests.integration.bare_exit_app"
PLAN = Plan("slots", (Rate("minute", 100_000, 60_000),), Concurrency(3, ttl_ms=3_600_000))
GUNICORN = f"gunicorn {APPS}:wsgi() --bind 127.0.0.1:{{port}}"
UWSGI = "uwsgi --http-socket 127.0.0.1:{port} --master --processes 1 --need-app"
#: Without it, a worker that is asked to end answers nothing more, and calls nothing.
GRACEFULLY = "--hook-master-start 'unix_signal:15 gracefully_kill_them_all'"
RECYCLING = f"{GUNICORN} --worker-class sync --workers 2 --max-requests 10"
SERVERS = {
    "gunicorn-sync": f"{GUNICORN} --worker-class sync",
    "gunicorn-gthread": f"{GUNICORN} --worker-class gthread --threads 4",
    "granian-wsgi": f"granian --host 127.0.0.1 --port {{port}} --interface wsgi --factory {APPS}:wsgi",
    "uwsgi": f"{UWSGI} {GRACEFULLY} --module {APPS}:wsgi()",
    "uvicorn": f"uvicorn {APPS}:asgi --factory --port {{port}} --log-level warning",
    "hypercorn": f"hypercorn {APPS}:asgi() --bind 127.0.0.1:{{port}}",
    "granian-asgi": f"granian --host 127.0.0.1 --port {{port}} --interface asgi --factory {APPS}:asgi",
}


@pytest.mark.parametrize(
    "command", parameters(SERVERS, full=("gunicorn-sync", "granian-wsgi", "hypercorn", "granian-asgi"))
)
def test_a_server_that_has_ended_holds_no_slot(command: str, redis_server: RedisServer, tmp_path: Path) -> None:
    """What a worker held when it was asked to end is free when it has ended, and its log says nothing about it."""
    url = f"{redis_server.socket_url}?budget_ms=5000"
    limiter = Limiter(open_backend(url))
    with serving(command, url, tmp_path, workers=1) as port:
        status = ask(port, "/keep", KEY)[0]
        held = limiter.peek("kept", PLAN).held
    left = limiter.peek("kept", PLAN).held
    limiter.close()

    assert status == 200
    assert held == 1
    assert left == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_uwsgi_calls_no_exit_function_in_a_worker_that_is_answering(tmp_path: Path) -> None:
    """The server's own way to end at once, with a bare app: docs/processes.md names the option that lets it end."""
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as threads:
        with serving(f"{UWSGI} --die-on-term --module {BARE}:wsgi", str(tmp_path), tmp_path, workers=1) as port:
            answer = threads.submit(ask, port, "/slow")
            answering = (tmp_path / "pipe").open("wb")
        answering.close()

    assert isinstance(answer.exception(), RemoteDisconnected)
    assert not (tmp_path / "ended").exists()


def test_uwsgi_that_ends_gracefully_lets_a_worker_answer_and_end(tmp_path: Path) -> None:
    """With the option of docs/processes.md a worker that is answering calls its exit functions too."""
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(2) as threads:
        with serving(f"{UWSGI} {GRACEFULLY} --module {BARE}:wsgi", str(tmp_path), tmp_path, workers=1) as port:
            answer = threads.submit(ask, port, "/slow")
            answering = (tmp_path / "pipe").open("wb")
            threads.submit(close_when_logged, answering, tmp_path / "log", "graceful shutdown")
        status = answer.result()[0]

    assert status == 200
    assert (tmp_path / "ended").exists()


def close_when_logged(pipe: BufferedWriter, log: Path, what: str) -> None:
    """Close `pipe` when `log` has the text, or after so long that the test has failed."""
    until_s = time.monotonic() + STOP_SECONDS
    while what not in log.read_text() and time.monotonic() < until_s:
        time.sleep(0.01)
    pipe.close()


def test_a_client_that_never_sends_two_requests_at_once_is_not_refused(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Workers that end after some requests give the last slot back before they have ended."""
    with serving(RECYCLING, f"{redis_server.socket_url}?budget_ms=5000", tmp_path) as port:
        answers = [ask(port, "/", KEY) for _ in range(60)]

    assert Counter(status for status, _ in answers) == {200: 60}
    assert len({pid for _, pid in answers}) > 4
