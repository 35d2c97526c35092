"""`RateLimitMiddleware` for ASGI apps. It imports no framework.

A slot is released after the last chunk of the body, or when the app returns or raises, whichever is first. A WebSocket
is one request at its handshake and holds its slot until it closes.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from awx_ratelimit.adapters.asgi.exchange import EXCHANGES, Exchange
from awx_ratelimit.adapters.asgi.lifespan import event_loop_error, run_lifespan, warn_of_cors
from awx_ratelimit.adapters.asgi.scope import Receive, Scope, Send, begun, discard, request_of, send_reply, sends_body
from awx_ratelimit.adapters.limited_once import LimitsApp
from awx_ratelimit.adapters.options import MAX_DRAIN_BYTES, check_asgi, checked_drain_bytes, nested_call
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.endings import OVER
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.message import Reply

# Frameworks declare the types of scope, receive and send each in their own way.
App = Callable[[Any, Any, Any], Awaitable[None]]

_TRY_AGAIN_LATER = 1013
_LIMITED = frozenset(("http", "websocket"))


class RateLimitMiddleware(LimitsApp):
    """Limits the requests and WebSockets of `app` by `gate`. Scopes of other types pass through.

    At the end of the app's lifespan, the gate sends pending releases before the server exits.

    The decision is at ``scope["state"]["rate_limit"]``, None for an exempt request. Two middlewares
    with the same gate decide once.

    A request is decided before its body is received. Before a refusal the middleware receives up to `max_drain_bytes`
    of the body, for 2 seconds at most, because a proxy turns the response to an unread upload into a 502. It receives
    nothing if the client sent ``Expect: 100-continue``, and 0 turns it off. Raises InvalidLimit for a negative number,
    and TypeError for an app that has another rate limit of the same clients.
    """

    def __init__(self, app: App, *, gate: AsyncGate, max_drain_bytes: int = MAX_DRAIN_BYTES) -> None:
        check_asgi(app, gate)
        self.app = app
        self.gate = gate
        self.check_is_first(app)
        self._max_drain_bytes = checked_drain_bytes(max_drain_bytes)
        #: None until the first scope. Then it is empty, or the error with which every request is refused.
        self._loop_error: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901  # docs/hot-path.md
        if self._loop_error != "" and await self._on_wrong_loop(scope, receive, send):
            return
        kind = scope["type"]
        outer: tuple[Exchange, ...] = scope.get(EXCHANGES, ())
        if kind not in _LIMITED or (outer and self._has_decided(outer)):
            await self._pass(scope, receive, send)
            return
        # The short way of nearly all requests: without an object for the request, and without a coroutine.
        admission = begun(scope, self.gate)
        if admission is None:
            admission = await self.gate.admit(request_of(scope))
        elif admission.__class__ is not tuple and not isinstance(admission, tuple):
            admission = await admission
        reply, headers, decision, caller = admission
        if reply is not None:
            await self._refuse_request(reply, outer, scope, receive, send)
            return
        try:
            exchange = Exchange()
            exchange.begin(self.gate, headers, decision, caller, outer, receive, send)
        except BaseException:
            self.gate.drop(decision)
            raise
        try:
            scope[EXCHANGES] = (*outer, exchange) if outer else (exchange,)
            state = scope.get("state")
            if state is None:
                state = scope["state"] = {}
            state["rate_limit"] = decision
            await self.app(scope, exchange.receive if kind == "websocket" else receive, exchange.send)
        finally:
            try:
                if exchange.decision is not None or exchange.ending is not None:
                    exchange.end()
            except BaseException:
                # A signal handler has raised, perhaps before `end` did anything.
                exchange.end()
                raise
            if exchange.ending is not None:
                await exchange.settle(is_over=True)
            exchange.ending = OVER
            # The exchange refers to the server's objects, which refer to the scope. Breaking the cycle here spares the
            # garbage collector one for every request.
            scope[EXCHANGES] = outer

    def _has_decided(self, outer: tuple[Exchange, ...]) -> bool:
        return any(exchange.gate is self.gate for exchange in outer)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app for a scope that the gate does not decide, or has decided before."""
        if scope["type"] == "lifespan":
            self.begin_lifespan()
            await run_lifespan(self.app, scope, receive, send, self.end_lifespan)
            return
        with nested_call(scope, "asgi_app"):
            await self.app(scope, receive, send)

    def begin_lifespan(self) -> None:
        """Called before the app starts: reopen what the last lifespan has closed, such as the verifier of keys."""
        self.gate.parts.reopen()

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

    async def _refuse_request(
        self, reply: Reply, outer: tuple[Exchange, ...], scope: Scope, receive: Receive, send: Send
    ) -> None:
        for exchange in outer:
            exchange.drop_headers()
        if scope["type"] == "http" and sends_body(scope):
            await discard(receive, self._max_drain_bytes)
        await self._refuse(reply, scope, receive, send)

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
