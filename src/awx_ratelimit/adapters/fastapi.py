"""For FastAPI: limits of single routes, and API keys and limits in the OpenAPI document.

    @app.get("/search", dependencies=[Depends(limit("30/minute"))])
    async def search(): ...

A limit is also a decorator below that of the route.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from typing import Annotated, Any, NoReturn

from awx_ratelimit.runtime.extras import missing_package

try:
    import fastapi
    import fastapi.routing
    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection
    from starlette.responses import Response
except ModuleNotFoundError as error:
    raise missing_package("limits of FastAPI's routes need", error, "fastapi") from error

from awx_ratelimit.adapters.late_limits import is_registered
from awx_ratelimit.adapters.openapi import describe_gate, describe_limit
from awx_ratelimit.adapters.starlette import EndpointLimit, refuse
from awx_ratelimit.core.option_names import ROUTE_HINTS, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.message import Reply, Request
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit, SetLimit, limits_on, scope_of
from awx_ratelimit.pending_decision import mark_coroutine_function

_route_limit = partial(RouteLimit, middleware="app.add_middleware(RateLimitMiddleware, keys=...)")
#: On a function that makes the OpenAPI document with the limits.
_LIMITS = "awx_ratelimit_limits"
_HANDLERS = "starlette.exception_handlers"
#: In the scopes of mounted apps.
_MOUNTED = "app_root_path"


class _NoParameter:
    """In an annotation: FastAPI finds it if it takes `limit` itself for a dependency, and asks pydantic for a type."""

    @staticmethod
    def __get_pydantic_core_schema__(*_: object) -> NoReturn:
        raise TypeError("limit: expected a call in Depends, got the function; write Depends(limit('5/minute'))")


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
    gate: Annotated[AsyncGate | None, _NoParameter] = None,
) -> "FastApiLimit":
    """Limit a route, in its own bucket: a dependency, and a decorator below ``@app.get(...)``.

    As a dependency of a router or an app it limits each of their routes. See RouteLimit for the arguments, and
    `awx_ratelimit.adapters.starlette.limit` for what decides. The route's 429 is in the OpenAPI document.
    """
    _document_routes()
    checked = _route_limit(
        limit, per=per, cost=cost, scope=scope, charge_on=charge_on, wait_ms=wait_ms, max_waiting=max_waiting
    )
    return FastApiLimit(checked, gate)


class RouteRefused(HTTPException):
    """A dependency has refused the request with `reply`. It is a 429 or a 503."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status, headers={name.decode(): value.decode() for name, value in reply.headers})
        self.reply = reply


class FastApiLimit(EndpointLimit):
    """The dependency and decorator that `limit` returns."""

    def __init__(self, limit: RouteLimit, gate: AsyncGate | None) -> None:
        super().__init__(limit, gate)
        self._scopes: dict[tuple[Any, str, str], str] = {}
        #: What FastAPI passes to a dependency.
        self.__signature__ = inspect.Signature(
            [
                inspect.Parameter("connection", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=HTTPConnection),
                inspect.Parameter("response", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Response),
            ]
        )

    @mark_coroutine_function
    def __call__(self, connection: Any, response: Response | None = None) -> Any:
        """Decide as a dependency; return an endpoint with the limit as a decorator."""
        if isinstance(connection, HTTPConnection):
            return self._check(connection, response)
        was_registered = is_registered(connection)
        return self.decorate_noted(connection, was_registered=was_registered)

    def decorate(self, endpoint: Any) -> Any:
        """Return `endpoint` with the limit. It need not have a parameter for the request."""
        self.limit.route_of(endpoint)  # a wrapper of a nameless endpoint would have a name
        parameters = inspect.signature(endpoint).parameters
        names = [name for name, each in parameters.items() if _is_connection(each.annotation)]
        return super().decorate(endpoint if names else _taking_a_request(endpoint))

    def set_on(self, scope: Any) -> SetLimit:
        """This dependency on the route that `scope` has matched."""
        return SetLimit(self.limit, lambda _: self._scope_of(scope), self._gate)

    async def _check(self, connection: HTTPConnection, response: Response | None) -> None:
        admission = await self.admit(connection, self._scope_of(connection.scope))
        if admission.reply is not None:
            handlers = connection.scope.get(_HANDLERS)
            if handlers is not None:
                # The same dictionary serves every request of the app.
                handlers[0].setdefault(RouteRefused, _answer)
            raise RouteRefused(admission.reply)
        if response is not None and admission.headers:
            # The headers of a limit before this one are among these.
            names = {name for name, _ in admission.headers}
            kept = [pair for pair in response.raw_headers if pair[0] not in names]
            response.raw_headers[:] = [*kept, *admission.headers]

    def _scope_of(self, scope: Any) -> str:
        """The scope of a route: its name, with a hash of its path if another route of the app has that name.

        A route of a mounted app has a hash in any case: that app does not know the routes of others.
        """
        route = scope["route"]
        context = scope.get("fastapi", {}).get("effective_route_context") or route
        name, path = context.name, context.path_format if hasattr(context, "path_format") else context.path
        identity = f"{sorted(getattr(context, 'methods', None) or ())} {path}"
        key = scope["app"], name, identity
        found = self._scopes.get(key)
        if found is None:
            names = Counter(each.name for each in _routes(scope["app"]) if hasattr(each, "name"))
            is_mounted = _MOUNTED in scope
            if is_mounted:
                identity += f" {_place_of(route.endpoint)}"
            is_unique = names[name] == 1 and not is_mounted
            found = self._scopes[key] = scope_of(name, identity, is_unique=is_unique)
        return found


