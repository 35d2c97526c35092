"""gunicorn's gevent worker replaces locks, queues and threads late: the backend decides all the same, nothing hangs."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.integration.gevent_apps import APP, KEY
from tests.integration.redis_patched import CLAIMS
from tests.processes import free_port, guarded, stop
from tests.redis_servers import HOST, RedisServer, StartRedis
from tests.selection import parameters

ROOT = Path(__file__).parents[2]
#: gevent warns of TLS that was imported before it patches.
QUIET = {**os.environ, "PYTHONWARNINGS": "ignore"}
START_SECONDS = 30.0
#: Only a server that hangs takes as long.
HANGS_SECONDS = 20.0
CLIENTS = 128
REQUESTS = 8
#: A busy machine may run Redis too late for a call or two, and all clients wait for a call.
MAX_LOCAL = 2 * CLIENTS
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {KEY}\r\n\r\n".encode()
#: By default gunicorn waits two seconds for the next request of a connection. A busy client may need longer.
GUNICORN = f"gunicorn {APP} --bind {HOST}:{{port}} --worker-class gevent --workers 1 --keep-alive {HANGS_SECONDS:g}"
COMMANDS = {
    "patched before the app is loaded": GUNICORN,
    "patched after the app is loaded": f"{GUNICORN} --preload",
    "patched after the library is imported": f"{GUNICORN} --config {{folder}}/imports.py",
    "patched before anything": f"gevent.monkey --module {GUNICORN}",
}
REPEATS = ("patched before the app is loaded", "patched after the app is loaded", "patched before anything")


@contextmanager
def serving(command: str, backend: str, folder: Path) -> Iterator[int]:
    """A server that answers: its port."""
    (folder / "imports.py").write_text(
        "import awx_ratelimit.backends.host.backend, awx_ratelimit.backends.redis.backend\n"
    )
    port, log = free_port(), folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.format(port=port, folder=folder).split()],
            stdout=output,
            stderr=output,
            env={**QUIET, "AWX_TEST_BACKEND": backend},
            start_new_session=True,
        )
    guard = guarded(process)
    try:
        until = time.monotonic() + START_SECONDS
        while not (state := _state(port)):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the server does not answer:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        assert state == "ok"
        yield port
    finally:
        stop(process, guard)


def _state(port: int) -> str:
    """How the server's limiter is; empty where there is no answer."""
    connection = HTTPConnection(HOST, port, timeout=HANGS_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


async def _client(port: int) -> list[bytes]:
    """Who decided each request of a client, which sends one after the other."""
    reader, writer = await asyncio.open_connection(HOST, port)
    decided = []
    try:
        for _ in range(REQUESTS):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            size = int(await reader.readline(), 16)
            decided.append(await reader.readexactly(size))
            await reader.readuntil(b"0\r\n\r\n")
    finally:
        # A connection that is left open becomes a ResourceWarning in a later test.
        writer.close()
        await writer.wait_closed()
    return decided


def decided_by(port: int) -> Counter[bytes]:
    """Who decided, for all clients at once. A server that hangs is a TimeoutError."""

    async def all_clients() -> list[list[bytes]]:
        async with asyncio.timeout(HANGS_SECONDS):
            return await asyncio.gather(*(_client(port) for _ in range(CLIENTS)))

    return Counter(who for decided in asyncio.run(all_clients()) for who in decided)


@pytest.mark.parametrize("command", parameters(COMMANDS, full=REPEATS))
def test_redis_decides_for_greenlets(command: str, redis_server: RedisServer, tmp_path: Path) -> None:
    """With 128 clients at once and an idle Redis there is no outage, whenever gevent patches."""
    with serving(command, redis_server.socket_url, tmp_path) as port:
        decided = decided_by(port)
        state = _state(port)

    assert state == "ok"
    assert decided[b"backend"] + decided[b"local"] == CLIENTS * REQUESTS
    assert decided[b"local"] <= MAX_LOCAL


@pytest.mark.parametrize("backend", ["memory://", "host://{folder}/limits"])
def test_memory_and_files_decide_for_greenlets(backend: str, tmp_path: Path) -> None:
    """They make every decision in an app that was loaded before gevent patched."""
    with serving(f"{GUNICORN} --preload", backend.format(folder=tmp_path), tmp_path) as port:
        decided = decided_by(port)
        state = _state(port)

    assert state == "ok"
    assert decided == {b"backend": CLIENTS * REQUESTS}


def test_greenlets_reach_a_server_with_tls(start_redis: StartRedis) -> None:
    """What TLS trusts was read before gevent replaced Python's TLS, and is read again."""
    server = start_redis(tls=True)
    command = [sys.executable, "-m", "tests.integration.redis_patched", f"{server.url}?ssl_ca_certs={server.ca}"]

    done = subprocess.run(command, cwd=ROOT, env=QUIET, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout == str(CLAIMS)
    assert done.stderr == ""
