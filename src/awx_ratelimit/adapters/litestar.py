"""For Litestar: limits of single routes. For the whole app use `awx_ratelimit.RateLimitMiddleware`.

    @limit("30/minute")
    @get("/search")
    async def search() -> str: ...

A decorated route needs no middleware.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from awx_ratelimit.runtime.extras import missing_package

try:
    import litestar
    from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
    from litestar.openapi.datastructures import ResponseSpec
except ModuleNotFoundError as error:
    raise missing_package("limits of Litestar's routes need", error, install="litestar") from error

from awx_ratelimit.adapters.asgi.middleware import App
from awx_ratelimit.adapters.asgi.route_limits import admit
from awx_ratelimit.adapters.asgi.scope import Message, Receive, Scope, Send, send_reply
from awx_ratelimit.adapters.options import check_route_gate
from awx_ratelimit.core.option_names import ROUTE_HINTS, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.scope import scope_of
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.message import Headers, Reply, Request
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit

__all__ = ["limit"]

_route_limit = partial(RouteLimit, middleware="app = RateLimitMiddleware(app, keys=...)")
_STARTS = frozenset(("http.response.start", "websocket.accept"))
_TRY_AGAIN_LATER = 1013


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
) -> "LitestarLimit":
    """Limit a route, in its own bucket: a decorator above ``@get(...)``, and an item of `middleware`.

    On a Controller, or in the `middleware` of a router or an app, it limits each of their routes. A decorated route
    shows the 429 in the OpenAPI document. See RouteLimit for the arguments. The limit uses `gate`, else the gate of the
    middleware around the app, else the memory of this process, where clients count by their address. A refused request
    is charged by no limit.
    """
    checked = _route_limit(
        limit, per=per, cost=cost, scope=scope, charge_on=charge_on, wait_ms=wait_ms, max_waiting=max_waiting
    )
    return LitestarLimit(checked, gate)


@dataclass
class RateLimitError:
    """The body of a 429."""

    code: str
    type: str
    message: str


class LitestarLimit:
    """The decorator and middleware that `limit` returns."""

    def __init__(self, limit: RouteLimit, gate: AsyncGate | None) -> None:
        check_route_gate(gate, AsyncGate)
        self._limit = limit
        self._gate = gate
        self._scopes: dict[tuple[str, str], str] = {}

    def __call__(self, handler: Any = None, *, app: App | None = None) -> Any:
        """Return a route handler or a Controller with the limit, or an ASGI app with the limit around `app`.

        Raises TypeError for anything else.
        """
        if app is not None:
            return self._middleware(app)
        if isinstance(handler, type) and issubclass(handler, litestar.Controller):
            for each in vars(handler).values():
                if isinstance(each, BaseRouteHandler):
                    self(each)
            return handler
        if not isinstance(handler, BaseRouteHandler):
            raise TypeError(
                f"limit: expected a route handler or a Controller, got {type_name(handler)}; "
                "write @limit(...) above @get(...)"
            )
        handler.middleware = [*(handler.middleware or ()), self]
        if isinstance(handler, HTTPRouteHandler):
            described = ResponseSpec(RateLimitError, generate_examples=False, description="A limit is reached.")
            handler.responses = {429: described, **(handler.responses or {})}
        return handler

    def __deepcopy__(self, _: Any) -> "LitestarLimit":
        """Controllers copy their handlers for each app. The limits of the copies stay one limit."""
        return self

    def _middleware(self, app: App) -> App:
        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            admission = await admit(self._limit, self._scope_of(scope), scope, self._gate)
            if admission.reply is not None:
                await _refuse(admission.reply, scope, send)
                return
            await app(scope, receive, _sending(send, admission.headers) if admission.headers else send)

        return limited

    def _scope_of(self, scope: Scope) -> str:
        """The scope of a route: its name, with a hash of its path if another route of the app has that name.

        All paths of one route handler are one route.
        """
        handler, path = scope["route_handler"], scope["path_template"]
        identity = _identity(handler, path)
        name = _name(handler)
        found = self._scopes.get((name, identity))
        if found is None:
            others = {_identity(each, at) for each, at in _routes(scope["litestar_app"]) if _name(each) == name}
            found = self._scopes[name, identity] = scope_of(name, identity, is_unique=others <= {identity})
        return found


def _name(handler: BaseRouteHandler) -> str:
    return handler.name or handler.handler_name.rpartition(".")[2]


def _identity(handler: BaseRouteHandler, path: str) -> str:
    own = max((each for each in handler.paths if path.endswith(each.rstrip("/"))), key=len, default="")
    return f"{path.removesuffix(own.rstrip('/'))} {handler.handler_name}"


def _routes(app: litestar.Litestar) -> Iterator[tuple[BaseRouteHandler, str]]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", None) or [route.route_handler]:  # type: ignore[union-attr]
            yield handler, route.path


async def _refuse(reply: Reply, scope: Scope, send: Send) -> None:
    if scope["type"] == "http":
        await send_reply(reply, scope, send)
    elif "websocket.http.response" in (scope.get("extensions") or ()):
        await send_reply(reply, scope, send, prefix="websocket.http")
    else:
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": ""})


def _sending(send: Send, headers: Headers) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] in _STARTS:
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return send_with_headers
