"""The ASGI middleware beyond the adapter contract, driven message by message."""

import asyncio
import functools
import gc
import warnings
import weakref
from typing import Any

import pytest
from asgiref.wsgi import WsgiToAsgi

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rule,
    StaticKeys,
)
from awx_ratelimit.adapters.starlette import RateLimitMiddleware

PLAN = Plan.of("one", per_minute=50, concurrent=1)
KEY = [(b"x-api-key", b"awx_example")]
SUBJECT = StaticKeys({"awx_example": "one"})._callers.popitem()[1].subject


class Wire:
    """One exchange: what the app is sent and what it sends, and how many slots are free at each message."""

    def __init__(self, limiter: AsyncLimiter, kind: str = "http", **scope: Any) -> None:
        self.limiter = limiter
        self.sent: list[Any] = []
        self.free: list[int] = []
        self.received = 0
        self.scope: Any = {"type": kind, "path": "/ok", "headers": KEY, "method": "GET", "client": None} | scope

    async def receive(self) -> Any:
        self.received += 1
        return {"type": "websocket.disconnect" if self.scope["type"] == "websocket" else "http.request"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self.free.append(await free_slots(self.limiter))


async def free_slots(limiter: AsyncLimiter) -> int:
    return (await limiter.peek(SUBJECT, PLAN)).usages[-1].remaining


@pytest.fixture
def limiter() -> AsyncLimiter:
    return AsyncLimiter(MemoryBackend())


@pytest.fixture
def gate(limiter: AsyncLimiter) -> AsyncGate:
    return AsyncGate(
        limiter,
        plans=PlanTable([PLAN]),
        identify=StaticKeys({"awx_example": "one"}),
        rules=[Rule("/free", exempt=True)],
    )


def sending(*messages: dict[str, Any], after: Any = None) -> Any:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            if message["type"] == "receive":
                await receive()
            else:
                await send(message)
        if after is not None:
            await after()

    return app


START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
BODY: dict[str, Any] = {"type": "http.response.body", "body": b"x"}
MORE: dict[str, Any] = {"type": "http.response.body", "body": b"x", "more_body": True}


def test_other_scopes(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """Scopes other than HTTP, WebSocket and lifespan reach the app unchanged."""
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.extend(arguments)

    wire = Wire(limiter)
    arguments = ({"type": "other"}, wire.receive, wire.send)
    asyncio.run(RateLimitMiddleware(app, gate=gate)(*arguments))

    assert tuple(seen) == arguments


@pytest.mark.parametrize(
    ("messages", "free"),
    [
        ([START, MORE, BODY], [0, 0, 0]),
        ([START, {"type": "http.response.pathsend", "path": "/x"}], [0, 0]),
        ([START, {"type": "http.response.zerocopysend", "more_body": True}, BODY], [0, 0, 0]),
        ([{**START, "trailers": True}, BODY, {"type": "http.response.trailers", "headers": []}], [0, 0, 0]),
        ([{"type": "http.response.early_hint"}, {"type": "http.response.debug"}, START, BODY], [0, 0, 0, 0]),
    ],
)
def test_slot_is_released_after_the_last_message(
    gate: AsyncGate, limiter: AsyncLimiter, messages: list[Any], free: list[int]
) -> None:
    """Body, pathsend or trailers end the lease, whichever is last; a background task does not hold the slot."""
    wire = Wire(limiter)
    in_background: list[int] = []

    async def background() -> None:
        in_background.append(await free_slots(limiter))

    app = RateLimitMiddleware(sending(*messages, after=background), gate=gate)
    asyncio.run(app(wire.scope, wire.receive, wire.send))

    assert wire.free == free
    assert in_background == [1]


def test_only_the_first_start_is_changed(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """Only the first start is changed; every other message reaches the server as the same object."""
    wire = Wire(limiter)
    messages = [{"type": "http.response.early_hint", "links": []}, START, MORE, {**START, "status": 500}, BODY]

    asyncio.run(RateLimitMiddleware(sending(*messages), gate=gate)(wire.scope, wire.receive, wire.send))

    same = [sent is message for sent, message in zip(wire.sent, messages, strict=True)]
    assert same == [True, False, True, True, True]
    assert [name for name, _ in wire.sent[1]["headers"]] == [b"ratelimit-policy", b"ratelimit"]
    assert START["headers"] == []


def test_refusal_before_receive(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """A request is decided before anything is received, so a refused upload never sends its body."""

    async def scenario() -> Wire:
        await limiter.acquire(SUBJECT, PLAN)
        wire = Wire(limiter)
        await RateLimitMiddleware(sending({"type": "receive"}), gate=gate)(wire.scope, wire.receive, wire.send)
        return wire

    wire = asyncio.run(scenario())
    assert wire.received == 0
    assert wire.sent[0]["status"] == 429


def test_same_gate_twice(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """A request that passes the same gate twice is charged once."""
    wire = Wire(limiter)
    app = RateLimitMiddleware(RateLimitMiddleware(sending(START, BODY), gate=gate), gate=gate)

    asyncio.run(app(wire.scope, wire.receive, wire.send))

    assert wire.sent[0]["headers"][1][1] == b'"minute";r=49;t=59, "concurrent";r=0'
    assert len(wire.sent[0]["headers"]) == 2


def test_refusal_by_an_inner_gate(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """If an inner gate refuses, the client sees its headers, and the outer gate releases its slot."""
    tight = Plan.of("tight", per_day=1)
    inner = AsyncGate(limiter, plans=PlanTable([tight], default="tight"), identify=lambda _: Caller("other"))
    app = RateLimitMiddleware(RateLimitMiddleware(sending(START, BODY), gate=inner), gate=gate)
    wires = [Wire(limiter) for _ in range(2)]
    for wire in wires:
        asyncio.run(app(wire.scope, wire.receive, wire.send))

    refused = dict(wires[1].sent[0]["headers"])
    assert wires[1].sent[0]["status"] == 429
    assert refused[b"ratelimit"] == b'"day";r=0;t=86400'
    assert asyncio.run(free_slots(limiter)) == 1


def test_wrong_gate_type(limiter: AsyncLimiter) -> None:
    """A gate of the wrong type raises TypeError in the constructor."""
    with pytest.raises(TypeError, match="gate: expected a gate for ASGI, got a Gate"):
        RateLimitMiddleware(sending(), gate=Gate(Limiter(MemoryBackend()), plans=PlanTable([PLAN]), identify=SUBJECTS))  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "expected"), [(None, {}), ({}, {}), ({"mine": 1}, {"mine": 1})])
def test_scope_state(gate: AsyncGate, limiter: AsyncLimiter, state: Any, expected: Any) -> None:
    """The decision is added to the server's state, which keeps everything else."""
    wire = Wire(limiter, state=state)

    asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))

    kept = {name: value for name, value in wire.scope["state"].items() if name != "rate_limit"}
    assert kept == expected
    assert wire.scope["state"]["rate_limit"].allowed is True


@pytest.mark.parametrize("steps", range(1, 12))
def test_cancellation_releases_the_slot(gate: AsyncGate, limiter: AsyncLimiter, steps: int) -> None:
    """The slot is released wherever the task is cancelled: before, during or after the response."""

    async def scenario() -> int:
        wire = Wire(limiter)

        async def send(_: Any) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        app = RateLimitMiddleware(sending(START, MORE, MORE, BODY), gate=gate)
        task = asyncio.ensure_future(app(wire.scope, wire.receive, send))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return await free_slots(limiter)

    assert asyncio.run(scenario()) == 1


@pytest.mark.parametrize("last", ["close", "disconnect", "raise", "return"])
def test_websocket_slot(gate: AsyncGate, limiter: AsyncLimiter, last: str) -> None:
    """A WebSocket holds its slot until either side closes or the app ends."""
    free_after: list[int] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept", "headers": [(b"ratelimit", b"mine")]})
        await send({"type": "websocket.send", "text": "x"})
        if last == "close":
            await send({"type": "websocket.close"})
        if last == "disconnect":
            await receive()
        if last == "raise":
            raise ZeroDivisionError
        free_after.append(await free_slots(limiter))

    wire = Wire(limiter, "websocket")
    try:
        asyncio.run(RateLimitMiddleware(app, gate=gate)(wire.scope, wire.receive, wire.send))
    except ZeroDivisionError:
        free_after.append(-1)

    names = [name for name, _ in wire.sent[0]["headers"]]
    expected = {"close": 1, "disconnect": 1, "raise": -1, "return": 0}[last]
    assert names == [b"ratelimit-policy", b"ratelimit"]
    assert wire.free[1] == 0
    assert free_after == [expected]
    assert asyncio.run(free_slots(limiter)) == 1


@pytest.mark.parametrize(
    ("extensions", "types"),
    [
        ({"websocket.http.response": {}}, ["websocket.http.response.start", "websocket.http.response.body"]),
        ({}, ["websocket.close"]),
    ],
)
def test_refused_handshake(gate: AsyncGate, limiter: AsyncLimiter, extensions: Any, types: list[str]) -> None:
    """A refused WebSocket gets the 429, or is closed if the server does not support responses to handshakes."""

    async def scenario() -> Wire:
        await limiter.acquire(SUBJECT, PLAN)
        wire = Wire(limiter, "websocket", extensions=extensions)
        await RateLimitMiddleware(sending(), gate=gate)(wire.scope, wire.receive, wire.send)
        return wire

    wire = asyncio.run(scenario())
    statuses = [message["status"] for message in wire.sent if "status" in message]
    assert [message["type"] for message in wire.sent] == types
    assert statuses == [429] * (len(types) - 1)


def test_accept_close(limiter: AsyncLimiter) -> None:
    """With `accept_close` a browser script sees the close code 1013."""
    gate = AsyncGate(limiter, plans=PlanTable([PLAN]), identify=SUBJECTS, websocket_refusal="accept_close")

    async def scenario() -> Wire:
        await limiter.acquire(SUBJECT, PLAN)
        wire = Wire(limiter, "websocket", extensions={"websocket.http.response": {}})
        await RateLimitMiddleware(sending(), gate=gate)(wire.scope, wire.receive, wire.send)
        return wire

    wire = asyncio.run(scenario())
    assert [(message["type"], message.get("code")) for message in wire.sent] == [
        ("websocket.accept", None),
        ("websocket.close", 1013),
    ]


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"path": "/free"}, 200),
        ({"path": "/mounted/free", "root_path": "/mounted"}, 401),
        ({"path": "/free", "root_path": "/mounted"}, 401),
        ({"path": "/free", "root_path": ""}, 200),
    ],
)
def test_rules_match_the_whole_path(gate: AsyncGate, limiter: AsyncLimiter, scope: Any, status: int) -> None:
    """The mount prefix is part of the path, whether or not the server includes it."""
    wire = Wire(limiter, headers=[], **scope)

    asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))

    assert wire.sent[0]["status"] == status


