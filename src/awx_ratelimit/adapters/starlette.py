"""The middleware for Starlette, FastAPI, Litestar, Quart, Django and any other ASGI app, and limits of single routes.

    @limit("5/minute", per="address")
    async def search(request): ...

Only a limit imports Starlette.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from awx_ratelimit.adapters.asgi.lifespan import failing_app
from awx_ratelimit.adapters.asgi.middleware import RateLimitMiddleware
from awx_ratelimit.adapters.asgi.route_limits import admit
from awx_ratelimit.adapters.late_limits import LateLimits, is_registered
from awx_ratelimit.adapters.options import NotADependency, OnlyDecorates, called_without_request, check_route_gate
from awx_ratelimit.core.option_names import ROUTE_HINTS, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.message import Reply, Request
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit, SetLimit, note_limit
from awx_ratelimit.runtime.extras import missing_package

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

__all__ = ["RateLimitMiddleware", "limit"]

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_route_limit = partial(RouteLimit, middleware="app.add_middleware(RateLimitMiddleware, keys=...)")


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
) -> "EndpointLimit":
    """Limit an endpoint, in its own bucket: a decorator for functions, and for subclasses of HTTPEndpoint.

    See RouteLimit for the arguments. The limit uses `gate`, else the gate of the middleware around the app, else the
    memory of this process, where clients count by their address. A refused request is charged by no limit.
    """
    _check_installed()
    checked = _route_limit(
        limit, per=per, cost=cost, scope=scope, charge_on=charge_on, wait_ms=wait_ms, max_waiting=max_waiting
    )
    return EndpointLimit(checked, gate)


def _check_installed() -> None:
    """Raise ImportError without Starlette. The middleware does not need it."""
    try:
        import starlette  # noqa: F401  # only a limit needs it
    except ModuleNotFoundError as error:
        raise missing_package("limits of Starlette's endpoints need", error, "starlette") from error


class EndpointLimit(OnlyDecorates):
    """The decorator that `limit` returns."""

    def __init__(self, limit: RouteLimit, gate: AsyncGate | None) -> None:
        check_route_gate(gate, AsyncGate)
        self.limit = limit
        self._gate = gate

    def __call__(self, endpoint: Annotated[_Endpoint, NotADependency]) -> _Endpoint:
        """Return `endpoint` with the limit."""
        was_registered = is_registered(endpoint)
        return self.decorate_noted(endpoint, was_registered=was_registered)  # type: ignore[no-any-return]

    def decorate_noted(self, endpoint: Any, *, was_registered: bool) -> Any:
        """`decorate`; if `endpoint` was registered before, its app will check whether it has the limit."""
        limited = self.decorate(endpoint)
        if was_registered:
            late_limits.note(endpoint, limited)
        return limited

    def decorate(self, endpoint: Any) -> Any:
        """Return `endpoint` with the limit. Raises TypeError for anything but a function or a class of endpoints."""
        route = self.limit.route_of(endpoint)
        if isinstance(endpoint, type):
            setattr(endpoint, "dispatch", self._limited_method(endpoint))  # noqa: B010  # mypy knows no endpoint
            return endpoint
        if not callable(endpoint):
            raise TypeError(f"limit: expected a function or an HTTPEndpoint, got {type_name(endpoint)}")
        return self._limited(endpoint, route)

    def admit(self, connection: "HTTPConnection", route: str) -> Awaitable[Admission]:
        """Decide the limit for a request or a WebSocket."""
        return admit(self.limit, route, connection.scope, self._gate)

    def _limited(self, endpoint: Any, route: str) -> Any:
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import HTTPConnection

        # An object may be an async endpoint.
        is_async = inspect.iscoroutinefunction(endpoint) or inspect.iscoroutinefunction(type(endpoint).__call__)

        @wraps(endpoint)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            first = args[0] if args else None
            connection = first if isinstance(first, HTTPConnection) else connection_of(endpoint, args, kwargs)
            admission = await self.admit(connection, route)
            if admission.reply is not None:
                return await refuse(connection, admission.reply)
            call = endpoint(*args, **kwargs) if is_async else run_in_threadpool(endpoint, *args, **kwargs)
            return with_headers(await call, admission)

        note_limit(limited, endpoint, SetLimit(self.limit, lambda _: route, self._gate))
        return limited

    def _limited_method(self, endpoint: Any) -> Any:
        if not hasattr(endpoint, "dispatch"):
            raise TypeError(f"limit: expected a function or an HTTPEndpoint, got {type_name(endpoint)}")
        dispatch = endpoint.dispatch

        @wraps(dispatch)
        async def limited(view: Any) -> None:
            connection = _connection_of_view(view)
            # Classes that inherit from `endpoint` are other routes.
            admission = await self.admit(connection, self.limit.route_of(type(view)))
            if admission.reply is None:
                view.send = _sending(view.send, admission)
                await dispatch(view)
                return
            response = await refuse(connection, admission.reply)
            if response is not None:
                await response(view.scope, view.receive, view.send)

        note_limit(limited, dispatch, SetLimit(self.limit, self.limit.route_of, self._gate))
        return limited


def _check_starts() -> None:
    """Let apps of Starlette, and of classes that are derived from it, check their limits at their start."""
    from starlette.applications import Starlette

    pending = [Starlette]
    while pending:
        app_class: Any = pending.pop()
        pending += app_class.__subclasses__()
        if "build_middleware_stack" in vars(app_class):
            app_class.build_middleware_stack = _checked(app_class.build_middleware_stack)


def _checked(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(build)
    def build_checked(app: Any) -> Any:
        try:
            late_limits.check(_endpoints(app.routes))
        except RuntimeError as error:
            return failing_app(error)
        return build(app)

    return build_checked


def _endpoints(routes: Any) -> Iterator[Any]:
    for route in routes if isinstance(routes, list | tuple) else ():
        if hasattr(route, "endpoint"):
            yield route.endpoint
        # Mounted apps have routes, and FastAPI keeps the routers that an app includes.
        yield from _endpoints(getattr(getattr(route, "original_router", route), "routes", ()))


#: Also those of FastAPI.
late_limits = LateLimits(_check_starts)


def _connection_of_view(view: Any) -> "HTTPConnection":
    from starlette.requests import Request as StarletteRequest
    from starlette.websockets import WebSocket

    if view.scope["type"] == "websocket":
        return WebSocket(view.scope, view.receive, view.send)
    return StarletteRequest(view.scope, view.receive)


def connection_of(endpoint: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "HTTPConnection":
    """The request or the WebSocket among the arguments of an endpoint. Raises TypeError if there is none."""
    from starlette.requests import HTTPConnection

    for value in (*args, *kwargs.values()):
        if isinstance(value, HTTPConnection):
            return value
    raise called_without_request(endpoint, "an endpoint")


def response_of(reply: Reply) -> "Response":
    """`reply` as a response of Starlette."""
    from starlette.responses import Response

    response = Response(reply.body, reply.status)
    response.raw_headers = [*reply.headers]
    return response


async def refuse(connection: Any, reply: Reply) -> Any:
    """Return the response to a refused request, or end a refused WebSocket with it."""
    if connection.scope["type"] == "http":
        return response_of(reply)
    if "websocket.http.response" in (connection.scope.get("extensions") or ()):
        await connection.send_denial_response(response_of(reply))
    else:
        await connection.close(1013)
    return None


def with_headers(result: Any, admission: Admission) -> Any:
    """`result`, with the headers that no middleware adds if it is a response."""
    if admission.headers and hasattr(result, "raw_headers"):
        result.raw_headers = [*result.raw_headers, *admission.headers]
    return result


def _sending(send: Any, admission: Admission) -> Any:
    async def send_with_headers(message: Any) -> None:
        if message["type"] == "http.response.start" and admission.headers:
            message = {**message, "headers": [*message.get("headers", ()), *admission.headers]}
        await send(message)

    return send_with_headers
