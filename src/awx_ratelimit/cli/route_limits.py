"""Finds the limits that an app has set on the route of a request, without a call of the route.

The router of the framework is asked. It is known for FastAPI, Starlette, Flask, Quart and Django.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from awx_ratelimit.cli.app_gates import objects_in
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.explain import AnyGate
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.route_limit import SetLimit, limits_on

_FRAMEWORKS: Final = "FastAPI, Starlette, Flask, Quart and Django"
_MORE_THAN_THE_PATH: Final = "the app chooses routes by more than the path"


class RoutesUnknown(Exception):
    """The routes of the app cannot be read. The message says why."""


def expect_limits(app: Any, gate: AnyGate, request: Request) -> None:
    """Let `gate` explain the limits of the route of `request`, which nobody has sent, too.

    Raises RoutesUnknown if there may be limits that it does not know.
    """
    others = False
    for each in _limits_of_route(app, request.method, request.path):
        if each.gate not in (None, gate):
            others = True
        elif bound := each.limit.bound(each.route_for(None), request.source):
            gate.expect_route_limit(request, bound)
    if others:
        raise RoutesUnknown("another gate than that of the app decides some of them")


def _limits_of_route(app: Any, method: str, path: str) -> Iterable[SetLimit]:
    for found in objects_in(app):
        for framework, name, limits in _READERS:
            kind = getattr(sys.modules.get(framework), name, None)
            if kind is not None and isinstance(found, kind):
                return limits(found, method, path)
    raise RoutesUnknown(f"the command finds them in apps of {_FRAMEWORKS}, and --app names something else")


def _of_starlette(app: Any, method: str, path: str) -> Iterator[SetLimit]:
    """Also for FastAPI, which keeps the routers that an app includes."""
    yield from _among(app, method, path, {"app": app})


def _among(app: Any, method: str, path: str, scope: Mapping[str, Any]) -> Iterable[SetLimit]:
    contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", iter)
    for route in contexts(app.routes):
        if not hasattr(route, "path_regex"):
            raise RoutesUnknown(_MORE_THAN_THE_PATH)
        matched = route.path_regex.match(path)
        if matched and getattr(route, "endpoint", None) is None:
            return _of_mounted(route, method, f"/{matched.groupdict().get('path', '')}")
        if matched and method in (getattr(route, "methods", None) or (method,)):
            return _of_endpoint(route, {**scope, "route": route})
    return ()


def _of_endpoint(route: Any, scope: Mapping[str, Any]) -> Iterator[SetLimit]:
    if (dependant := getattr(route, "dependant", None)) is not None:
        from awx_ratelimit.adapters.fastapi import limits_among

        yield from (each.set_on(scope) for each in limits_among(dependant))
    endpoint = route.endpoint
    if not isinstance(endpoint, type):
        yield from limits_on(endpoint)
        return
    for each in limits_on(getattr(endpoint, "dispatch", None)):
        yield _on_class(each, endpoint)


def _on_class(limit: SetLimit, owner: type[Any]) -> SetLimit:
    scope = limit.route_for(owner)
    return limit._replace(route_for=lambda _: scope)


def _of_mounted(mount: Any, method: str, path: str) -> Iterable[SetLimit]:
    inner: Any = getattr(mount, "app", None)
    if not hasattr(inner, "routes"):
        raise RoutesUnknown("another app is mounted at the path")
    # As in the scope of a request to a mounted app.
    return _among(inner, method, path, {"app": inner, "app_root_path": ""})


def _of_flask(app: Any, method: str, path: str) -> Iterator[SetLimit]:
    """Also for Quart, which has the same maps of URLs and views."""
    adapts_itself = type(app).create_url_adapter.__module__.partition(".")[0] not in ("flask", "quart")
    if app.url_map.host_matching or app.subdomain_matching or adapts_itself:
        raise RoutesUnknown(_MORE_THAN_THE_PATH)
    try:
        endpoint, _ = app.url_map.bind("localhost").match(path, method=method)
    except Exception as error:
        # Without a view, werkzeug, which is not imported here, raises its response.
        if hasattr(error, "get_response"):
            return
        raise RoutesUnknown(f"the router of the app raised {type_name(error)}") from error
    view = app.view_functions.get(endpoint)
    yield from limits_on(view)
    yield from limits_on(getattr(getattr(view, "view_class", None), method.lower(), None))


def _of_django(_: Any, method: str, path: str) -> Iterable[SetLimit]:
    from awx_ratelimit.adapters.django.limits import limits_of_view, view_at

    view = view_at(path)
    owner = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if getattr(owner, "throttle_classes", None) or "ninja" in getattr(view, "__module__", ""):
        raise RoutesUnknown("Django REST framework or django-ninja decides the throttles of the view")
    return [] if view is None else limits_of_view(view, method)


_READERS: Final[tuple[tuple[str, str, Callable[[Any, str, str], Iterable[SetLimit]]], ...]] = (
    ("starlette.applications", "Starlette", _of_starlette),
    ("flask", "Flask", _of_flask),
    ("quart", "Quart", _of_flask),
    ("django.core.handlers.base", "BaseHandler", _of_django),
)
