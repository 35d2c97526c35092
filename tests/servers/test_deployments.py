"""Clients behind a real nginx: each server keeps them apart with the options that docs/deployment.md gives it."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask
from tests.machine import eventually
from tests.processes import free_port, guarded, stop
from tests.servers.harness import START_SECONDS
from tests.servers.nginx import CONFIG, Nginx
from tests.servers.wire import HOST, TIMEOUT_SECONDS

from awx_ratelimit import WsgiRateLimitMiddleware
from awx_ratelimit.adapters.flask import RateLimit

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deployment.md").read_text()
SERVERS = PAGE.split("## Servers")[1].split("\n## ")[0]
COMMANDS = re.findall(r"^(?:uvicorn|hypercorn|granian|gunicorn|waitress-serve|uwsgi) .*", SERVERS, re.MULTILINE)
PROXIES = re.findall(r'`trusted_proxies=(\["127.0.0.1", "unix"\])`', PAGE)
PLAIN_WAITRESS = "waitress-serve --listen 127.0.0.1:8000 main:app"
PLAIN_GUNICORN = "gunicorn main:app --bind 127.0.0.1:8000 --threads 8"


class Deployment(NamedTuple):
    """A command line, and the trusted proxies of the gate behind it."""

    command: str
    trusted_proxies: str = "127.0.0.1 unix"


WRONG = {
    "unnamed": Deployment(PLAIN_GUNICORN, ""),
    "removed": Deployment(PLAIN_WAITRESS),
    "removed and unnamed": Deployment(PLAIN_WAITRESS, ""),
}


class Deployed:
    """A server that is starting behind nginx."""

    def __init__(self, deployment: Deployment, nginx: Nginx, folder: Path, number: int) -> None:
        self._nginx = nginx
        self.log = folder / f"log-{number}.txt"
        port, name = free_port(), f"{number}.sock"
        command = deployment.command
        way = "unix" if "app.sock" in command else "uwsgi" if "--socket" in command else "buffered"
        self._prefix = f"/{way}/{name if way == 'unix' else port}"
        self._listens = str(nginx.folder / name) if way == "unix" else (HOST, port)
        is_asgi = command.startswith(("uvicorn", "hypercorn")) or "--interface asgi" in command
        words = (
            command.replace("main:app", f"tests.servers.deployed:{'asgi' if is_asgi else 'wsgi'}")
            .replace("8000", str(port))
            .replace("/run/app.sock", str(nginx.folder / name))
            .split()
        )
        words[0] = str(Path(sys.executable).with_name(words[0]))
        if command.startswith("uwsgi"):
            words += ["--virtualenv", sys.prefix, "--die-on-term"]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                words,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path, "AWX_TRUSTED_PROXIES": deployment.trusted_proxies},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.guard = guarded(self.process)

    def listens(self) -> bool:
        """Whether it does so by now."""
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        with socket.socket(socket.AF_UNIX if isinstance(self._listens, str) else socket.AF_INET) as probe:
            return probe.connect_ex(self._listens) == 0

    def statuses(self, client: str, *forwarded: str) -> list[int]:
        """The responses to a client at the address `client` that sends its own X-Forwarded-For."""
        return [self._status(client, value) for value in forwarded]

    def _status(self, client: str, forwarded: str) -> int:
        connection = HTTPConnection(HOST, self._nginx.port, TIMEOUT_SECONDS, source_address=(client, 0))
        try:
            connection.request("GET", f"{self._prefix}/", headers={"X-Forwarded-For": forwarded} if forwarded else {})
            return connection.getresponse().status
        finally:
            connection.close()

    def warnings(self) -> list[str]:
        """The lines of its log that speak of proxies."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if "trusted_proxies" in line]


@pytest.fixture(scope="module")
def deployed(nginx: Nginx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Deployment, Deployed]]:
    """All the servers, started at once."""
    folder = tmp_path_factory.mktemp("deployments")
    with ExitStack() as stack:
        started = {}
        for number, deployment in enumerate([*map(Deployment, COMMANDS), *WRONG.values()]):
            started[deployment] = server = Deployed(deployment, nginx, folder, number)
            stack.callback(stop, server.process, server.guard)
        until = time.monotonic() + START_SECONDS
        for server in started.values():
            while not server.listens():
                assert time.monotonic() < until, server.log.read_text(errors="replace")
                time.sleep(0.02)
        yield started


def test_the_page_names_every_server() -> None:
    """The page has a line for each server, and names the gate's trusted proxies."""
    assert {command.split()[0] for command in COMMANDS} == {
        "uvicorn", "hypercorn", "granian", "gunicorn", "waitress-serve", "uwsgi",
    }  # fmt: skip
    assert PROXIES == ['["127.0.0.1", "unix"]']


def test_the_pages_nginx_is_the_one_of_the_tests() -> None:
    """The nginx here has the page's configuration."""
    _, block = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    told = [line.strip() for line in block.splitlines() if "x_forwarded_for" in line.lower()]

    assert len(told) == 2
    assert [line for line in told if line not in CONFIG.template.replace("$$", "$")] == []


def test_the_pages_python_runs() -> None:
    """The lines that raise the bound for uploads limit an app."""
    *_, snippet = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"Flask": Flask, "RateLimit": RateLimit}
    exec(compile(snippet, "deployment.md", "exec"), names)

    assert isinstance(names["uploads"].wsgi_app, WsgiRateLimitMiddleware)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_client_behind_nginx_has_a_limit_of_its_own(deployed: dict[Deployment, Deployed], command: str) -> None:
    """Two clients do not share a limit, one cannot get two by sending a header, and nothing is logged."""
    server = deployed[Deployment(command)]

    assert server.statuses("127.0.0.2", "", "", "") == [200, 200, 429]
    assert server.statuses("127.0.0.3", "", "", "") == [200, 200, 429]
    spoofed = ["203.0.113.7", "203.0.113.8, 203.0.113.9", "127.0.0.1"]
    assert server.statuses("127.0.0.4", *spoofed) == [200, 200, 429]
    assert server.warnings() == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("unnamed", "127.0.0.1 sends X-Forwarded-For but is not a trusted proxy"),
        ("removed", "trusted_proxies names 127.0.0.1, but its requests carry no X-Forwarded-For"),
        ("removed and unnamed", "127.0.0.1 is refused again and again"),
    ],
)
def test_clients_that_share_an_address_are_warned_of_once(
    deployed: dict[Deployment, Deployed], wrong: str, says: str
) -> None:
    """The control: with an option missing, the clients share one limit, and the log says once which one it is."""
    server = deployed[WRONG[wrong]]

    assert server.statuses("127.0.0.2", "", "") == [200, 200]
    assert server.statuses("127.0.0.3", *[""] * 8) == [429] * 8
    assert eventually(lambda: len(server.warnings()), 1) == 1
    assert says in server.warnings()[0]
