"""For Flask: an extension that limits a whole app, and limits of single views.

    app = Flask(__name__)
    RateLimit(app, keys={"awx_example_key": "starter"})

    @app.get("/search")
    @limit("5/minute", per="address")
    def search(): ...

A decorated view needs no RateLimit.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Annotated, Any, TypeVar
from weakref import WeakSet

from awx_ratelimit.runtime.extras import missing_package

try:
    import flask
except ModuleNotFoundError as error:
    raise missing_package("limits of Flask's views need", error, "flask") from error

from awx_ratelimit.adapters.late_limits import LateLimits, is_registered
from awx_ratelimit.adapters.middleware import MIDDLEWARE_OPTIONS, WsgiRateLimitMiddleware
from awx_ratelimit.adapters.options import NotADependency, OnlyDecorates, called_without_request, check_route_gate
from awx_ratelimit.adapters.wsgi.route_limits import admit
from awx_ratelimit.core.option_names import ROUTE_HINTS, check_option_names, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.message import Reply, Request, text_headers
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit, SetLimit, note_limit

__all__ = ["RateLimit", "limit"]

_EXTENSION = "awx_ratelimit"
_View = TypeVar("_View", bound=Callable[..., Any])
_route_limit = partial(RouteLimit, middleware="RateLimit(app, keys=...)")


class RateLimit:
    """Limits every request of a Flask app. `arguments` are the arguments of WsgiRateLimitMiddleware.

    Without `app`, `init_app` limits one later, such as one from a factory; each app has its own gate. Raises the
    errors of WsgiRateLimitMiddleware, and TypeError for anything but a Flask app.
    """

    def __init__(self, app: flask.Flask | None = None, **arguments: Any) -> None:
        check_option_names("RateLimit", arguments, MIDDLEWARE_OPTIONS)
        self._arguments = arguments
        self._apps: WeakSet[flask.Flask] = WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Limit `app`. A second call for the same app does nothing.

        Raises TypeError for an app that has another limit of the same clients.
        """
        if not isinstance(app, flask.Flask):
            raise TypeError(f"app: expected a Flask app, got {type_name(app)}; write RateLimit(app, keys=...)")
        if app not in self._apps:
            app.wsgi_app = WsgiRateLimitMiddleware(app.wsgi_app, **self._arguments)  # type: ignore[method-assign]
            app.extensions.setdefault(_EXTENSION, self)
            self._apps.add(app)


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
    gate: Gate | None = None,
) -> "ViewLimit":
    """Limit a view, in its own bucket: a decorator for functions, including async ones, and an item of `decorators`.

    See RouteLimit for the arguments. The limit uses `gate`, else the gate of the middleware around the app, else the
    memory of this process, where clients count by their address. A refused request is charged by no limit.
    """
    checked = _route_limit(
        limit, per=per, cost=cost, scope=scope, charge_on=charge_on, wait_ms=wait_ms, max_waiting=max_waiting
    )
    return ViewLimit(checked, gate)


class ViewLimit(OnlyDecorates):
    """The decorator that `limit` returns."""

    def __init__(self, limit: RouteLimit, gate: Gate | None) -> None:
        check_route_gate(gate, Gate)
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
        is_async = inspect.iscoroutinefunction(view)

        @wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            try:
                environ = flask.request.environ
            except RuntimeError:
                raise called_without_request(view, "a view") from None
            admission = admit(self._limit, route, environ, self._gate)
            if admission.reply is not None:
                return response_of(admission.reply)
            result = (flask.current_app.ensure_sync(view) if is_async else view)(*args, **kwargs)
            # None: another function of `before_request` or the view responds.
            if result is None or not admission.headers:
                return result
            response = flask.make_response(result)
            response.headers.extend(text_headers(admission.headers))
            return response

        note_limit(limited, view, SetLimit(self._limit, lambda _: route, self._gate))
        if was_registered:
            _late_limits.note(view, limited)
        return limited  # type: ignore[return-value]


def _check_views(app: flask.Flask, **_: Any) -> None:
    if app not in _checked:
        _late_limits.check(app.view_functions.values())
        _checked.add(app)


def _watch() -> None:
    # Flask has no event for the start of an app.
    flask.request_started.connect(_check_views)


_checked: WeakSet[flask.Flask] = WeakSet()
_late_limits = LateLimits(_watch)


def response_of(reply: Reply) -> flask.Response:
    """`reply` as a response of Flask."""
    return flask.Response(reply.body, reply.status, text_headers(reply.headers))
