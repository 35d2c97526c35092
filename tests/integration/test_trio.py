"""trio: memory and files decide under hypercorn's trio worker; what needs asyncio says so when the server starts."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.integration.trio_app import DAY, KEY
from tests.processes import free_port, guarded, stop
from tests.redis_servers import HOST, RedisServer
from tests.selection import parameters

from awx_ratelimit import STARTER, AsyncGate, AsyncLimiter, MemoryBackend, PlanTable, StaticKeys
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.starlette import RateLimitMiddleware
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend

START_SECONDS = 30.0
SAYS = "needs asyncio, and this app runs on trio: serve it on asyncio, or use a memory:// or host:// backend"


@contextmanager
def started(folder: Path, backend: str, keys: str = "static") -> Iterator[tuple["subprocess.Popen[bytes]", int, Path]]:
    """A server, which may have ended: its process, port and log."""
    port, log = free_port(), folder / "log"
    command = f"hypercorn tests.integration.trio_app:app --worker-class trio --workers 1 --bind {HOST}:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.split()],
            stdout=output,
            stderr=output,
            env={**os.environ, "AWX_TEST_BACKEND": backend, "AWX_TEST_KEYS": keys},
            start_new_session=True,
        )
    guard = guarded(process)
    try:
        yield process, port, log
    finally:
        stop(process, guard)


def _ask(port: int, method: str = "GET", body: bytes | None = None) -> int:
    connection = HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request(method, "/", body, {"X-API-Key": KEY})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@pytest.mark.parametrize("backend", parameters(["memory://", "host://{folder}/limits"], full=["memory://"]))
def test_memory_and_files_decide_on_trio(backend: str, tmp_path: Path) -> None:
    """The day's tokens are let in one after the other, for each slot comes back; the rest is refused, uploads too."""
    with started(tmp_path, backend.format(folder=tmp_path)) as (process, port, log):
        until = time.monotonic() + START_SECONDS
        statuses: list[int] = []
        while not statuses:
            try:
                statuses.append(_ask(port))
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
        statuses += [_ask(port) for _ in range(DAY)]
        upload = _ask(port, "POST", b"x" * 100_000)

    assert statuses == [200] * DAY + [429]
    assert upload == 429


@pytest.mark.parametrize(("keys", "part"), [("static", "AsyncGuardedBackend"), ("stored", "StoredKeys")])
def test_what_needs_asyncio_fails_the_start_with_one_sentence(
    keys: str, part: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Hypercorn ends, and its log names the part and the remedy."""
    backend = redis_server.socket_url if keys == "static" else "memory://"
    with started(tmp_path, backend, keys) as (process, _, log):
        process.wait(START_SECONDS)

    assert f"{part} {SAYS}" in log.read_text()


def exchanged(app: Any, *, times: int = 1) -> list[int]:
    """The statuses of requests to `app` on trio, without a lifespan."""
    statuses = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def requests() -> None:
        for _ in range(times):
            scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-api-key", KEY.encode())]}
            await app(scope, receive, send)

    trio.run(requests)
    return statuses


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing is let in")


def test_without_a_lifespan_each_request_is_a_503_and_the_reason_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that starts apps without a lifespan lets nothing in, and its log says why."""
    limiter = AsyncLimiter(AsyncGuardedBackend(MemoryBackend()))
    gate = AsyncGate(limiter, plans=PlanTable.default(), identify=StaticKeys({KEY: "starter"}))

    statuses = exchanged(RateLimitMiddleware(_nothing, gate=gate), times=3)

    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert statuses == [503, 503, 503]
    assert [SAYS in error for error in errors] == [True]


def test_pages_and_apis_of_keys_say_so_too(caplog: pytest.LogCaptureFixture) -> None:
    """An AsgiApp needs threads that come back to asyncio: on trio it answers 503, and logs why once."""
    statuses = exchanged(AsgiApp(lambda whole: whole), times=2)  # type: ignore[arg-type,return-value]  # not called

    assert statuses == [503, 503]
    assert [SAYS in record.getMessage() for record in caplog.records] == [True]


def test_a_limiter_that_is_called_on_trio_says_what_it_needs() -> None:
    """The error of a direct call names the part and the remedy."""
    limiter = AsyncLimiter(AsyncGuardedBackend(MemoryBackend()))

    async def claim() -> None:
        await limiter.acquire("s", STARTER)

    with pytest.raises(RuntimeError, match="AsyncGuardedBackend needs asyncio, and this app runs on trio"):
        trio.run(claim)
