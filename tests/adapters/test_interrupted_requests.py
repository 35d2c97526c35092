"""Signal handlers that raise while a request is decided, answered and released, by ASGI and WSGI."""

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.interruptions import every_interruption

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    Decision,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    Request,
    Rule,
    StaticKeys,
)
from awx_ratelimit.adapters import native
from awx_ratelimit.adapters.asgi import route_limits
from awx_ratelimit.adapters.asgi.middleware import RateLimitMiddleware
from awx_ratelimit.adapters.wsgi import route_limits as wsgi_route_limits
from awx_ratelimit.adapters.wsgi.middleware import RateLimitMiddleware as WsgiMiddleware
from awx_ratelimit.http.route_limit import RouteLimit
from awx_ratelimit.observability.limit_metrics import LimitMetrics
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.testing import ManualClock

KEY = "awx_interrupted_key"
PLAN = Plan.of("interrupted", per_minute=10**6, per_day=10**6, concurrent=100)
SHARED = Plan("interrupted", PLAN.rates, PLAN.concurrency, account=Plan.of("account", per_minute=10**6, concurrent=100))
#: With a limit in shadow that is always exceeded.
TRIED = Plan(
    "interrupted", (Rate("minute", 10**6, 60_000), Rate("tried", 1, 86_400_000, shadow=True)), PLAN.concurrency
)
ROUTE = RouteLimit(Plan.of("route", per_minute=10**6, concurrent=100), per="caller")


class _LookedUp(StaticKeys):
    """Its keys may not be found in memory, so `admit` decides every request."""

    def __call__(self, request: Request) -> Caller | None:
        return super().__call__(request)


class _Waiting:
    """An AsyncBackend over memory, which a gate has to await."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.release = backend.release
        for verb in ("acquire", "acquire_joint", "peek", "peek_joint", "refund", "settle", "reset", "health", "close"):
            setattr(self, verb, _awaitable(getattr(backend, verb)))


def _awaitable(act: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*arguments: Any) -> Any:
        return act(*arguments)

    return call


class _Observer(Observer):
    """Follows decisions and releases."""

    def __call__(self, decision: Decision) -> None:
        pass

    def released(self, decision: Decision) -> None:
        pass


class _Unread:
    """A histogram that nobody reads."""

    def observe(self, amount: float) -> None:
        pass


#: Gates that decide in different ways: their plan, their identifier, their listeners and their rules.
GATES: dict[str, tuple[Plan, type[StaticKeys], list[Any], list[Rule]]] = {
    "plain": (PLAN, StaticKeys, [], []),
    "looked up": (PLAN, _LookedUp, [], []),
    "listener": (PLAN, StaticKeys, [_Observer()], []),
    "metrics": (PLAN, StaticKeys, [LimitMetrics(lambda *_: _Unread()), _Observer()], []),
    "shadow": (TRIED, StaticKeys, [], []),
    "account": (SHARED, StaticKeys, [], []),
    "account, looked up": (SHARED, _LookedUp, [_Observer()], []),
    "settled": (PLAN, StaticKeys, [], [Rule("/**", charge_on={404})]),
}


def _gate(kind: str, backend: Any, *, is_async: bool) -> Any:
    plan, identify, listeners, rules = GATES[kind]
    keys = identify({KEY: Caller("key", "interrupted", account="account")})
    options: dict[str, Any] = {"plans": PlanTable([plan], default="interrupted"), "identify": keys, "rules": rules}
    if is_async:
        return AsyncGate(AsyncLimiter(backend, listeners=listeners), **options)
    return Gate(Limiter(backend, listeners=listeners), **options)


def _asgi(gate: AsyncGate, *, has_route_limit: bool, fails: bool) -> Callable[[], None]:
    async def app(scope: Any, _: Any, send: Any) -> None:
        if has_route_limit:
            await route_limits.admit(ROUTE, "route", scope, None)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        if fails:
            raise LookupError
        await send({"type": "http.response.body", "body": b"hello"})

    async def send(_: Any) -> None:
        pass

    limited = RateLimitMiddleware(app, gate=gate)

    def request() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-api-key", KEY.encode())]}
        with suppress(LookupError, StopIteration):
            limited(scope, None, send).send(None)  # type: ignore[arg-type]

    return request


def _wsgi(gate: Gate, *, has_route_limit: bool, fails: bool) -> Callable[[], None]:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        if has_route_limit:
            wsgi_route_limits.admit(ROUTE, "route", environ, None)
        start_response("200 OK", [("Content-Length", "5")])
        if fails:
            raise LookupError
        return [b"hello"]

    limited = WsgiMiddleware(app, gate=gate)

    def request() -> None:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_API_KEY": KEY}
        with suppress(LookupError):
            body: Any = limited(environ, lambda *_: None)
            try:
                list(body)
            finally:
                body.close()

    return request


def _worlds() -> Iterator[Any]:
    """Whether it is ASGI, the kind of gate, and what the app does."""
    for protocol in ("ASGI", "WSGI"):
        for kind in GATES:
            yield pytest.param(protocol, kind, {"has_route_limit": False, "fails": False}, id=f"{protocol}, {kind}")
        for what in ("has_route_limit", "fails"):
            does = {"has_route_limit": False, "fails": False, what: True}
            yield pytest.param(protocol, "plain", does, id=f"{protocol}, {what}")
    for kind in ("plain", "looked up", "account"):
        yield pytest.param("awaited", kind, {"has_route_limit": False, "fails": False}, id=f"awaited, {kind}")


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # an exception may come before its first step
@pytest.mark.parametrize(("protocol", "kind", "does"), [*_worlds()])
def test_interrupted_request(protocol: str, kind: str, does: dict[str, bool]) -> None:
    """Wherever a signal handler raises in a request, no slot stays taken."""
    backend = MemoryBackend(clock=ManualClock(1_000))
    if protocol == "WSGI":
        request = _wsgi(_gate(kind, backend, is_async=False), **does)
    else:
        gate = _gate(kind, _Waiting(backend) if protocol == "awaited" else backend, is_async=True)
        request = _asgi(gate, **does)
    for _ in range(3):
        # So that the match, the plan of the caller and the last header are in memory.
        request()
    lost = []
    for interruption in every_interruption(at_instructions=True):
        before = backend.health()["leases"]
        with interruption.raising():
            request()
        if backend.health()["leases"] != before:
            lost.append(interruption.number)
    # Coroutines that an exception has left in a cycle warn here, and not in a later test.
    gc.collect()

    assert lost == []
    assert backend.health()["leases"] == 0


def test_abandoned_exchange() -> None:
    """If a request of a framework with its own interface is dropped before its end, its slot is released."""
    backend = MemoryBackend()
    admitting = native.enter(
        _gate("plain", backend, is_async=True),
        Request("GET", "/", None, lambda name: [KEY.encode()] if name == b"x-api-key" else []),
        {},
    )
    with pytest.raises(StopIteration) as entered:
        admitting.send(None)
    assert backend.health()["leases"] == 1
    del entered

    assert backend.health()["leases"] == 0
