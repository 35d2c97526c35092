"""Real servers in separate processes: the table of servers, and how to start and stop one."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.machine import eventually
from tests.processes import free_port, guarded, stop, wait_until_up
from tests.selection import parameters
from tests.servers.limits import FILE_BYTES, KEYS_PER_PLAN, api_key
from tests.servers.stored import KeyMaker
from tests.servers.wire import HOST, Answer, Connection

START_SECONDS = 20.0
FILE = bytes(range(256)) * (FILE_BYTES // 256)


class Spec(NamedTuple):
    """How to start one server. `command` is what follows ``python -m``."""

    name: str
    kind: str
    command: str

    def __str__(self) -> str:
        return self.name


_UVICORN = "uvicorn tests.servers.asgi_app:app --host {host} --port {port} --timeout-graceful-shutdown 1"
_GUNICORN = "gunicorn tests.servers.wsgi_app:app --bind {host}:{port} --workers 1 --graceful-timeout 1"
_GRANIAN = "granian --host {host} --port {port} --workers 1 --workers-kill-timeout 1"

ASGI = (
    Spec("uvicorn-httptools", "asgi", f"{_UVICORN} --http httptools --ws websockets-sansio"),
    Spec("uvicorn-h11", "asgi", f"{_UVICORN} --http h11 --ws wsproto --loop asyncio"),
    Spec(
        "hypercorn",
        "asgi",
        "hypercorn tests.servers.asgi_app:app --bind {host}:{port} --workers 1 --graceful-timeout 1",
    ),
    Spec("granian-asgi", "asgi", f"{_GRANIAN} --interface asgi tests.servers.asgi_app:app"),
)
WSGI = (
    Spec("gunicorn-sync", "wsgi", f"{_GUNICORN} --worker-class sync"),
    Spec("gunicorn-gthread", "wsgi", f"{_GUNICORN} --worker-class gthread --threads 8"),
    Spec("gunicorn-preload", "wsgi", f"{_GUNICORN} --worker-class gthread --threads 8 --preload"),
    Spec("gunicorn-gevent-preload", "wsgi", f"{_GUNICORN} --worker-class gevent --preload"),
    Spec("waitress", "wsgi", "waitress --listen {host}:{port} --threads 8 tests.servers.wsgi_app:app"),
    Spec("granian-wsgi", "wsgi", f"{_GRANIAN} --interface wsgi --blocking-threads 8 tests.servers.wsgi_app:app"),
)
SPECS = (*ASGI, *WSGI)
_USUAL = ("uvicorn-httptools", "gunicorn-gthread")
#: uvicorn with its other parser, and a mode that gunicorn-gevent-preload has too. Only `make test-full` runs them.
REPEATS = ("uvicorn-h11", "gunicorn-preload")
#: Speaks HTTP on one port and its own protocol on another, as nginx's `uwsgi_pass` wants it.
UWSGI = Spec(
    "uwsgi",
    "wsgi",
    "uwsgi --http-socket {host}:{port} --socket {host}:{uwsgi_port} --module tests.servers.wsgi_app:app --need-app "
    "--enable-threads --threads 8",
)


def on(specs: tuple[Spec, ...], *, without: str = "", everywhere: bool = False) -> pytest.MarkDecorator:
    """Run a test on these servers, except those in `without`, which have separate tests.

    `make test` runs it on one ASGI server and one WSGI server of them, or with `everywhere` on all but the repeats.
    `make test-full` always runs it on all of them.
    """
    chosen = [spec for spec in specs if spec.name not in without.split()]
    kept = [spec for spec in chosen if spec.name not in REPEATS] if everywhere else _representatives(chosen)
    params = [pytest.param(spec, marks=[] if spec in kept else [pytest.mark.full]) for spec in chosen]
    return pytest.mark.parametrize("server", params, indirect=True, ids=str)


def _representatives(specs: list[Spec]) -> list[Spec]:
    """Return one server of each kind: the usual one, or the first if that is not among them."""
    by_kind: dict[str, Spec] = {}
    for spec in sorted(specs, key=lambda spec: spec.name not in _USUAL):
        by_kind.setdefault(spec.kind, spec)
    return list(by_kind.values())


def on_named(*names: str, full: str = "") -> pytest.MarkDecorator:
    """Run a test on the servers of these names. Only `make test-full` runs it on those in `full` and on repeats."""
    by_name = {spec.name: spec for spec in SPECS}
    for_full = [*full.split(), *(name for name in names if name in REPEATS)]
    params = parameters({name: by_name[name] for name in dict.fromkeys((*names, *for_full))}, full=for_full)
    return pytest.mark.parametrize("server", params, indirect=True)


class Server:
    """A server that answers, and what tests ask of it."""

    def __init__(self, spec: Spec, port: int, folder: Path, new_key: KeyMaker) -> None:
        self.name = spec.name
        #: Makes keys of the store, on the plan burst, and accounts.
        self.new_key = new_key
        self.kind = spec.kind
        self.port = port
        #: Where uWSGI speaks its own protocol.
        self.uwsgi_port = free_port()
        self.folder = folder
        self._subjects = {plan: count() for plan in ("burst", "ample", "slots")}
        self._names = count()

    def __repr__(self) -> str:
        return f"<{self.name} at {HOST}:{self.port}>"

    def new_subject(self, plan: str) -> str:
        """A subject of `plan` that no other test has used."""
        number = next(self._subjects[plan])
        assert number < KEYS_PER_PLAN - 1, "the apps have no more keys"
        return f"{plan}-{number:03}"

    def new_name(self) -> str:
        """A name for a stream."""
        return f"stream-{next(self._names)}"

    def let_end(self, name: str) -> None:
        """Let the stream `name` end."""
        (self.folder / name).touch()

    def request(self, method: str, path: str, subject: str | None = None) -> Answer:
        """One exchange on a new connection."""
        with Connection(self.port) as connection:
            return connection.request(method, path, *([] if subject is None else [api_key(subject)]))

    def free(self, subject: str) -> int:
        """How many slots are free now; more than the plan has if one was released twice."""
        return int(self.request("GET", f"/free/{subject}").body)

    def free_becomes(self, subject: str, expected: int) -> int:
        """The number of free slots, as soon as it is `expected` or the deadline has passed."""
        return eventually(lambda: self.free(subject), expected)

    def advance(self, ms: int) -> None:
        """Move the clock of the limiter."""
        assert self.request("POST", f"/clock/{ms}").status == 200

    def forgive(self) -> None:
        """Let so much time pass that no address is refused any more for unknown keys."""
        self.advance(60_000)

    def complaints(self) -> list[str]:
        """Log lines that show a fault of the limiter: errors it raised, or that were lost."""
        lines = (self.folder / "log.txt").read_text(errors="replace").splitlines()
        lost = ("Exception ignored", "never retrieved", "never awaited", "no decision for")
        return [
            line
            for number, line in enumerate(lines)
            if any(words in line for words in lost)
            or (_is_frame(line) and "awx_ratelimit" in line and not any(map(_is_frame, lines[number + 1 : number + 4])))
        ]


def _is_frame(line: str) -> bool:
    return line.lstrip(" |").startswith('File "')


@contextmanager
def running(spec: Spec, folder: Path) -> Iterator[Server]:
    """A server that answers. Whatever happens, no process of it is left afterwards."""
    served = folder / "file.bin"
    served.write_bytes(FILE)
    new_key = KeyMaker(folder)
    server = Server(spec, free_port(), folder, new_key)
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = _started(spec, server, output.fileno())
    guard = guarded(process)
    try:
        _wait_until_it_answers(server, process, log)
        yield server
    finally:
        stop(process, guard)
        new_key.close()
        # pytest keeps the folders of some runs.
        served.unlink()


def _started(spec: Spec, server: Server, output: int) -> "subprocess.Popen[bytes]":
    folder = server.folder
    command = spec.command.format(host=HOST, port=server.port, uwsgi_port=server.uwsgi_port).split()
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        _uwsgi(command) if command[0] == "uwsgi" else [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "AWX_TEST_FOLDER": str(folder), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # Its own group, so that workers can be stopped with their master.
        start_new_session=True,
    )


def _uwsgi(command: list[str]) -> list[str]:
    """The command line of uWSGI, which is not a Python module and needs the path of the packages."""
    return [str(Path(sys.executable).with_name("uwsgi")), *command[1:], "--virtualenv", sys.prefix, "--die-on-term"]


def _wait_until_it_answers(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    def answers() -> bool:
        # A short timeout: a server that is still starting may never answer.
        with contextlib.suppress(OSError), Connection(server.port, timeout_seconds=1.0) as connection:
            return connection.request("GET", "/health").status == 200
        return False

    wait_until_up(process, answers, log, START_SECONDS)
