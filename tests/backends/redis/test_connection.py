"""Connections survive exceptions in their callers, and are closed at any moment."""

import asyncio
import sys
from contextlib import suppress
from typing import Any

import pytest
from blockbuster import BlockBuster
from tests.machine import eventually
from tests.processes import free_port
from tests.redis_servers import StartRedis

from awx_ratelimit import BackendUnavailable
from awx_ratelimit.backends.redis.connection import AsyncConnection
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.routing import route_to


def test_an_exception_after_locking_frees_the_lock(
    nothing_blocks_the_event_loop: BlockBuster,
) -> None:
    """A signal handler may raise after any call; a profiler runs at the same points."""
    # It puts Python code around `Lock.acquire`.
    nothing_blocks_the_event_loop.deactivate()
    link = Connection(route_to(f"redis://127.0.0.1:{free_port()}", timeout_ms=50, prefix="awx").find_server(b""))

    def interrupt(frame: Any, event: str, arg: Any) -> None:
        if event == "c_return" and frame.f_code is Connection.run.__code__ and arg.__name__ == "acquire":
            raise InterruptedError

    sys.setprofile(interrupt)
    try:
        with suppress(InterruptedError, BackendUnavailable):
            link.run([])
    finally:
        sys.setprofile(None)
    assert not link._lock.locked()


def test_closed_while_it_is_opened(start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is closed before it has a socket does not stay open when it gets one."""
    server = start_redis()

    async def opened_and_closed() -> None:
        begun, goes_on = asyncio.Event(), asyncio.Event()
        opens = asyncio.get_running_loop().create_unix_connection

        async def late(*arguments: Any) -> Any:
            begun.set()
            await goes_on.wait()
            return await opens(*arguments)

        monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", late)
        connection = AsyncConnection(route_to(server.socket_url, timeout_ms=5_000, prefix="awx").find_server(b""))
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection.start([], outcome.set_exception)
        await begun.wait()
        await connection.close()
        goes_on.set()
        with pytest.raises(BackendUnavailable, match="closed while it was opened"):
            await outcome
        with server.client() as client:
            open_connections.append(eventually(lambda: len(client.client_list()), 1))

    open_connections: list[int] = []
    asyncio.run(opened_and_closed())

    assert open_connections == [1]
