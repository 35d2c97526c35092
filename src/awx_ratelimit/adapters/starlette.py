"""The middleware of ASGI apps: Starlette, FastAPI, Litestar, Quart, Django and any other; it needs none of them.

A lease ends with the last chunk of the body, or when the app returns or raises, whichever is first. A WebSocket is
one request at its handshake and holds its slot until it closes.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from awx_ratelimit.adapters.asgi.lifespan import Lifespan
from awx_ratelimit.adapters.asgi.loops import fail_start, wrong_for
from awx_ratelimit.adapters.asgi.scope import (
    MAX_DRAIN_BYTES,
    Message,
    Receive,
    Scope,
    Send,
    discard,
    request_of,
    send_reply,
    sends_body,
)
from awx_ratelimit.adapters.cors import warn_of_cors
from awx_ratelimit.adapters.full_requests import check_asgi, within
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.validation import check_whole_number
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.message import Reply
from awx_ratelimit.pending_decision import mark_coroutine_function

# Frameworks write the three types of ASGI each in their own way.
App = Callable[[Any, Any, Any], Awaitable[None]]

Headers = list[tuple[bytes, bytes]]

_TRY_AGAIN_LATER = 1013
_LIMITED = frozenset(("http", "websocket"))
_STARTS = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))
_BODIES = frozenset(("http.response.body", "http.response.zerocopysend", "websocket.http.response.body"))
_EXCHANGES = "awx_ratelimit.exchanges"


class RateLimitMiddleware:
    """Limits the requests and WebSockets of `app` by `gate`. Every other scope passes through.

    At the end of the app's lifespan the gate sends what waits to be sent, before the server ends the process.

    The decision is at ``scope["state"]["rate_limit"]``. Two of these with one gate decide once.

    A request is decided before its body is received. Before a refusal the middleware receives up to `max_drain_bytes`
    of the body, for 2 seconds at most, because a proxy turns the answer to an unread upload into a 502. It receives
    nothing if the client sent ``Expect: 100-continue``, and 0 turns it off. Raises InvalidLimit for a negative number.
    """

    def __init__(self, app: App, *, gate: AsyncGate, max_drain_bytes: int = MAX_DRAIN_BYTES) -> None:
        check_asgi(app, gate)
        self.app = app
        self.gate = gate
        check_whole_number(max_drain_bytes, "max_drain_bytes", minimum=0)
        self._max_drain_bytes = max_drain_bytes
        #: None until the first scope, which shows what is around it; then why it refuses all, or nothing.
        self._wrong: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._wrong != "" and await self._is_wrong(scope, receive, send):
            return
        kind = scope["type"]
        outer: tuple[_Exchange, ...] = scope.get(_EXCHANGES, ())
        if kind not in _LIMITED or (outer and any(exchange.gate is self.gate for exchange in outer)):
            if kind == "lifespan":
                await Lifespan(receive, send, self.gate.flush).run(self.app, scope)
                return
            with within(scope, "asgi_app"):
                await self.app(scope, receive, send)
            return
        reply, headers, decision = await self.gate.admit(request_of(scope))
        if reply is not None:
            for exchange in outer:
                exchange.leave_headers()
            if kind == "http" and sends_body(scope):
                await discard(receive, self._max_drain_bytes)
            await _refuse(reply, scope, receive, send, accept=self.gate.websocket_refusal == "accept_close")
            return
        exchange = _Exchange(self.gate, headers, decision, receive, send)
        try:
            scope[_EXCHANGES] = (*outer, exchange) if outer else (exchange,)
            state = scope.get("state")
            if state is None:
                state = scope["state"] = {}
            state["rate_limit"] = decision
            await self.app(scope, exchange.receive if kind == "websocket" else receive, exchange.send)
        finally:
            if exchange.decision is not None:
                exchange.end()
            # The server's exchange has the scope: without this, each request would be a cycle for the collector.
            scope[_EXCHANGES] = outer

    async def _is_wrong(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether its gate cannot decide on this event loop: then nothing starts, or nothing is let in."""
        if self._wrong is None:
            warn_of_cors(self, scope, self.gate.exposed_names)
            self._wrong = wrong_for(*self.gate.parts)
        if self._wrong and scope["type"] == "lifespan":
            await fail_start(self._wrong, receive, send)
        elif self._wrong:
            reply = error_responses.failure("rate_limiter_unavailable")
            await _refuse(reply, scope, receive, send, accept=self.gate.websocket_refusal == "accept_close")
        return bool(self._wrong)


class _Exchange:
    """One admitted request: its headers go on its start, its slot goes back at its end."""

    __slots__ = ("_headers", "_receive", "_send", "_trailers", "decision", "gate")

    def __init__(
        self, gate: AsyncGate, headers: Headers, decision: Decision | None, receive: Receive, send: Send
    ) -> None:
        self.gate = gate
        self._headers = headers
        self.decision = decision
        self._receive = receive
        self._send = send
        self._trailers = False

    def leave_headers(self) -> None:
        """The answer is another gate's refusal, whose headers are to be seen."""
        self._headers = []

    def end(self) -> None:
        """Give the slot back, once. It does not suspend, so that no cancellation can come between."""
        decision = self.decision
        if decision is not None:
            self.decision = None
            self.gate.release(decision)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.end()
        return message

    @mark_coroutine_function
    def send(self, message: Message) -> Awaitable[None]:
        """What the server's own `send` returns, for the app to await: a coroutine less for each message."""
        kind = message["type"]
        if kind in _STARTS:
            self._trailers = message.get("trailers", False)
            if self._headers:
                names = self.gate.header_names
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
                message = {**message, "headers": kept + self._headers}
                self._headers = []
        elif self.decision is not None and self._ends(kind, message):
            return self._send_last(message)
        return self._send(message)

    async def _send_last(self, message: Message) -> None:
        try:
            await self._send(message)
        finally:
            self.end()

    def _ends(self, kind: str, message: Message) -> bool:
        if kind in _BODIES:
            return not (self._trailers or message.get("more_body", False))
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind == "websocket.close" or (kind == "http.response.pathsend" and not self._trailers)


async def _refuse(reply: Reply, scope: Scope, receive: Receive, send: Send, *, accept: bool) -> None:
    if scope["type"] == "http":
        await send_reply(reply, scope, send)
    elif accept:
        await _accept_and_close(receive, send)
    elif "websocket.http.response" in (scope.get("extensions") or ()):
        await send_reply(reply, scope, send, prefix="websocket.http")
    else:
        # Closed before it was accepted: the client sees a 403.
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": ""})


async def _accept_and_close(receive: Receive, send: Send) -> None:
    """For scripts in browsers, which see the code of a close and not the status of a handshake."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": "rate limit exceeded"})
