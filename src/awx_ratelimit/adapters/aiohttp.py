"""For aiohttp.web: limits of the whole app, and of single handlers.

    RateLimit(app, keys={"awx_example_key": "starter"})

    @routes.get("/search")
    @limit("5/minute", per="address")
    async def search(request): ...

A decorated handler needs no RateLimit.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial, wraps
from types import coroutine
from typing import Any, TypeVar, Unpack

from awx_ratelimit.runtime.extras import missing_package

try:
    from aiohttp import web
except ModuleNotFoundError as error:
    raise missing_package("limits of aiohttp's handlers need", error, install="aiohttp") from error

from awx_ratelimit.adapters.aiohttp_messages import request_of, response_of, state_of
from awx_ratelimit.adapters.asgi.route_limits import admit_request
from awx_ratelimit.adapters.gate_arguments import OPTIONS, GateOptions, Keys, OwnedGate, Plans
from awx_ratelimit.adapters.late_limits import LateLimits, check_after, is_registered
from awx_ratelimit.adapters.limited_once import counts_by, second_limit
from awx_ratelimit.adapters.native import add_headers, enter, finish
from awx_ratelimit.adapters.options import called_without_request, check_route_gate
from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.option_names import ROUTE_HINTS, check_option_names, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.identity.identifiers import AsyncIdentify
from awx_ratelimit.http.message import Reply, Request, text_headers
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit

__all__ = ["DECISION", "RateLimit", "limit"]

#: Where a handler finds the decision of its request: ``request[DECISION]``. aiohttp before 3.14 takes texts as keys.
DECISION: Any = web.RequestKey("rate_limit", Decision) if hasattr(web, "RequestKey") else "rate_limit"

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_route_limit = partial(RouteLimit, middleware="RateLimit(app, keys=...)")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HAS_RAISED = "awx_ratelimit.has_raised"
_TRY_AGAIN_LATER = 1013


class RateLimit:
    """Limits the requests and WebSockets of an aiohttp app and its subapps. Write it right after the app.

    It adds a middleware outside those that the app has. It takes the arguments of
    `awx_ratelimit.RateLimitMiddleware`. A slot is held until the response is sent, or the connection breaks. A backend
    that is given as a URL is closed when the app is cleaned up. The identifier gets the `web.Request` as
    ``request.source``, and a handler finds the decision at ``request[DECISION]``, None for an exempt request.

    Raises TypeError and InvalidLimit for wrong arguments, and RuntimeError for an app that has started.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        keys: Keys | None = None,
        identify: AsyncIdentify | None = None,
        plans: Plans | None = None,
        backend: str | AsyncBackend | Backend | None = None,
        gate: AsyncGate | None = None,
        **options: Unpack[GateOptions],
    ) -> None:
        if not isinstance(app, web.Application):
            raise TypeError(f"app: expected an aiohttp.web.Application, got {type_name(app)}")
        check_option_names("RateLimit", options, OPTIONS)
        self.counts_by = counts_by(keys, identify, gate)
        others = [getattr(getattr(each, "__self__", None), "counts_by", None) for each in app.middlewares]
        if self.counts_by is not None and self.counts_by in others:
            raise TypeError(second_limit("RateLimit"))
        self._owned = OwnedGate(keys, identify, plans, backend, gate, options)
        app.middlewares.insert(0, self._limited)
        app.on_response_prepare.append(self._add_headers)
        app.cleanup_ctx.append(self._lifetime)

    @property
    def gate(self) -> AsyncGate:
        """The gate that decides."""
        return self._owned.gate

    @web.middleware
    async def _limited(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        entered = await enter(self.gate, request_of(request), state_of(request))
        if isinstance(entered, Reply):
            return await self._refused(entered, request)
        if entered is not None:
            request[DECISION] = entered.decision
            # aiohttp serves each request in its own task, which also sends the response.
            entered.end_with_task()
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Exception:
            # aiohttp answers it with a 500, which the application has not chosen.
            state_of(request)[_HAS_RAISED] = True
            raise

    async def _refused(self, reply: Reply, request: web.Request) -> web.StreamResponse:
        if self.gate.websocket_refusal == "accept_close":
            socket = web.WebSocketResponse()
            if socket.can_prepare(request):
                # Browser scripts see the code of a close, but not the status of a refused handshake.
                await socket.prepare(request)
                await socket.close(code=_TRY_AGAIN_LATER, message=b"rate limit exceeded")
                return socket
        return response_of(reply)

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        state = state_of(request)
        add_headers(self.gate, state, response.headers, None if _HAS_RAISED in state else response.status)

    async def _lifetime(self, _: web.Application) -> AsyncIterator[None]:
        self._owned.reopen()
        yield
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
    """Limit a handler, in its own bucket: a decorator for async functions and methods, and for `web.View` classes.

    See RouteLimit for the arguments. The limit uses `gate`, else the gate of the RateLimit of the app, else the memory
    of this process, where clients count by their address. A refused request is charged by no limit. Without RateLimit,
    a response that the handler has prepared itself does not report the limit.
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

    def __call__(self, handler: _Endpoint) -> _Endpoint:
        """Return `handler` with the limit. Raises TypeError for anything but an async function or a `web.View`."""
        was_registered = is_registered(handler)
        route = self._limit.route_of(handler)
        if isinstance(handler, type) and issubclass(handler, web.View):
            _limit_view(handler, lambda dispatch: self._limited(dispatch, None))
            return handler
        if isinstance(handler, type) or not inspect.iscoroutinefunction(handler):
            raise TypeError(f"limit: expected an async function or a web.View, got {type_name(handler)}")
        limited = self._limited(handler, route)
        if was_registered:
            _late_limits.note(handler, limited)
        return limited  # type: ignore[no-any-return]

    def _limited(self, handler: Any, route: str | None) -> Any:
        @wraps(handler)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            request = _request_in(handler, args)
            # Classes that inherit from a limited view are other routes.
            scope = route or self._limit.route_of(type(args[0]))
            admission = await admit_request(self._limit, scope, request_of(request), state_of(request), self._gate)
            if admission.reply is not None:
                return response_of(admission.reply)
            try:
                return _with_headers(await handler(*args, **kwargs), admission)
            except web.HTTPException as response:
                _with_headers(response, admission)
                raise

        return limited


def _check_handlers(app: web.Application) -> None:
    _late_limits.check(route.handler for route in app.router.routes())


_late_limits = LateLimits(lambda: check_after(web.Application, "freeze", _check_handlers))


def _limit_view(view: Any, limited_by: Callable[[Any], Any]) -> None:
    """Let the dispatch of a class of views, which aiohttp awaits, pass through `limited_by`."""
    dispatch = view.__await__

    @coroutine
    def dispatched(view: web.View) -> Any:
        return (yield from dispatch(view))

    limited = limited_by(dispatched)

    def __await__(view: web.View) -> Any:  # noqa: N807
        return limited(view).__await__()

    view.__await__ = __await__


def _request_in(handler: Any, args: tuple[Any, ...]) -> web.Request:
    """The request among the arguments of a handler, or of the view that is one."""
    for value in args:
        if isinstance(value, web.BaseRequest):
            return value  # type: ignore[return-value]
        if isinstance(value, web.View):
            return value.request
    raise called_without_request(handler, "a handler")


def _with_headers(response: Any, admission: Admission) -> Any:
    """`response`, with the headers that no RateLimit adds, unless they cannot be added any more."""
    if admission.headers and isinstance(response, web.StreamResponse) and not response.prepared:
        response.headers.extend(text_headers(admission.headers))
    return response
