"""Real Redis servers in separate processes: on a port, on a socket, with TLS, passwords, users and replicas."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.processes import free_port, guarded, stop, wait_until_up

from awx_ratelimit.backends.redis.scripts import Call

HOST = "127.0.0.1"
START_SECONDS = 10.0
LOG = "redis.log"
ONCE = Retry(NoBackoff(), 0)


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running server and its addresses. It stores nothing on disk."""

    port: int
    socket: Path
    pid: int
    password: str | None
    ca: Path | None

    @property
    def url(self) -> str:
        """The URL of its port: ``redis://`` or, with TLS, ``rediss://`` (see `ca`), for the default user."""
        return f"redis{'s' if self.ca else ''}://{f':{self.password}@' if self.password else ''}{HOST}:{self.port}"

    @property
    def socket_url(self) -> str:
        """The URL of its Unix socket, which never has TLS, as redis-py writes it."""
        return f"unix://{f':{self.password}@' if self.password else ''}{self.socket}"

    def client(self, **options: Any) -> "redis.Redis":
        """A client over the socket that tries once; by default for the user of `password`, with replies as bytes."""
        given = {"unix_socket_path": str(self.socket), "password": self.password, "retry": ONCE, **options}
        return redis.Redis(**given)


StartRedis: TypeAlias = Callable[..., RedisServer]


@contextmanager
def running_redis(
    folder: Path,
    *,
    port: int | None = None,
    tls: bool = False,
    password: str | None = None,
    users: Sequence[str] = (),
    replica_of: RedisServer | None = None,
    options: Sequence[str] = (),
    binary: str = "redis-server",
) -> Iterator[RedisServer]:
    """A new server in `folder`, which is removed afterwards.

    `users` are lines of ACL, such as ``alice on >secret ~awx:* +@all``; `options` are more arguments, such as
    ``--maxmemory 5mb``. `port` starts an earlier server again; `binary` may be another, such as Valkey's.
    """
    port = port or free_port()
    ca = _certified(folder) if tls else None
    arguments = [
        *(("--tls-port", str(port), *_TLS) if tls else ()),
        *("--port", "0" if tls else str(port), "--bind", HOST, "--unixsocket", "s", "--save", "", "--appendonly", "no"),
        # Do not wait for replicas: not for others before the first response, nor for a hanging one at the end.
        *("--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0"),
        *(("--requirepass", password, "--masterauth", password) if password else ()),
        *(word for user in users for word in ("--user", *user.split())),
        *(("--replicaof", HOST, str(replica_of.port)) if replica_of else ()),
        *(word for option in options for word in option.split()),
    ]
    place: dict[str, Any] = {"unix_socket_path": str(folder / "s"), "password": password}
    with running_process(folder, binary, arguments, place) as pid:
        yield RedisServer(port, folder / "s", pid, password, ca)


@contextmanager
def running_process(folder: Path, binary: str, arguments: Sequence[str], place: dict[str, Any]) -> Iterator[int]:
    """Start a server in `folder`, wait until it answers at `place`, and return its pid."""
    path = shutil.which(binary)
    if path is None:
        pytest.fail("redis-server is needed: install Debian's package of that name (`make test` does, as root)")
    with (folder / LOG).open("wb") as output:
        process = subprocess.Popen([path, *arguments], cwd=folder, stdout=output, stderr=output, start_new_session=True)
    guard = guarded(process)
    try:
        _wait_until_it_answers(place, process, folder / LOG)
        yield process.pid
    finally:
        stop(process, guard)


_TLS = (
    "--tls-cert-file",
    "cert.pem",
    "--tls-key-file",
    "cert.pem",
    "--tls-ca-cert-file",
    "ca.pem",
    "--tls-auth-clients",
    "no",
)


def _certified(folder: Path) -> Path:
    """A certificate for the server in `folder`, and the authority that a client must trust."""
    # Imported here, because benchmarks start servers too, and need no certificates.
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert(HOST, "localhost").private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    return folder / "ca.pem"


def _listens(place: dict[str, Any]) -> bool:
    path = place.get("unix_socket_path")
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as client:
        return client.connect_ex(path or (place["host"], place["port"])) == 0


def _wait_until_it_answers(place: dict[str, Any], process: "subprocess.Popen[bytes]", log: Path) -> None:
    def answers() -> bool:
        # Where nothing listens, older versions of redis-py leave a socket open.
        if not _listens(place):
            return False
        with contextlib.suppress(redis.ConnectionError), redis.Redis(**place, protocol=2, retry=ONCE) as client:
            return bool(client.ping())
        return False

    wait_until_up(process, answers, log, START_SECONDS)


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The server that all tests share. See `redis_server`."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """The shared server, without keys and scripts."""
    with shared_redis.client() as client:
        client.flushall()
        client.script_flush()
    return shared_redis


@pytest.fixture
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartRedis]:
    """A function that starts another server, for this test only."""
    with ExitStack() as servers:
        yield lambda **how: servers.enter_context(running_redis(tmp_path_factory.mktemp("redis"), **how))


def run(client: "redis.Redis", call: Call) -> Any:
    """The server's response to `call`; it receives the script if it does not know it."""
    try:
        return client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    except redis.exceptions.NoScriptError:
        assert client.script_load(call.script.text) == call.script.sha
        return run(client, call)
