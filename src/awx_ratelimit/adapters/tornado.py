"""For Tornado: limits of the whole app, and of single handler methods.

    RateLimit(app, keys={"awx_example_key": "starter"})

    class Search(RequestHandler):
        @limit("5/minute", per="address")
        async def get(self): ...

A decorated method needs no RateLimit.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial, wraps
from typing import Any, TypeVar, Unpack

from awx_ratelimit.runtime.extras import missing_package

try:
    from tornado.httputil import HTTPServerRequest
    from tornado.web import Application, RequestHandler
    from tornado.websocket import WebSocketHandler
except ModuleNotFoundError as error:
    raise missing_package("limits of Tornado's handlers need", error, install="tornado") from error

from awx_ratelimit.adapters.asgi.exchange import EXCHANGES
from awx_ratelimit.adapters.asgi.route_limits import admit_request
from awx_ratelimit.adapters.gate_arguments import OPTIONS, GateOptions, Keys, OwnedGate, Plans
from awx_ratelimit.adapters.limited_once import second_limit
from awx_ratelimit.adapters.native import Exchange, enter, finish
from awx_ratelimit.adapters.options import called_without_request, check_route_gate
from awx_ratelimit.adapters.tornado_messages import STATE, refuse, request_of, state_of
from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.core.option_names import ROUTE_HINTS, check_option_names, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.endings import note_header
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.identity.identifiers import AsyncIdentify
from awx_ratelimit.http.limit_headers import COST_HEADER
from awx_ratelimit.http.message import Reply, Request, text_headers
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit

__all__ = ["RateLimit", "limit"]

_Method = TypeVar("_Method", bound=Callable[..., Any])
_route_limit = partial(RouteLimit, middleware="RateLimit(app, keys=...)")
_SWITCHING_PROTOCOLS = 101


class RateLimit:
    """Limits the requests and WebSockets of a Tornado app, including those that no handler matches.

    It takes the arguments of `awx_ratelimit.RateLimitMiddleware`. It decides before the `prepare` of the handler, and
    holds a slot until the response is finished or the connection closes. The identifier gets the HTTPServerRequest as
    ``request.source``, and a handler finds the decision at ``self.request.rate_limit``, None for an exempt request.
    Tornado has no event for the end of an app, so call `aclose` there.

    With ``websocket_refusal="accept_close"`` too, a refused WebSocket gets a 429. Raises TypeError and InvalidLimit for
    wrong arguments.
    """

    def __init__(
        self,
        app: Application,
        *,
        keys: Keys | None = None,
        identify: AsyncIdentify | None = None,
        plans: Plans | None = None,
        backend: str | AsyncBackend | Backend | None = None,
        gate: AsyncGate | None = None,
        **options: Unpack[GateOptions],
    ) -> None:
        if not isinstance(app, Application):
            raise TypeError(f"app: expected a tornado.web.Application, got {type_name(app)}")
        if hasattr(app.get_handler_delegate, STATE):
            raise TypeError(second_limit("RateLimit"))
        check_option_names("RateLimit", options, OPTIONS)
        self._owned = OwnedGate(keys, identify, plans, backend, gate, options)
        # Bounded by the number of handler classes.
        limited_class = lru_cache(maxsize=None)(self._limited_class)
        delegate = app.get_handler_delegate

        @wraps(delegate)
        def limited_delegate(request: HTTPServerRequest, target_class: Any, *args: Any, **kwargs: Any) -> Any:
            return delegate(request, limited_class(target_class), *args, **kwargs)

        setattr(limited_delegate, STATE, self)
        app.get_handler_delegate = limited_delegate  # type: ignore[method-assign]

    @property
    def gate(self) -> AsyncGate:
        """The gate that decides."""
        return self._owned.gate

    async def aclose(self) -> None:
        """Send what is pending, such as released slots, and close a backend that was given as a URL."""
        await finish(self.gate)
        await self._owned.aclose()

    def _limited_class(self, target: type[RequestHandler]) -> type[RequestHandler]:
        """A subclass of a handler class, so that handlers that do not call `super` are limited as well."""
        bases = (_LimitedSocket, target) if issubclass(target, WebSocketHandler) else (_Limited, target)
        names = {"__module__": target.__module__, "__qualname__": target.__qualname__, "_awx_limits": self}
        return type(target.__name__, bases, names)


class _Limited(RequestHandler):
    """The part of a limited handler that comes before the handler's own methods."""

    _awx_limits: RateLimit
    _awx_exchange: Exchange | None = None

    async def prepare(self) -> None:
        entered = await enter(self._awx_limits.gate, request_of(self.request), state_of(self.request))
        if isinstance(entered, Reply):
            refuse(self, entered)
            return
        self._awx_exchange = entered
        if entered is not None:
            vars(self.request)["rate_limit"] = entered.decision
        result = super().prepare()
        if result is not None:
            await result

    def flush(self, include_footers: bool = False) -> Any:
        exchange = self._awx_exchange
        if exchange is not None and not self._headers_written:
            self._awx_note(exchange)
        headers = exchange.take_headers() if exchange is not None else []
        if headers and exchange is not None:
            for replaced in exchange.gate.header_names:
                self.clear_header(replaced.decode())
            for name, value in text_headers(headers):
                self.add_header(name, value)
        return super().flush(include_footers)

    def _awx_note(self, exchange: Exchange) -> None:
        """Note the status and the cost that the handler has set."""
        costs = self._headers.get_list(COST_HEADER.decode())
        if costs:
            self.clear_header(COST_HEADER.decode())
            note_header(state_of(self.request)[EXCHANGES], [cost.encode("latin-1", "replace") for cost in costs])
        if exchange.ending is not None:
            exchange.note_status(self.get_status())

    def on_finish(self) -> None:
        # The handshake of a WebSocket is a finished response too.
        if self.get_status() != _SWITCHING_PROTOCOLS:
            self._awx_end()
        super().on_finish()

    def on_connection_close(self) -> None:
        self._awx_end()
        super().on_connection_close()

    def _awx_end(self) -> None:
        if self._awx_exchange is not None:
            self._awx_exchange.end()


