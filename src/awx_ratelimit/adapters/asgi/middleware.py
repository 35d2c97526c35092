"""`RateLimitMiddleware` for ASGI apps. It imports no framework.

A slot is released after the last chunk of the body, or when the app returns or raises, whichever is first. A WebSocket
is one request at its handshake and holds its slot until it closes.
"""

from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

from awx_ratelimit.adapters.asgi.lifespan import event_loop_error, run_lifespan, warn_of_cors
from awx_ratelimit.adapters.asgi.scope import (
    Message,
    Receive,
    Scope,
    Send,
    discard,
    request_of,
    send_reply,
    sends_body,
)
from awx_ratelimit.adapters.options import MAX_DRAIN_BYTES, check_asgi, checked_drain_bytes, nested_call
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.http.endings import OVER, Settles, ending_of, note_header
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.limit_headers import merged
from awx_ratelimit.http.message import Reply
from awx_ratelimit.pending_decision import mark_coroutine_function

# Frameworks declare the types of scope, receive and send each in their own way.
App = Callable[[Any, Any, Any], Awaitable[None]]

Headers = list[tuple[bytes, bytes]]

_TRY_AGAIN_LATER = 1013
_SWITCHING_PROTOCOLS = HTTPStatus.SWITCHING_PROTOCOLS.value
_FORBIDDEN = HTTPStatus.FORBIDDEN.value
_ONLY_COST = frozenset((limit_headers.COST_HEADER,))
_LIMITED = frozenset(("http", "websocket"))
_STARTS = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))
_BODIES = frozenset(("http.response.body", "http.response.zerocopysend", "websocket.http.response.body"))
EXCHANGES = "awx_ratelimit.exchanges"