def test_async_identify(limiter: AsyncLimiter) -> None:
    """`identify` may be a coroutine function, or a plain function that returns an awaitable."""

    async def identify(request: Any) -> Any:
        await asyncio.sleep(0)
        return SUBJECTS(request)

    statuses = []
    for form in (identify, functools.partial(identify)):
        gate = AsyncGate(limiter, plans=PlanTable([PLAN]), identify=form)
        wire = Wire(limiter)
        asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))
        statuses.append(wire.sent[0]["status"])

    assert statuses == [200, 200]


SUBJECTS = StaticKeys({"awx_example": "one"})


@pytest.mark.parametrize("make", [iter, tuple, lambda pairs: [list(pair) for pair in pairs]])
def test_headers_may_be_any_iterable(gate: AsyncGate, limiter: AsyncLimiter, make: Any) -> None:
    """ASGI promises an iterable of iterables, not a list of tuples."""
    wire = Wire(limiter, headers=make([(b"host", b"x"), *KEY]))

    asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))

    assert [message.get("status") for message in wire.sent] == [200, None]


def test_no_reference_cycle(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """A request leaves no reference cycle for the garbage collector."""
    wire = Wire(limiter)
    gone = weakref.ref(wire)
    gc.disable()
    try:
        asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))
        del wire

        assert gone() is None
    finally:
        gc.enable()


def test_asgiref_wsgi_to_asgi(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """`WsgiToAsgi` warns if `send` is not a coroutine function; ours passes its check."""

    def hello(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    served: dict[str, Any] = {"query_string": b"", "scheme": "http", "server": ("127.0.0.1", 80), "http_version": "1.1"}
    wire = Wire(limiter, **served)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    translated: Any = WsgiToAsgi
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(RateLimitMiddleware(translated(hello), gate=gate)(wire.scope, receive, wire.send))

    assert wire.sent[0]["status"] == 200
    assert b"".join(message.get("body", b"") for message in wire.sent) == b"hello"
    assert wire.free[-1] == 0
