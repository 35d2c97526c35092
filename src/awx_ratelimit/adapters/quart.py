"""For Quart: limits of single views. For the whole app use `awx_ratelimit.RateLimitMiddleware`.

    @app.get("/search")
    @limit("5/minute", per="address")
    async def search(): ...

A decorated view needs no middleware.
"""

from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Annotated, Any, TypeVar
from weakref import WeakSet

from awx_ratelimit.runtime.extras import missing_package

try:
    import quart
except ModuleNotFoundError as error:
    raise missing_package("limits of Quart's views need", error, install="quart") from error

from awx_ratelimit.adapters.asgi.route_limits import admit
from awx_ratelimit.adapters.late_limits import LateLimits, is_registered
from awx_ratelimit.adapters.options import NotADependency, OnlyDecorates, called_without_request, check_route_gate
from awx_ratelimit.core.option_names import ROUTE_HINTS, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.message import Reply, Request, text_headers
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit, SetLimit, note_limit

__all__ = ["limit"]

_View = TypeVar("_View", bound=Callable[..., Any])
_route_limit = partial(RouteLimit, middleware="app.asgi_app = RateLimitMiddleware(app.asgi_app, keys=...)")


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
) -> "ViewLimit":
    """Limit a view, in its own bucket: a decorator for functions, async or not, and an item of `decorators`.

    A WebSocket view is limited at its handshake. See RouteLimit for the arguments. The limit uses `gate`, else the gate
    of the middleware around the app, else the memory of this process, where clients count by their address. A refused
    request is charged by no limit.
    """
    checked = _route_limit(
        limit, per=per, cost=cost, scope=scope, charge_on=charge_on, wait_ms=wait_ms, max_waiting=max_waiting
    )
    return ViewLimit(checked, gate)


class ViewLimit(OnlyDecorates):
    """The decorator that `limit` returns."""

    def __init__(self, limit: RouteLimit, gate: AsyncGate | None) -> None:
        check_route_gate(gate, AsyncGate)
        self._limit = limit
        self._gate = gate

    def __call__(self, view: Annotated[_View, NotADependency]) -> _View:
        """Return `view` with the limit. Raises TypeError for anything but a function."""
        if not callable(view) or isinstance(view, type):
            raise TypeError(
                f"limit: expected a function, got {type_name(view)}; write decorators = [limit(...)] in a View"
            )
        was_registered = is_registered(view)
        route = self._limit.route_of(view)

        @wraps(view)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            in_request = quart.has_request_context()
            connection: Any = quart.request if in_request else quart.websocket
            try:
                scope = connection.scope
            except RuntimeError:
                raise called_without_request(view, "a view") from None
            admission = await admit(self._limit, route, scope, self._gate)
            if admission.reply is not None:
                return response_of(admission.reply)
            result = await quart.current_app.ensure_async(view)(*args, **kwargs)
            # None: another function of `before_request` or the view responds.
            if result is None or not admission.headers or not in_request:
                return result
            response = await quart.make_response(result)
            response.headers.extend(text_headers(admission.headers))
            return response

        note_limit(limited, view, SetLimit(self._limit, lambda _: route, self._gate))
        if was_registered:
            _late_limits.note(view, limited)
        return limited  # type: ignore[return-value]


def _watch() -> None:
    for signal in (quart.request_started, quart.websocket_started):
        signal.connect(_check_views)


async def _check_views(app: quart.Quart, **_: Any) -> None:
    if app not in _checked:
        _late_limits.check(app.view_functions.values())
        _checked.add(app)


_checked: WeakSet[quart.Quart] = WeakSet()
_late_limits = LateLimits(_watch)


def response_of(reply: Reply) -> quart.Response:
    """`reply` as a response of Quart."""
    response = quart.Response(reply.body, reply.status)
    response.headers.clear()
    response.headers.extend(text_headers(reply.headers))
    return response