class _LimitedSocket(_Limited, WebSocketHandler):
    """A limited handler of WebSockets: its `get` lasts as long as the WebSocket."""

    async def get(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().get(*args, **kwargs)
        finally:
            self._awx_end()


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
    """Limit a method of a handler, in its own bucket: a decorator for ``get``, ``post`` and the like.

    On a class of handlers, all its methods share the bucket; so decorate a WebSocketHandler. See RouteLimit for the
    arguments. The limit uses `gate`, else the gate of the RateLimit of the app, else the memory of this process, where
    clients count by address. Without RateLimit, an error response does not report the limit.
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

    def __call__(self, method: _Method) -> _Method:
        """Return `method` with the limit. Raises TypeError for anything but a function or a class of handlers."""
        route = self._limit.route_of(method)
        if isinstance(method, type) and issubclass(method, RequestHandler):
            method.prepare = self._limited(method.prepare, None)  # type: ignore[method-assign]
            return method
        if isinstance(method, type) or not callable(method):
            raise TypeError(f"limit: expected a method of a handler, or its class, got {type_name(method)}")
        return self._limited(method, route)  # type: ignore[no-any-return]

    def _limited(self, method: Any, route: str | None) -> Any:
        @wraps(method)
        async def limited(handler: Any = None, *args: Any, **kwargs: Any) -> None:
            if not isinstance(handler, RequestHandler):
                raise called_without_request(method, "a method of a handler")
            request = handler.request
            # Classes that inherit from a limited handler are other routes.
            scope = route or self._limit.route_of(type(handler))
            admission = await admit_request(self._limit, scope, request_of(request), state_of(request), self._gate)
            if admission.reply is not None:
                refuse(handler, admission.reply)
                return
            for name, value in text_headers(admission.headers):
                handler.set_header(name, value)
            result = method(handler, *args, **kwargs)
            if result is not None:
                await result

        return limited
