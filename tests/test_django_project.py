"""examples/django_project under a real ASGI and a real WSGI server, and its commands."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from tests.machine import eventually
from tests.redis_servers import RedisServer
from tests.selection import parameters
from tests.test_examples import DEADLINE_SECONDS, ROOT, client, environment, served

MANAGE = (sys.executable, str(ROOT / "examples" / "django_project" / "manage.py"))
COMMANDS = {
    "uvicorn": "uvicorn --timeout-graceful-shutdown 1 --fd {fd} examples.django_project.asgi:application",
    "gunicorn": (
        "gunicorn --threads 12 --graceful-timeout 1 --no-control-socket --bind fd://{fd} "
        "examples.django_project.wsgi:application"
    ),
}
pytestmark = pytest.mark.timeout(2 * DEADLINE_SECONDS)
PASSWORD = "a long enough password"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the project's files, in which one user exists."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        path = tmp_path_factory.mktemp("project")
        monkeypatch.setenv("PROJECT_FOLDER", str(path))
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
        assert manage("migrate", "--verbosity", "0") == ""
        assert "created" in manage("createsuperuser", "--no-input", "--username", "ann", "--email", "a@a.example")
        yield path


def manage(*arguments: str) -> str:
    """What one of the project's commands prints."""
    ran = subprocess.run([*MANAGE, *arguments], env=environment(), capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("server", parameters(COMMANDS.keys(), full=("gunicorn",)))
def test_project(server: str, folder: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project keeps every promise under a real server, with its limits on Redis and in a file.

    Anonymous users get a 401, and an exempt path is free. A user's requests are charged, sync, async and by a throttle.
    A stream holds its slot, and a client that hangs up gives it back. Guesses of passwords are limited by address.
    """
    backends = {"uvicorn": f"{redis_server.url}?budget_ms=5000", "gunicorn": f"host://{folder}/more-limits"}
    monkeypatch.setenv("AWX_BACKEND", backends[server])
    with served(COMMANDS[server]) as url, client(url) as http, ExitStack() as stack:
        assert http.get("/health").status_code == 200
        assert http.get("/v1/agents").json()["code"] == "api_key_missing"
        assert http.get("/v1/agents").status_code == 401
        began_s = time.monotonic()
        assert log_in(http, PASSWORD) == 200

        first = http.get("/v1/agents")
        assert first.json()["user"] == "ann"
        assert first.headers["ratelimit"].startswith('"minute";r=59')
        for path, scope in (("/v1/search", "search"), ("/v1/quotes", "burst.minute")):
            answers = [http.get(path) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429], path
            assert f'"{scope}' in answers[3].headers["ratelimit"]
            assert answers[3].json()["code"] == "rate_limit_exceeded"
            assert int(answers[3].headers["retry-after"]) > 1
        assert "concurrent: 5 of 5 left" in manage("awx_ratelimit", "show", "user_1")

        reports = [stack.enter_context(http.stream("GET", "/v1/report")) for _ in range(5)]
        # An iterator that is collected would close its response.
        iterators = [report.iter_bytes() for report in reports]
        starts = [next(iterator) for iterator in iterators]
        refused = http.get("/v1/agents")
        reports[0].close()
        again = eventually(lambda: http.get("/v1/agents").status_code, 200, DEADLINE_SECONDS / 4)

        assert starts == [b"line 0\n"] * 5
        assert refused.status_code == 429
        assert '"concurrent";r=0' in refused.headers["ratelimit"]
        assert again == 200
        guesses = _guesses_until_refused(http)
        # A busy machine needs longer than the 12 seconds in which one of five guesses a minute refills.
        assert 4 <= guesses <= 4 + (time.monotonic() - began_s) / 12


def _guesses_until_refused(http: httpx2.Client) -> int:
    """How many wrong passwords are checked before one is refused."""
    for number in range(100):
        if (status := log_in(http, "a guess")) != 403:
            assert status == 429
            return number
    pytest.fail("no guess is refused")


def log_in(http: httpx2.Client, password: str) -> int:
    """The status of a login."""
    return http.post("/login", data={"username": "ann", "password": password}).status_code


def test_commands() -> None:
    """The project passes its checks, and the command shows its plans and the state of its backend."""
    assert "no issues" in manage("check")
    shown = manage("awx_ratelimit", "check").splitlines()
    assert re.fullmatch("starter +minute +60 per minute, burst 60; at most 120 in any minute", shown[1])
    assert shown[-1] == "backend host: ok"
