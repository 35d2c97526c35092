"""Frozen limits, for the tests of apps: on every backend, for threads and for event loops."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakeredis import FakeServer
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask
from tests.redis_servers import RedisServer

from awx_ratelimit import (
    AsyncGate,
    AsyncGuardedBackend,
    AsyncLimiter,
    Budget,
    Concurrency,
    Gate,
    GuardedBackend,
    HostBackend,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    RateLimitMiddleware,
    StaticKeys,
    open_async_backend,
    open_backend,
)
from awx_ratelimit.adapters.flask import RateLimit as FlaskRateLimit
from awx_ratelimit.testing import ManualClock, fake_redis, frozen

PLAN = Plan("p", (Rate.parse("2/minute"),), Concurrency(1))
#: An account with the same rate.
ACCOUNT = Budget("acme", Plan("a", PLAN.rates), "account")
Make = Callable[[], Any]


class Threads:
    """A limiter for threads."""

    def __init__(self, backend: Any) -> None:
        self.limited: Any = Limiter(backend)

    def spend(self, also: Sequence[Budget] = ()) -> list[bool]:
        """Whether each of four calls was allowed. The slots come back."""
        decisions = []
        for _ in range(4):
            decisions.append(self.limited.acquire("s", PLAN, also=also))
            self.limited.release(decisions[-1])
        return [decision.allowed for decision in decisions]

    def close(self) -> None:
        self.limited.close()


class Loop(Threads):
    """A limiter for an event loop."""

    def __init__(self, backend: Any) -> None:
        self.limited = AsyncLimiter(backend)
        self.runner = asyncio.Runner()

    def spend(self, also: Sequence[Budget] = ()) -> list[bool]:
        return self.runner.run(self._spend(also))

    async def _spend(self, also: Sequence[Budget]) -> list[bool]:
        decisions = []
        for _ in range(4):
            decisions.append(await self.limited.acquire("s", PLAN, also=also))
            await self.limited.release(decisions[-1])
        return [decision.allowed for decision in decisions]

    def close(self) -> None:
        self.runner.run(self.limited.aclose())
        self.runner.close()


KINDS: dict[str, Callable[[Path, str], Threads]] = {
    "memory": lambda _, __: Threads(MemoryBackend()),
    "async-memory": lambda _, __: Loop(MemoryBackend()),
    "host": lambda folder, _: Threads(HostBackend(folder / "limits")),
    "async-host": lambda folder, _: Loop(HostBackend(folder / "limits")),
    "redis": lambda _, url: Threads(open_backend(f"{url}?budget_ms=5000")),
    "async-redis": lambda _, url: Loop(open_async_backend(f"{url}?budget_ms=5000")),
    "fake-redis": lambda _, __: Threads(fake_redis()),
    "async-fake-redis": lambda _, __: Loop(fake_redis(is_async=True)),
    "guarded": lambda _, __: Threads(GuardedBackend(fake_redis())),
    "async-guarded": lambda _, __: Loop(AsyncGuardedBackend(MemoryBackend())),
}


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Threads]:
    url = ""
    if request.param.endswith("redis") and "fake" not in request.param:
        server: RedisServer = request.getfixturevalue("redis_server")
        url = server.url
    app = KINDS[request.param](tmp_path, url)
    yield app
    app.close()


@pytest.mark.parametrize("also", [(), (ACCOUNT,)], ids=["a key", "a key and its account"])
def test_frozen_block(app: Threads, also: Sequence[Budget]) -> None:
    """In a block, limits start unused and time moves only by hand; after it, the limits of before are back."""
    before = app.spend(also)
    with frozen(app.limited) as clock:
        start = app.spend(also)
        clock.advance(29_999)
        early = app.spend(also)
        clock.advance(1)
        on_time = app.spend(also)
    with frozen(app.limited):
        again = app.spend(also)
    after = app.spend(also)

    assert before[:2] == start[:2] == again[:2] == [True, True]
    assert start[2:] == again[2:] == [False, False]
    assert early == [False] * 4
    assert on_time == [True, False, False, False]
    # The limits of the memory backend start again, because it is cleared.
    assert after[2:] == [False, False]


def test_redis_limits_are_not_touched(redis_server: RedisServer) -> None:
    """A block deletes and changes no key of the app."""
    limiter = Limiter(open_backend(redis_server.url))
    limiter.acquire("s", PLAN)
    with redis_server.client() as client:
        keys = {key: client.dump(key) for key in client.scan_iter()}
        with frozen(limiter):
            limiter.acquire("s", PLAN)
        kept = {key: client.dump(key) for key in keys}
    limiter.close()

    assert len(keys) == 1
    assert kept == keys


def test_lease_over_a_block() -> None:
    """A slot that was taken before a block is still held after it, and comes back."""
    limiter = Limiter(fake_redis())
    held = limiter.acquire("s", PLAN)
    with frozen(limiter):
        inside = limiter.acquire("s", PLAN)
    refused = limiter.acquire("s", PLAN)
    limiter.release(held)
    after = limiter.acquire("s", PLAN)
    limiter.close()

    assert inside.allowed is True
    assert refused.allowed is False
    assert after.allowed is True


def test_outage_before_a_block(caplog: pytest.LogCaptureFixture) -> None:
    """A guard starts each block with a closed circuit breaker, and without the outage of before in its log."""
    server = FakeServer()
    limiter = Limiter(GuardedBackend(fake_redis(server=server), on_outage="open"))
    server.connected = False
    during = [limiter.acquire("s", PLAN).allowed for _ in range(8)]
    server.connected = True
    with frozen(limiter):
        inside = [limiter.acquire("s", PLAN).allowed for _ in range(2)]
        limiter.health()
    limiter.close()

    assert not any("answers again" in message for message in caplog.messages)
    assert during == [True] * 8
    assert inside == [True, False]


@pytest.mark.parametrize("kind", ["gate", "async gate", "middleware", "backend"])
def test_frozen_things(kind: str) -> None:
    """A gate, a middleware and a backend can be frozen too."""
    backend = MemoryBackend()
    arguments: Any = {"plans": PlanTable.default(), "identify": StaticKeys({})}
    things: dict[str, Callable[[], Any]] = {
        "gate": lambda: Gate(Limiter(backend), **arguments),
        "async gate": lambda: AsyncGate(AsyncLimiter(backend), **arguments),
        "middleware": lambda: RateLimitMiddleware(FastAPI(), keys={}, backend=backend),
        "backend": lambda: backend,
    }
    with frozen(things[kind]()) as clock:
        inside = backend.acquire("s", PLAN, 1)

    assert inside.decided_at_ms == clock.now_ms()
    assert backend.acquire("s", PLAN, 1).decided_at_ms != clock.now_ms()


def test_app_with_the_middleware() -> None:
    """Of an app that makes its own middleware, the limits of that middleware are frozen."""
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, anonymous=Plan.of("visitor", per_minute=1))
    flask_app = Flask(__name__)
    FlaskRateLimit(flask_app, anonymous=Plan.of("visitor", per_minute=1))
    for limited, client in ((app, TestClient(app)), (flask_app, flask_app.test_client())):
        with frozen(limited) as clock:
            statuses = [client.get("/").status_code for _ in range(2)]
            clock.advance(60_000)
            with_room = client.get("/").status_code

        assert (statuses, with_room) == ([404, 429], 404)


def test_app_without_the_middleware() -> None:
    """`frozen` says of an app without the middleware what to give instead."""
    with pytest.raises(
        TypeError, match=r"got a FastAPI; to freeze any app, build its gate yourself, and write frozen\(gate\)"
    ):
        frozen(FastAPI()).__enter__()


def test_clock_of_a_memory_backend() -> None:
    """After a block, a memory backend has the clock that it was made with."""
    backend = MemoryBackend(clock=ManualClock(5))
    with frozen(backend):
        pass

    assert backend.acquire("s", PLAN, 1).decided_at_ms == 5


def test_unknown_backend() -> None:
    """`frozen` raises TypeError for a backend that it does not know."""
    gate: Any = AsyncGate.__new__(AsyncGate)
    gate._limiter = type("L", (), {"backend": object()})()
    with pytest.raises(TypeError, match="over a backend of this library, got an object"), frozen(gate):
        pass