class RateLimitMiddleware:
    """Limits the requests and WebSockets of `app` by `gate`. Scopes of other types pass through.

    At the end of the app's lifespan, the gate sends pending releases before the server exits.

    The decision is at ``scope["state"]["rate_limit"]``. Two middlewares with the same gate decide once.

    A request is decided before its body is received. Before a refusal the middleware receives up to `max_drain_bytes`
    of the body, for 2 seconds at most, because a proxy turns the response to an unread upload into a 502. It receives
    nothing if the client sent ``Expect: 100-continue``, and 0 turns it off. Raises InvalidLimit for a negative number.
    """

    def __init__(self, app: App, *, gate: AsyncGate, max_drain_bytes: int = MAX_DRAIN_BYTES) -> None:
        check_asgi(app, gate)
        self.app = app
        self.gate = gate
        self._max_drain_bytes = checked_drain_bytes(max_drain_bytes)
        #: None until the first scope. Then it is empty, or the error with which every request is refused.
        self._loop_error: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._loop_error != "" and await self._on_wrong_loop(scope, receive, send):
            return
        kind = scope["type"]
        outer: tuple[Exchange, ...] = scope.get(EXCHANGES, ())
        if kind not in _LIMITED or (outer and any(exchange.gate is self.gate for exchange in outer)):
            if kind == "lifespan":
                self.begin_lifespan()
                await run_lifespan(self.app, scope, receive, send, self.end_lifespan)
                return
            with nested_call(scope, "asgi_app"):
                await self.app(scope, receive, send)
            return
        reply, headers, decision, caller = await self.gate.admit(request_of(scope))
        if reply is not None:
            for exchange in outer:
                exchange.drop_headers()
            if kind == "http" and sends_body(scope):
                await discard(receive, self._max_drain_bytes)
            await self._refuse(reply, scope, receive, send)
            return
        exchange = Exchange(self.gate, headers, decision, caller, outer, receive, send)
        try:
            scope[EXCHANGES] = (*outer, exchange) if outer else (exchange,)
            state = scope.get("state")
            if state is None:
                state = scope["state"] = {}
            state["rate_limit"] = decision
            await self.app(scope, exchange.receive if kind == "websocket" else receive, exchange.send)
        finally:
            if exchange.decision is not None or exchange.ending is not None:
                exchange.end()
            if exchange.ending is not None:
                await exchange.settle(is_over=True)
            exchange.ending = OVER
            # The exchange refers to the server's objects, which refer to the scope. Breaking the cycle here spares the
            # garbage collector one for every request.
            scope[EXCHANGES] = outer

    def begin_lifespan(self) -> None:
        """Called before the app starts."""

    async def end_lifespan(self) -> None:
        """Called when the app has ended: send what is pending, such as released slots. It never raises."""
        await self.gate.flush()

    async def _on_wrong_loop(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the gate does not work on this event loop. Then startup fails, or the request is refused."""
        if self._loop_error is None:
            warn_of_cors(self, scope, self.gate.exposed_names)
            self._loop_error = event_loop_error(*self.gate.parts)
        if self._loop_error and scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": self._loop_error})
        elif self._loop_error:
            await self._refuse(error_responses.failure("rate_limiter_unavailable"), scope, receive, send)
        return bool(self._loop_error)

    async def _refuse(self, reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send_reply(reply, scope, send)
        elif self.gate.websocket_refusal == "accept_close":
            # Browser scripts see the code of a close, but not the status of a refused handshake.
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": "rate limit exceeded"})
        elif "websocket.http.response" in (scope.get("extensions") or ()):
            await send_reply(reply, scope, send, prefix="websocket.http")
        else:
            # Before the WebSocket is accepted, servers turn a close into a 403.
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": ""})


class Exchange(Settles):
    """One admitted request: adds the headers to its response, and releases its slot and settles it at the end."""

    __slots__ = ("_headers", "_outer", "_receive", "_send", "_trailers")

    def __init__(
        self,
        gate: AsyncGate,
        headers: Headers,
        decision: Decision | None,
        caller: Caller | None,
        outer: tuple["Exchange", ...],
        receive: Receive,
        send: Send,
    ) -> None:
        self.gate = gate
        self.caller = caller
        self._outer = outer
        self._headers = headers
        self.decision = self.claimed = decision
        self.ending = ending_of(decision)
        self._receive = receive
        self._send = send
        self._trailers = False

    def merge_headers(self, headers: Headers) -> None:
        """A route's own limit has admitted the request as well: report both decisions."""
        self._headers = merged(self._headers, headers)

    def drop_headers(self) -> None:
        """An inner gate or a route has refused the request, so the client must see the headers of that refusal."""
        self._headers = []

    async def settle(self, *, is_over: bool) -> None:
        """Settle what is due. See `Settles.due`. It never raises, and the response does not wait for it."""
        for gate, decision in self.due(is_over=is_over):
            await gate.settle(decision, self.status, self.noted)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.end()
        return message

    @mark_coroutine_function
    def send(self, message: Message) -> Awaitable[None]:
        """Returns the awaitable of the server's own `send`, which saves a coroutine for each message."""
        kind = message["type"]
        if kind in _STARTS:
            self._trailers = message.get("trailers", False)
            if self.ending is not None:
                self.note_status(message.get("status", _SWITCHING_PROTOCOLS))
            own, headers = self._headers, message.get("headers", ())
            if headers.__class__ is not list:
                headers = [*headers]
            names = self.gate.replaced_names if own else _ONLY_COST
            kept = [pair for pair in headers if pair[0].lower() not in names]
            if len(kept) != len(headers):
                self._note_costs(headers)
            if own or len(kept) != len(headers):
                message = {**message, "headers": kept + own}
                self._headers = []
        else:
            if self._trailers and kind == "http.response.trailers":
                self._note_costs(message.get("headers", ()))
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in _ONLY_COST]
                message = {**message, "headers": kept}
            if (self.decision is not None or self.ending is not None) and self._is_last(kind, message):
                return self._send_last(message)
        return self._send(message)

    def _note_costs(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Note what the application says in RateLimit-Cost."""
        costs = [value for name, value in headers if name.lower() == limit_headers.COST_HEADER]
        if costs:
            note_header((*self._outer, self), costs)

    async def _send_last(self, message: Message) -> None:
        try:
            await self._send(message)
        finally:
            self.end()
        if self.ending is not None:
            await self.settle(is_over=False)

    def _is_last(self, kind: str, message: Message) -> bool:
        if kind in _BODIES:
            return not (self._trailers or message.get("more_body", False))
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        if kind == "websocket.close" and self.ending is not None and self.status is None:
            # Servers answer a handshake that is not accepted with it.
            self.note_status(_FORBIDDEN)
        return kind == "websocket.close" or (kind == "http.response.pathsend" and not self._trailers)
