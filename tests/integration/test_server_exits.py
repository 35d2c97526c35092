"""Real servers that end a worker, or themselves, leave no slot taken on Redis."""

from collections import Counter
from pathlib import Path

import pytest
from tests.integration.test_redis_workers import KEY, ask, serving
from tests.redis_servers import RedisServer

from awx_ratelimit import Concurrency, Limiter, Plan, Rate
from awx_ratelimit.opening import open_backend

APPS = "tests.integration.exit_apps"
PLAN = Plan("slots", (Rate("minute", 100_000, 60_000),), Concurrency(3, ttl_ms=3_600_000))
GUNICORN = f"gunicorn {APPS}:wsgi() --bind 127.0.0.1:{{port}}"
RECYCLING = f"{GUNICORN} --worker-class sync --workers 2 --max-requests 10"
SERVERS = {
    "gunicorn-sync": f"{GUNICORN} --worker-class sync",
    "gunicorn-gthread": f"{GUNICORN} --worker-class gthread --threads 4",
    "granian-wsgi": f"granian --host 127.0.0.1 --port {{port}} --interface wsgi --factory {APPS}:wsgi",
    "uwsgi": (
        f"uwsgi --http-socket 127.0.0.1:{{port}} --master --processes 1 --die-on-term --need-app --module {APPS}:wsgi()"
    ),
    "uvicorn": f"uvicorn {APPS}:asgi --factory --port {{port}} --log-level warning",
    "hypercorn": f"hypercorn {APPS}:asgi() --bind 127.0.0.1:{{port}}",
    "granian-asgi": f"granian --host 127.0.0.1 --port {{port}} --interface asgi --factory {APPS}:asgi",
}


@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS.keys())
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


def test_a_client_that_never_sends_two_requests_at_once_is_not_refused(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Workers that end after some requests give the last slot back before they have ended."""
    with serving(RECYCLING, f"{redis_server.socket_url}?budget_ms=5000", tmp_path) as port:
        answers = [ask(port, "/", KEY) for _ in range(60)]

    assert Counter(status for status, _ in answers) == {200: 60}
    assert len({pid for _, pid in answers}) > 4