def _place_of(endpoint: Any) -> str:
    code = getattr(inspect.unwrap(endpoint), "__code__", None)
    place = f"{getattr(endpoint, '__module__', '')}:{getattr(endpoint, '__qualname__', '')}"
    return f"{place}:{getattr(code, 'co_firstlineno', '')}"


async def _answer(connection: Any, refused: Any) -> Any:
    return await refuse(connection, refused.reply)


def _is_connection(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, HTTPConnection)


def _taking_a_request(endpoint: Any) -> Any:
    """`endpoint` with one more parameter, through which FastAPI passes the request."""
    signature = inspect.signature(endpoint)
    if inspect.iscoroutinefunction(endpoint):

        @wraps(endpoint)
        async def with_request(*args: Any, _request: HTTPConnection | None = None, **kwargs: Any) -> Any:
            return await endpoint(*args, **kwargs)
    else:

        @wraps(endpoint)
        def with_request(*args: Any, _request: HTTPConnection | None = None, **kwargs: Any) -> Any:
            return endpoint(*args, **kwargs)

    # A HTTPConnection is a request or a WebSocket: annotations that are still texts do not tell which it is. FastAPI
    # looks them up in the module of the function that is wrapped.
    request = inspect.Parameter("_request", inspect.Parameter.KEYWORD_ONLY, annotation=HTTPConnection)
    kept = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    with_request.__signature__ = signature.replace(parameters=[*kept, request])  # type: ignore[attr-defined]
    return with_request


def document_limits(app: Any, gate: AsyncGate) -> None:
    """Show how a key is sent, the 401 and the 429 in `app`'s OpenAPI document, except on exempt paths.

    Call it once, after you create the app. It also covers routes that are added later. Raises TypeError unless `app`
    is a FastAPI app and `gate` an AsyncGate.
    """
    if not isinstance(gate, AsyncGate) or not callable(getattr(app, "openapi", None)):
        raise TypeError(
            f"document_limits: expected a FastAPI app and its AsyncGate, got {type_name(app)} and {type_name(gate)}"
        )
    _document_routes()
    generate = app.openapi

    def openapi() -> Any:
        document = generate()
        describe_gate(document, gate)
        return document

    app.openapi = openapi


def _document_routes() -> None:
    """Let every FastAPI app show the 429 of its limited routes. A second call changes nothing."""
    generate = fastapi.FastAPI.openapi
    if getattr(generate, _LIMITS, False):
        return

    @wraps(generate)
    def openapi(app: Any) -> dict[str, Any]:
        document = generate(app)
        for route in _routes(app):
            if _is_limited(route):
                for method in getattr(route, "methods", None) or ():
                    describe_limit(document, route.path_format, method)
        return document

    setattr(openapi, _LIMITS, True)
    fastapi.FastAPI.openapi = openapi  # type: ignore[method-assign,assignment]


def _routes(app: Any) -> Iterator[Any]:
    """The routes of an app, those of included routers with their whole paths."""
    # Older versions of FastAPI copy the routes of included routers into the app.
    contexts: Callable[[Any], Iterator[Any]] = getattr(fastapi.routing, "iter_route_contexts", iter)
    return contexts(app.routes)


def _is_limited(route: Any) -> bool:
    return bool(limits_on(getattr(route, "endpoint", None))) or _depends_on_limit(getattr(route, "dependant", None))


def _depends_on_limit(dependant: Any) -> bool:
    return any(True for _ in limits_among(dependant))


def limits_among(dependant: Any) -> Iterator[FastApiLimit]:
    """The limits that a route depends on, in the order in which FastAPI calls them."""
    for part in getattr(dependant, "dependencies", ()):
        yield from limits_among(part)
    if isinstance(call := getattr(dependant, "call", None), FastApiLimit):
        yield call
