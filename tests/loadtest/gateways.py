"""The audited gateways, as one ASGI app with a path for each: honest ones, and a cheat for each verdict."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from awx_ratelimit import AsyncGate, AsyncLimiter, Caller, Concurrency, Decision, MemoryBackend, Plan, PlanTable, Rate
from awx_ratelimit.adapters.starlette import RateLimitMiddleware
from awx_ratelimit.http import error_responses

KEYS = tuple(f"awx_test_key_{number}" for number in range(4))
#: Waits of PLAN are shorter than a second; those of SLOW take several.
PLAN = Plan("audited", (Rate("rate", 10, 2_000), Rate("day", 10_000, 86_400_000)), Concurrency(3))
SLOW = Plan("slow", (Rate("rate", 3, 9_000),))
BARE = Plan("bare", (Rate("rate", 10, 2_000),))
_MONTH = Rate("month", 10_000, period="month", anchor_day=15)
#: Each key may make ten requests at once, and all keys of an account together fifteen.
TEAM = Plan(
    "team",
    (Rate("rate", 10, 4_000),),
    Concurrency(3),
    Plan(
        "team.account", (Rate("rate", 15, 4_000), Rate("month", 10_000, period="month", anchor_day=15)), Concurrency(5)
    ),
)
PLANS = PlanTable((PLAN, SLOW, BARE, TEAM))
_CHUNK_S, _CHUNKS = 0.1, 12


class TwoCounters(MemoryBackend):
    """One counter for each of two processes, which alternate."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = count()

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        return super().acquire(f"{next(self._turns) % 2} {subject}", plan, cost)


class FixedWindow(MemoryBackend):
    """A window by the clock."""

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        return super().acquire(f"{time.time_ns() // 2_000_000_000} {subject}", plan, cost)


class WindowOfFirstUse(MemoryBackend):
    """A window that begins with the first request."""

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[str, float] = {}

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        now_s = time.time()
        if now_s - self._began.get(subject, 0.0) >= 2:
            self._began[subject] = now_s
        return super().acquire(f"{self._began[subject]} {subject}", plan, cost)


class Leaking(MemoryBackend):
    """Keeps the slot of a client that disconnected midway."""

    def release(self, decision: Decision) -> None:
        held_ms = time.time() * 1_000 - decision.decided_at_ms
        if not 200 < held_ms < _CHUNKS * _CHUNK_S * 1_000:
            super().release(decision)


class Stingy(MemoryBackend):
    """Allows seven requests instead of ten."""

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        less = Rate("rate", 7, 2_000)
        return super().acquire(subject, Plan(plan.name, (less, *plan.rates[1:]), plan.concurrency), cost)


class Shared(MemoryBackend):
    """One budget for all keys."""

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        return super().acquire("all", plan, cost)


class Unlimited(MemoryBackend):
    """Ignores slots."""

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        return super().acquire(subject, Plan(plan.name, plan.rates), cost)


