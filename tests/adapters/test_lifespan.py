"""At the end of an app's lifespan pending releases are sent, before the server learns of the end."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import awx_ratelimit
from awx_ratelimit import (
    AsyncGate,
    AsyncGuardedBackend,
    AsyncLimiter,
    Caller,
    Concurrency,
    Gate,
    HostBackend,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    Request,
    StaticKeys,
    open_async_backend,
)
from awx_ratelimit.adapters.asgi import middleware as asgi
from awx_ratelimit.adapters.starlette import RateLimitMiddleware
from awx_ratelimit.errors import KeyStoreUnavailable
from awx_ratelimit.http.identity.stored_keys import StoredKeys
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.runtime.reopening import Reopenable

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
STARTED, ENDED = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


class Sending(MemoryBackend):
    """A backend with something to send."""

    def __init__(self, seen: list[Any]) -> None:
        super().__init__()
        self._seen = seen

    def flush(self) -> None:
        """Send it."""
        self._seen.append("flushed")


def lifespan(app: Callable[..., Any]) -> list[Any]:
    """What a server and a backend see while an app starts and ends behind two middlewares."""
    seen: list[Any] = []
    messages = iter([STARTUP, SHUTDOWN])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        seen.append(message)

    for _ in range(2):
        gate = AsyncGate(AsyncLimiter(Sending(seen)), plans=PlanTable.default(), identify=StaticKeys({}))
        app = RateLimitMiddleware(app, gate=gate)
    asyncio.run(app({"type": "lifespan"}, receive, send))
    return seen


async def listens(scope: Any, receive: Any, send: Any) -> None:
    """An app with a lifespan."""
    assert await receive() == STARTUP
    await send(STARTED)
    assert await receive() == SHUTDOWN
    await send(ENDED)


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    """An app that knows no lifespan, as Django's."""
    raise ValueError("only http")


async def ignores(scope: Any, receive: Any, send: Any) -> None:
    """An app that does nothing for a lifespan."""


async def fails(scope: Any, receive: Any, send: Any) -> None:
    """An app that cannot start."""
    await receive()
    raise OSError("no database")


async def fails_in_the_end(scope: Any, receive: Any, send: Any) -> None:
    """An app that says that its end has failed."""
    await receive()
    await send(STARTED)
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "no"})


@pytest.mark.parametrize("app", [listens, refuses, ignores])
def test_flush_at_shutdown(app: Callable[..., Any]) -> None:
    """The gates flush before the shutdown completes, also for apps that do not support lifespans."""
    assert lifespan(app) == [STARTED, "flushed", "flushed", ENDED]


def test_flush_after_failed_shutdown() -> None:
    """The gates flush if the app's shutdown fails, and the server gets the app's message."""
    seen = lifespan(fails_in_the_end)

    assert seen[:3] == [STARTED, "flushed", "flushed"]
    assert seen[3]["type"] == "lifespan.shutdown.failed"


def test_failed_startup() -> None:
    """An error of the app at startup reaches the server."""
    with pytest.raises(OSError, match="no database"):
        lifespan(fails)


class Verifier:
    """Counts writings, which fail."""

    prefix = "awx_"
    writings = 0

    def verify(self, _: bytes) -> None:
        """Knows nobody."""

    verify_cached = find = look_up = verify

    def write_uses(self) -> None:
        """Fail."""
        self.writings += 1
        raise KeyStoreUnavailable("it is down")


def test_flush_records_key_uses(caplog: pytest.LogCaptureFixture) -> None:
    """`flush` records when keys were last used; an unavailable store is logged, not raised."""
    verifier: Any = Verifier()
    keys, plans = StoredKeys(verifier), PlanTable.default()

    Gate(Limiter(MemoryBackend()), plans=plans, identify=keys).flush()
    asyncio.run(AsyncGate(AsyncLimiter(MemoryBackend()), plans=plans, identify=keys).flush())

    assert verifier.writings == 2
    assert caplog.text.count("it is down") == 2


class Closed(Observer, Reopenable):
    """An observer that the end of a lifespan has closed."""

    is_open = False

    def __call__(self, _: Any) -> None:
        """Do nothing."""

    def reopen(self) -> None:
        """Note it."""
        self.is_open = True


@pytest.mark.parametrize("middleware", [RateLimitMiddleware, asgi.RateLimitMiddleware])
def test_next_lifespan(middleware: Any, tmp_path: Path) -> None:
    """The next lifespan opens what the last one has closed: the verifier of keys, observers and the limiter."""
    store, closed = KeyStore.open(tmp_path / "keys.db"), Closed()
    keys, verifier = KeyService(store), KeyVerifier(store)
    keys.accounts.ensure("acme", plan="starter")
    sent = {"X-API-Key": keys.create("acme", "of-a-test").secret.reveal()}
    limiter = AsyncLimiter(MemoryBackend(), listeners=[closed])
    gate = AsyncGate(limiter, plans=PlanTable.default(), identify=StoredKeys(verifier))

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await limiter.aclose()
        await asyncio.to_thread(verifier.close)
        await asyncio.to_thread(store.close)

    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))], lifespan=lifespan)
    app.add_middleware(middleware, gate=gate)
    statuses = []

    for _ in range(2):
        with TestClient(app) as client:
            statuses.append(client.get("/", headers=sent).status_code)
            assert closed.is_open
            assert not limiter.is_closed

    assert statuses == [200, 200]


