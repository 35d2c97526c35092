"""For Sanic: limits of the whole app on Sanic's own server, and of single handlers.

    RateLimit(app, keys={"awx_example_key": "starter"})

    @app.get("/search")
    @limit("5/minute", per="address")
    async def search(request): ...

On an ASGI server, `awx_ratelimit.RateLimitMiddleware` around the app also limits WebSockets.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any, TypeVar, Unpack

from awx_ratelimit.runtime.extras import missing_package

try:
    from sanic import HTTPResponse, Sanic
    from sanic import Request as SanicRequest
    from sanic.views import HTTPMethodView
except ModuleNotFoundError as error:
    raise missing_package("limits of Sanic's handlers need", error, install="sanic") from error

from awx_ratelimit.adapters.asgi.exchange import EXCHANGES
from awx_ratelimit.adapters.asgi.route_limits import admit, admit_request
from awx_ratelimit.adapters.gate_arguments import OPTIONS, GateOptions, Keys, OwnedGate, Plans
from awx_ratelimit.adapters.late_limits import LateLimits, check_after, is_registered
from awx_ratelimit.adapters.limited_once import second_limit
from awx_ratelimit.adapters.native import add_headers, enter, exchange_of, finish
from awx_ratelimit.adapters.options import called_without_request, check_route_gate
from awx_ratelimit.adapters.sanic_messages import STATE, request_of, response_of, state_of
from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.core.option_names import ROUTE_HINTS, check_option_names, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.scope import scope_of_function
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.identity.identifiers import AsyncIdentify
from awx_ratelimit.http.message import Reply, Request, text_headers
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit

__all__ = ["RateLimit", "limit"]

_Handler = TypeVar("_Handler", bound=Callable[..., Any])
_route_limit = partial(RouteLimit, middleware="RateLimit(app, keys=...)")
#: Sanic runs request middleware of high priority first, and response middleware of high priority last.
_OUTERMOST = 1_000
_TRY_AGAIN_LATER = 1013
#: The function that Sanic makes of a class of views.
_VIEW = f"{HTTPMethodView.as_view.__qualname__}.<locals>.view"


class RateLimit:
    """Limits the requests and WebSockets of a Sanic app, including those that no handler matches.

    It takes the arguments of `awx_ratelimit.RateLimitMiddleware`. A slot is held until the handler and the stream of
    its response have ended, or the client has disconnected. A backend that is given as a URL is closed when the server
    stops. Each worker process has separate limits in memory, so share a ``host://`` or Redis backend. The identifier
    gets the Sanic request as ``request.source``. A handler finds the decision at ``request.ctx.rate_limit``, None for
    an exempt request.

    With ``websocket_refusal="accept_close"`` too, a refused WebSocket gets a 429. Raises TypeError and InvalidLimit for
    wrong arguments.
    """

    def __init__(
        self,
        app: Sanic[Any, Any],
        *,
        keys: Keys | None = None,
        identify: AsyncIdentify | None = None,
        plans: Plans | None = None,
        backend: str | AsyncBackend | Backend | None = None,
        gate: AsyncGate | None = None,
        **options: Unpack[GateOptions],
    ) -> None:
        if not isinstance(app, Sanic):
            raise TypeError(f"app: expected a Sanic app, got {type_name(app)}")
        if hasattr(app.ctx, STATE):
            raise TypeError(second_limit("RateLimit"))
        check_option_names("RateLimit", options, OPTIONS)
        self._owned = OwnedGate(keys, identify, plans, backend, gate, options)
        setattr(app.ctx, STATE, self)
        app.on_request(self._decide, priority=_OUTERMOST)
        app.on_response(self._add_headers, priority=_OUTERMOST)  # type: ignore[no-untyped-call]
        # Sanic dispatches it when a response or a stream is complete but for its last bytes.
        app.add_signal(self._end, "http.lifecycle.response")
        # A stream that breaks off has no complete response.
        app.add_signal(self._end, "http.lifecycle.exception")
        app.before_server_start(self._open)
        app.after_server_stop(self._close)

    @property
    def gate(self) -> AsyncGate:
        """The gate that decides."""
        return self._owned.gate

    async def _decide(self, request: SanicRequest) -> HTTPResponse | None:
        entered = await enter(self.gate, request_of(request), state_of(request))
        if isinstance(entered, Reply):
            return response_of(entered)
        if entered is not None:
            request.ctx.rate_limit = entered.decision
            # The task of the connection ends when the client disconnects.
            entered.end_with_task()
        return None

    async def _add_headers(self, request: SanicRequest, response: Any) -> None:
        add_headers(self.gate, state_of(request), response.headers, response.status)

    async def _end(self, request: SanicRequest | None, **_: Any) -> None:
        exchange = None if request is None else exchange_of(self.gate, state_of(request))
        if exchange is not None:
            exchange.end()
            task = asyncio.current_task()
            if task is not None:
                # A connection serves any number of requests, so each takes its callback with it.
                task.remove_done_callback(exchange.end)

    async def _open(self, _: Any) -> None:
        self._owned.reopen()

    async def _close(self, _: Any) -> None:
        await finish(self.gate)
        await self._owned.aclose()


@with_option_hints(ROUTE_HINTS)
def limit(
    limit: str | Rate | Plan,
    *,
    per: Per | Callable[[Request], str] = "caller",
    cost: RouteCost = 1,
    scope: str | None = None,
    charge_on: Iterable[int] | None = None,
    wait_ms: int = 0,
    max_waiting: int = 100,
    gate: AsyncGate | None = None,
) -> "HandlerLimit":
    """Limit a handler, in its own bucket: a decorator for functions and methods, and an item of `decorators`.

    See RouteLimit for the arguments. The limit uses `gate`, else the gate of the RateLimit or the middleware around the
    app, else the memory of this process, where clients count by their address. A refused request is charged by no
    limit. A refused WebSocket is closed with code 1013, because Sanic accepts it before it calls the handler. Without
    RateLimit, a stream that the handler sends itself and an error response do not report the limit.
    """
    checked = _route_limit(
        limit, per=per, cost=cost, scope=scope, charge_on=charge_on, wait_ms=wait_ms, max_waiting=max_waiting
    )
    return HandlerLimit(checked, gate)


class HandlerLimit:
    """The decorator that `limit` returns."""

    def __init__(self, limit: RouteLimit, gate: AsyncGate | None) -> None:
        check_route_gate(gate, AsyncGate)
        self._limit = limit
        self._gate = gate

    def __call__(self, handler: _Handler) -> _Handler:
        """Return `handler` with the limit. Raises TypeError for anything but a function."""
        if isinstance(handler, type) or not callable(handler):
            raise TypeError(
                f"limit: expected a function, got {type_name(handler)}; "
                "write decorators = [limit(...)] in an HTTPMethodView"
            )
        was_registered = is_registered(handler)
        # A view gets its class only after its decorators.
        route = None if getattr(handler, "__qualname__", "") == _VIEW else self._limit.route_of(handler)

        @wraps(handler)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            request = next((value for value in args if isinstance(value, SanicRequest)), None)
            if request is None:
                raise called_without_request(handler, "a handler")
            admission = await self._admit(request, route or _scope_of_view(request.route))
            if admission.reply is not None:
                return await _refused(admission.reply, request, args)
            result = handler(*args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
            if admission.headers and isinstance(result, HTTPResponse) and not request.responded:
                result.headers.extend(text_headers(admission.headers))
            return result

        if was_registered:
            _late_limits.note(handler, limited)
        return limited  # type: ignore[return-value]

    async def _admit(self, request: SanicRequest, route: str) -> Admission:
        scope = getattr(request.transport, "scope", None)
        if scope is not None and scope.get(EXCHANGES):
            # An ASGI middleware around the app has admitted the request.
            return await admit(self._limit, route, scope, self._gate)
        return await admit_request(self._limit, route, request_of(request), state_of(request), self._gate)


def _check_handlers(app: Sanic[Any, Any]) -> None:
    handlers = [route.handler for route in app.router.routes]
    # Sanic registers a partial of another function, with the handler of a WebSocket as its argument.
    bound = [each for handler in handlers for each in getattr(handler, "args", ())]
    _late_limits.check([*handlers, *bound])


_late_limits = LateLimits(lambda: check_after(Sanic, "finalize", _check_handlers))


def _is_websocket(request: SanicRequest) -> bool:
    # Sanic marks the handlers of WebSockets, but has no public name for the mark.
    return hasattr(getattr(request.route, "handler", None), "is_websocket")


def _scope_of_view(route: Any) -> str:
    return scope_of_function(getattr(route, "handler", HTTPMethodView))


async def _refused(reply: Reply, request: SanicRequest, args: tuple[Any, ...]) -> HTTPResponse | None:
    if not _is_websocket(request):
        return response_of(reply)
    socket = args[args.index(request) + 1]
    await socket.close(_TRY_AGAIN_LATER, "rate limit exceeded")
    return None