class Charging:
    """A bucket that charges refused requests, with honest waits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._owed: dict[bytes, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key, now_s = dict(scope["headers"])[b"x-api-key"], time.monotonic()
        debt, at_s = self._owed[key]
        debt = max(0.0, debt - (now_s - at_s) * 5) + 1
        self._owed[key] = debt, now_s
        if debt <= 10:
            await self._app(scope, receive, send)
            return
        reply = error_responses.retry_later(round((debt + 1 - 10) * 200), [])
        await Response(reply.body, reply.status, dict(_texts(reply.headers)))(scope, receive, send)


class AlteredResponses:
    """Alters refusals, or delays all responses."""

    def __init__(self, app: ASGIApp, alter: "Alter") -> None:
        self._app, self._alter, self._refused_s = app, alter, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def altered(message: Message) -> None:
            nonlocal refused
            if message.get("status") == 429:
                refused = True
                self._refused_s = time.monotonic()
            await send(self._alter(message) if refused else message)

        # Longer than the pause between two requests of a flood, also on a busy machine.
        if self._alter is slow_beside_refusals and time.monotonic() - self._refused_s < 1:
            await asyncio.sleep(0.25)
        await self._app(scope, receive, altered)


Alter = Callable[[Message], Message]


def always_one_second(message: Message) -> Message:
    """A wait of one second, always."""
    return _with_wait(message, lambda _: 1)


def five_seconds_longer(message: Message) -> Message:
    """A wait that is five seconds too long."""
    return _with_wait(message, lambda wait_s: wait_s + 5)


def other_wait_in_body(message: Message) -> Message:
    """A body with another wait than the header."""
    return _with_wait(message, lambda wait_s: wait_s + ("body" in message))


def slow_beside_refusals(message: Message) -> Message:
    """No change; AlteredResponses delays responses that follow a refusal."""
    return message


def _with_wait(message: Message, change: Callable[[int], int]) -> Message:
    if "headers" in message:
        lines = [
            (name, b"%d" % change(int(value)) if name == b"retry-after" else value)
            for name, value in message["headers"]
            if name != b"content-length"
        ]
        return {**message, "headers": lines}
    wait_s = int("".join(filter(str.isdigit, message["body"].decode())))
    reply = error_responses.retry_later(change(wait_s) * 1_000, [])
    return {**message, "body": reply.body}


def _texts(lines: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in lines]


async def _ok(_: Request) -> Response:
    return JSONResponse({"fine": True})


async def _stream(_: Request) -> Response:
    async def chunks() -> Any:
        for _ in range(_CHUNKS):
            yield b"chunk\n"
            await asyncio.sleep(_CHUNK_S)

    return StreamingResponse(chunks())


async def _endless(_: Request) -> Response:
    async def chunks() -> Any:
        while True:
            yield b"chunk\n"
            await asyncio.sleep(_CHUNK_S)

    return StreamingResponse(chunks())


async def _feed(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.receive()
    except (WebSocketDisconnect, RuntimeError):
        pass


async def _hang(_: Request) -> Response:
    await asyncio.sleep(60)
    return Response()


ROUTES: list[BaseRoute] = [
    Route("/", _ok),
    Route("/stream", _stream),
    Route("/endless", _endless),
    WebSocketRoute("/feed", _feed),
    Route("/hang", _hang),
]


def _gated(backend: MemoryBackend, plan: Plan = PLAN, account: str | None = None) -> ASGIApp:
    """A gateway whose keys have `plan` and belong to `account`; None: each to its own."""

    def identify(request: Any) -> Caller | None:
        key = request.header("x-api-key")
        return Caller(key, plan, account) if key and key in KEYS else None

    return RateLimitMiddleware(
        Starlette(routes=ROUTES), gate=AsyncGate(AsyncLimiter(backend), plans=PLANS, identify=identify)
    )


def _team(*rates: Rate, slots: int | None = 5) -> ASGIApp:
    """A gateway with one account, whose shared limits are these instead of those of TEAM."""
    shared = Plan("team.account", rates, Concurrency(slots) if slots else None)
    return _gated(MemoryBackend(), Plan("team", TEAM.rates, TEAM.concurrency, shared), "acme")


#: How tests cut a run.
CUTS = ("time", "signal", "two-signals", "killed-driver", "killed-worker")
_HONEST_NAMES = ("honest", "honest-over-workers", *(f"honest-{name}" for name in (*range(1, 10), *CUTS)))
GATEWAYS: dict[str, ASGIApp] = {
    **{name: _gated(MemoryBackend()) for name in _HONEST_NAMES},
    "honest-slow": _gated(MemoryBackend(), SLOW),
    "honest-bare": _gated(MemoryBackend(), BARE),
    "fixed-window": _gated(FixedWindow()),
    "window-of-first-use": _gated(WindowOfFirstUse()),
    "two-counters": _gated(TwoCounters()),
    "stingy": _gated(Stingy()),
    "leaking": _gated(Leaking()),
    "unlimited-slots": _gated(Unlimited()),
    "waits-too-short": AlteredResponses(_gated(MemoryBackend(), SLOW), always_one_second),
    "waits-too-long": AlteredResponses(_gated(MemoryBackend()), five_seconds_longer),
    "charging": Charging(Starlette(routes=ROUTES)),
    "broken-body": AlteredResponses(_gated(MemoryBackend()), other_wait_in_body),
    "shared": _gated(Shared()),
    "slow-neighbour": AlteredResponses(_gated(MemoryBackend()), slow_beside_refusals),
    "honest-account": _gated(MemoryBackend(), TEAM, "acme"),
    "honest-accounts": _gated(MemoryBackend(), TEAM),
    "account-limit-per-key": _gated(MemoryBackend(), TEAM),
    "account-slots-per-key": _team(Rate("rate", 15, 4_000), _MONTH, slots=None),
    "strict-account": _team(Rate("rate", 11, 4_000), _MONTH),
    "month-of-30-days": _team(Rate("rate", 15, 4_000), Rate("month", 10_000, 30 * 86_400_000, refill="calendar")),
    "hanging": Starlette(routes=[Route("/", _hang)]),
}
app = Starlette(routes=[Route("/", _ok), *(Mount(f"/{name}", gateway) for name, gateway in GATEWAYS.items())])
