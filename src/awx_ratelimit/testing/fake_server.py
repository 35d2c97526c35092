"""`fake_redis`: the Redis backend without a server, over fakeredis and its Lua.

Everything but the transport is the code of production: the encoding, the batching, the scripts, the maintenance thread.
Commands never leave the process.
"""

import asyncio
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, Literal, overload

from awx_ratelimit.backends.redis.backend import AsyncRedisBackend
from awx_ratelimit.backends.redis.backend_sync import RedisBackend
from awx_ratelimit.backends.redis.endpoint import Endpoint
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.task_transport import Done
from awx_ratelimit.backends.remote.routing import SingleServer
from awx_ratelimit.runtime.clock import Clock
from awx_ratelimit.runtime.extras import missing_package

# The backends come first: their ImportError names the extra that is missing.
try:
    import hiredis
    from fakeredis import FakeRedis, FakeServer
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError, ResponseError

    from awx_ratelimit.testing.lua_scripts import LuaScripts
except ModuleNotFoundError as error:
    raise missing_package("fake_redis needs", error, install="'fakeredis[lua]'") from error

#: Long enough for any debugger: nothing here waits for a network.
_TIMEOUT_S: Final = 60.0
_GREETING: Final = {b"server": b"redis", b"version": b"7.4.0", b"mode": b"standalone"}
# The first server and its first connection read files. The event loop of a test must not wait for that.
FakeRedis(server=FakeServer(), protocol=2).ping()


@overload
def fake_redis(
    *,
    clock: Clock | None = None,
    prefix: str = "awx",
    server: FakeServer | None = None,
    is_async: Literal[False] = False,
) -> RedisBackend: ...


@overload
def fake_redis(
    *, clock: Clock | None = None, prefix: str = "awx", server: FakeServer | None = None, is_async: Literal[True]
) -> AsyncRedisBackend: ...


def fake_redis(
    *, clock: Clock | None = None, prefix: str = "awx", server: FakeServer | None = None, is_async: bool = False
) -> Any:
    """A Redis backend for tests, on a fake server inside this process. Pass it wherever a backend is expected.

    It is a RedisBackend, for Limiter and Gate; with `is_async=True` it is an AsyncRedisBackend, for AsyncLimiter and
    AsyncGate. Both classes take `clock` and `prefix`. `server` is a ``fakeredis.FakeServer``; None creates one.
    Backends with the same server share their limits, and ``server.connected = False`` is an outage.

    Needs fakeredis and lupa: ``pip install 'fakeredis[lua]'``.
    """
    route = SingleServer(_FakeServer(_commands(server or FakeServer())))
    kind: Any = AsyncRedisBackend if is_async else RedisBackend
    return kind(route, prefix=prefix, clock=clock)


def _commands(server: FakeServer) -> "_Commands":
    """The commands of `server`: all its backends share them, because scripts run one at a time."""
    commands: _Commands = vars(server).setdefault("awx_ratelimit_commands", _Commands(server))
    return commands


class _Commands:
    """Runs commands on a fake server. It runs scripts itself: fakeredis would compile them again for each call."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._scripts = LuaScripts(self._run_plain)
        self._lock = threading.Lock()
        self._by_name: dict[bytes, Callable[..., Any]] = {
            b"HELLO": lambda *_: _GREETING,
            b"EVAL": self._scripts.eval,
            b"EVALSHA": self._scripts.evalsha,
        }

    def run(self, words: Any) -> Any:
        """The reply to a command; a ResponseError is returned. Raises ConnectionError while there is no connection."""
        self.check_connected()
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        with self._lock:
            try:
                return self._by_name.get(words[0].upper(), self._run_plain_named(words[0]))(*words[1:])
            except ResponseError as error:
                return error

    def check_connected(self) -> None:
        """Raise ConnectionError while the server is switched off."""
        if not self._server.connected:
            raise RedisConnectionError("the fake server is not connected")

    def _run_plain_named(self, name: bytes) -> Callable[..., Any]:
        return lambda *words: self._run_plain(name, *words)

    @cached_property
    def _connection(self) -> Any:
        return FakeRedis(server=self._server, protocol=2).connection_pool.make_connection()

    def _run_plain(self, *words: Any) -> Any:
        self._connection.send_command(*words)
        return self._connection.read_response()


class _FakeServer(Server):
    """Opens connections that never leave the process."""

    def __init__(self, commands: _Commands) -> None:
        super().__init__(Endpoint(_TIMEOUT_S, path="fakeredis"), timeout_s=_TIMEOUT_S, permissions="")
        self._commands = commands

    def open(self, deadline: Any) -> Any:
        del deadline
        self._commands.check_connected()
        return _Transport(self._commands)

    async def async_open(self, deadline: Any) -> Any:
        del deadline
        self._commands.check_connected()
        return _TaskTransport(self._commands)


class _Transport:
    """Takes the place of a ThreadTransport."""

    greeting = _GREETING

    def __init__(self, commands: _Commands) -> None:
        self._commands = commands

    def exchange(self, data: bytes, count: int) -> list[Any]:
        reader = hiredis.Reader()
        reader.feed(data)
        return [self._commands.run(reader.gets()) for _ in range(count)]

    def is_dead(self) -> bool:
        return False

    def drop(self) -> None:
        """There is no socket."""

    close = drop


class _TaskTransport(_Transport):
    """Takes the place of a TaskTransport."""

    def is_ready(self) -> bool:
        return True

    def send(self, data: bytes, count: int, done: Done) -> None:
        try:
            outcome: Any = super().exchange(data, count)
        except RedisError as error:
            outcome = error
        asyncio.get_running_loop().call_soon(done, outcome)

    async def exchange(self, data: bytes, count: int) -> list[Any]:  # type: ignore[override]
        return super().exchange(data, count)

    async def is_dead(self) -> bool:  # type: ignore[override]
        return super().is_dead()

    async def close(self) -> None:  # type: ignore[override]
        super().close()

    forget = _Transport.drop
