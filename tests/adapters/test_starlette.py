"""What the ASGI adapter promises beyond the contract, driven message by message."""

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


def test_other_scopes_pass_untouched(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """What is neither HTTP nor a WebSocket nor a lifespan reaches the app as it came."""
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
def test_the_slot_is_free_after_the_last_message_while_the_app_goes_on(
    gate: AsyncGate, limiter: AsyncLimiter, messages: list[Any], free: list[int]
) -> None:
    """Body, pathsend or trailers end the lease, whichever is the end; a background task does not hold it."""
    wire = Wire(limiter)
    in_background: list[int] = []

    async def background() -> None:
        in_background.append(await free_slots(limiter))

    app = RateLimitMiddleware(sending(*messages, after=background), gate=gate)
    asyncio.run(app(wire.scope, wire.receive, wire.send))

    assert wire.free == free
    assert in_background == [1]


def test_headers_go_on_the_first_start_alone(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """Only the first start is touched; every other message reaches the server as the very object that was sent."""
    wire = Wire(limiter)
    messages = [{"type": "http.response.early_hint", "links": []}, START, MORE, {**START, "status": 500}, BODY]

    asyncio.run(RateLimitMiddleware(sending(*messages), gate=gate)(wire.scope, wire.receive, wire.send))

    same = [sent is message for sent, message in zip(wire.sent, messages, strict=True)]
    assert same == [True, False, True, True, True]
    assert [name for name, _ in wire.sent[1]["headers"]] == [b"ratelimit-policy", b"ratelimit"]
    assert START["headers"] == []


def test_a_refusal_reads_nothing(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """A request is decided before anything is received, so that a refused upload never sends its body."""

    async def scenario() -> Wire:
        await limiter.acquire(SUBJECT, PLAN)
        wire = Wire(limiter)
        await RateLimitMiddleware(sending({"type": "receive"}), gate=gate)(wire.scope, wire.receive, wire.send)
        return wire

    wire = asyncio.run(scenario())
    assert wire.received == 0
    assert wire.sent[0]["status"] == 429


def test_two_middlewares_with_one_gate_decide_once(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """A request that meets the same gate twice is charged once and gets its headers once."""
    wire = Wire(limiter)
    app = RateLimitMiddleware(RateLimitMiddleware(sending(START, BODY), gate=gate), gate=gate)

    asyncio.run(app(wire.scope, wire.receive, wire.send))

    assert wire.sent[0]["headers"][1][1] == b'"minute";r=49;t=59, "concurrent";r=0'
    assert len(wire.sent[0]["headers"]) == 2


def test_another_gates_refusal_keeps_its_headers(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """When an inner gate refuses, the client sees the limit that refused, and the outer gate's slot is free."""
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


def test_the_middleware_says_which_gate_it_takes(limiter: AsyncLimiter) -> None:
    """A gate of the other kind is an error when the middleware is made."""
    with pytest.raises(TypeError, match="takes an AsyncGate, not Gate"):
        RateLimitMiddleware(sending(), gate=Gate(Limiter(MemoryBackend()), plans=PlanTable([PLAN]), identify=SUBJECTS))  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "expected"), [(None, {}), ({}, {}), ({"mine": 1}, {"mine": 1})])
def test_the_state_of_the_app_is_kept(gate: AsyncGate, limiter: AsyncLimiter, state: Any, expected: Any) -> None:
    """The decision is put beside what the server's state holds, whatever that is."""
    wire = Wire(limiter, state=state)

    asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))

    kept = {name: value for name, value in wire.scope["state"].items() if name != "rate_limit"}
    assert kept == expected
    assert wire.scope["state"]["rate_limit"].allowed is True


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_cancellation_at_any_point_gives_the_slot_back(gate: AsyncGate, limiter: AsyncLimiter, steps: int) -> None:
    """Wherever a task is cancelled, before, in or after the response, no slot stays taken."""

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
def test_a_websocket_holds_its_slot_until_it_closes(gate: AsyncGate, limiter: AsyncLimiter, last: str) -> None:
    """A WebSocket is one request whose slot is free when either side closes, or its app ends."""
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
def test_a_refused_handshake_is_a_429_where_the_server_can_say_so(
    gate: AsyncGate, limiter: AsyncLimiter, extensions: Any, types: list[str]
) -> None:
    """Before it is accepted, a refused WebSocket gets the whole 429, or is closed where a server knows no other."""

    async def scenario() -> Wire:
        await limiter.acquire(SUBJECT, PLAN)
        wire = Wire(limiter, "websocket", extensions=extensions)
        await RateLimitMiddleware(sending(), gate=gate)(wire.scope, wire.receive, wire.send)
        return wire

    wire = asyncio.run(scenario())
    statuses = [message["status"] for message in wire.sent if "status" in message]
    assert [message["type"] for message in wire.sent] == types
    assert statuses == [429] * (len(types) - 1)


def test_a_refused_websocket_may_be_accepted_and_closed(limiter: AsyncLimiter) -> None:
    """With `accept_close` a script in a browser sees the close code 1013."""
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
def test_a_rule_is_for_the_whole_path(gate: AsyncGate, limiter: AsyncLimiter, scope: Any, status: int) -> None:
    """The prefix that an app is mounted under is part of the path, whether the server leaves it in or out."""
    wire = Wire(limiter, headers=[], **scope)

    asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))

    assert wire.sent[0]["status"] == status


def test_an_async_identify_serves_the_gate(limiter: AsyncLimiter) -> None:
    """`identify` may be a coroutine function, or a plain one that returns an awaitable."""

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
def test_headers_are_read_from_any_iterable_of_pairs(gate: AsyncGate, limiter: AsyncLimiter, make: Any) -> None:
    """ASGI promises an iterable of iterables, and no list of tuples."""
    wire = Wire(limiter, headers=make([(b"host", b"x"), *KEY]))

    asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))

    assert [message.get("status") for message in wire.sent] == [200, None]


def test_a_request_leaves_nothing_to_the_collector(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """A server's exchange that has the scope and the `send` is gone with its last reference."""
    wire = Wire(limiter)
    gone = weakref.ref(wire)
    gc.disable()
    try:
        asyncio.run(RateLimitMiddleware(sending(START, BODY), gate=gate)(wire.scope, wire.receive, wire.send))
        del wire

        assert gone() is None
    finally:
        gc.enable()


def test_a_wsgi_app_that_asgiref_translates_is_served_without_a_warning(gate: AsyncGate, limiter: AsyncLimiter) -> None:
    """`WsgiToAsgi` asks whether `send` is a coroutine function, and warns on each request where it is none."""

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