@pytest.fixture(params=["memory", "host", "guarded host", "redis", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A backend of each kind, as an app makes it."""
    match request.param:
        case "memory":
            return MemoryBackend()
        case "host":
            return HostBackend(tmp_path / "limits")
        case "guarded host":
            return AsyncGuardedBackend(HostBackend(tmp_path / "limits"))
        case "redis":
            return open_async_backend(request.getfixturevalue("redis_server").url)
    return open_async_backend(request.getfixturevalue("postgres").emptied_limits())


def test_backend_in_the_next_lifespan(backend: Any) -> None:
    """An app that closes its limiter at the end of each lifespan is limited in the next one, by what is left."""
    # Nothing refills while the test runs.
    plan = Plan("p", (Rate.parse("100/30 days", name="days"),), Concurrency(5))
    gate = AsyncGate(AsyncLimiter(backend), plans=PlanTable([plan], default="p"), identify=StaticKeys({"alice": "p"}))

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await gate.parts.limiter.aclose()

    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))], lifespan=lifespan)
    app.add_middleware(RateLimitMiddleware, gate=gate)
    answers = []

    for _ in range(3):
        with TestClient(app) as client:
            answers.append(client.get("/", headers={"X-API-Key": "alice"}))

    assert [answer.status_code for answer in answers] == [200] * 3
    left = [re.search(r'"days";r=(\d+);.*"concurrent";r=(\d)', answer.headers["ratelimit"]) for answer in answers]
    assert [found and found.groups() for found in left] == [("99", "4"), ("98", "4"), ("97", "4")]


class FileReader(Observer):
    """An identifier and an observer of an app, whose `reopen` means something else."""

    def __call__(self, _: Any) -> Any:
        return Caller("a")

    def reopen(self, path: str) -> None:
        """Read another file."""
        raise AssertionError(path)


class Flag(FileReader):
    """The same with an attribute."""

    reopen = False  # type: ignore[assignment]


class Coroutine(FileReader):
    """The same with a coroutine."""

    async def reopen(self) -> None:  # type: ignore[override]
        """Read the file again."""
        raise AssertionError


@pytest.mark.parametrize("middleware", [RateLimitMiddleware, asgi.RateLimitMiddleware])
@pytest.mark.parametrize("part", [FileReader(), Flag(), Coroutine()])
def test_reopen_of_an_app(middleware: Any, part: FileReader) -> None:
    """A `reopen` of the app's own identifier or observer is not called."""
    limiter = AsyncLimiter(MemoryBackend(), listeners=[part])
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))])
    app.add_middleware(middleware, gate=AsyncGate(limiter, plans=PlanTable.default(), identify=part))

    with TestClient(app) as client:
        assert client.get("/").status_code == 200


def test_own_verifier() -> None:
    """A verifier of the app's own kind in StoredKeys is not reopened either."""

    class Verifier(FileReader):
        prefix = "awx_"
        verify = find = look_up = verify_cached = was_known = write_uses = FileReader.__call__

    StoredKeys(Verifier()).reopen()  # type: ignore[arg-type]


def test_mounted_middleware(tmp_path: Path) -> None:
    """A mounted middleware gets no lifespan, so that of the app reopens the verifier, as docs/testing.md says."""
    store = KeyStore.open(tmp_path / "keys.db")
    keys, verifier = KeyService(store), KeyVerifier(store)
    keys.accounts.ensure("acme", plan="starter")
    sent = {"X-API-Key": keys.create("acme", "of-a-test").secret.reveal()}

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        verifier.reopen()
        yield
        await asyncio.to_thread(verifier.close)
        await asyncio.to_thread(store.close)

    inner = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))])
    mounted = Mount("/api", awx_ratelimit.RateLimitMiddleware(inner, keys=StoredKeys(verifier)))
    app = Starlette(routes=[mounted], lifespan=lifespan)
    statuses = []
    for _ in range(2):
        with TestClient(app) as client:
            statuses.append(client.get("/api/", headers=sent).status_code)

    assert statuses == [200, 200]


def test_flush_snippet() -> None:
    """The handler in docs/processes.md flushes before it returns."""
    page = (Path(__file__).parents[2] / "docs" / "processes.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    seen: list[Any] = []
    gate = Gate(Limiter(Sending(seen)), plans=PlanTable.default(), identify=StaticKeys({}))
    names: dict[str, Any] = {
        "gate": gate,
        "serve": lambda *_: gate.admit(Request("GET", "/", "192.0.2.1", lambda _: [])),
    }
    exec(block, names)

    assert names["handler"]({}, None).reply.status == 401
    assert seen == ["flushed"]
