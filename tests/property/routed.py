"""Real routers of seven frameworks over the same routes: they show which route a framework chooses for a request.

An app appends the name of the route that answers to `CHOSEN`.
"""

import asyncio
import io
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import falcon
import falcon.asgi
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import Http404
from django.urls import path as django_path
from django.urls.resolvers import RegexPattern, URLResolver
from examples import django_app
from flask import Flask
from litestar import Litestar, get
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

with warnings.catch_warnings():
    # It imports `cgi` and `pkg_resources`, which are deprecated.
    warnings.simplefilter("ignore")
    from pyramid.config import Configurator

assert settings.configured, django_app

#: The routes, by name. `{rest}` matches the rest of the path.
ROUTES = {
    "health": "/health",
    "static": "/static/{rest}",
    "transfers": "/v1/transfers",
    "login": "/login",
    "secret": "/v1/secret",
    "agent": "/v1/agents/{id}",
}
CHOSEN: list[str] = []
_LOOP = asyncio.new_event_loop()


def run(awaited: Coroutine[Any, Any, Any]) -> None:
    """Run `awaited` to its end."""
    _LOOP.run_until_complete(awaited)


def _answering(name: str) -> Callable[..., str]:
    def answer(*_: Any, **__: Any) -> str:
        CHOSEN.append(name)
        return name

    answer.__name__ = name
    return answer


def _route(text: str, rest: str, segment: str) -> str:
    return text.replace("{rest}", rest).replace("{id}", segment)


def starlette() -> Any:
    def endpoint(name: str) -> Any:
        return lambda request: PlainTextResponse(_answering(name)())

    return Starlette(
        routes=[
            Route(_route(text, "{rest:path}", "{id}"), endpoint(name), methods=["GET", "POST"])
            for name, text in ROUTES.items()
        ]
    )


def quart() -> Any:
    def view(name: str) -> Any:
        async def answer(**_: Any) -> str:
            return _answering(name)()

        return answer

    app = Quart("quart", static_folder=None)
    for name, text in ROUTES.items():
        app.add_url_rule(_route(text, "<path:rest>", "<id>"), name, view(name), methods=["GET", "POST"])
    return app


def litestar() -> Any:
    def handler(name: str, text: str) -> Any:
        answer = _answering(name)

        @get(_route(text, "{rest:path}", "{id:str}"), name=name, sync_to_thread=False)
        def handle() -> str:
            return answer()

        return handle

    return Litestar([handler(name, text) for name, text in ROUTES.items()], openapi_config=None)


def _falcon_resource(name: str) -> Any:
    async def on_get(*_: Any, **__: Any) -> None:
        CHOSEN.append(name)

    return SimpleNamespace(on_get=lambda *_, **__: CHOSEN.append(name), on_get_async=on_get)


def falcon_wsgi() -> Any:
    app = falcon.App()
    for name, text in ROUTES.items():
        app.add_route(_route(text, "{rest:path}", "{id}"), _falcon_resource(name))
    return app


def falcon_asgi() -> Any:
    app = falcon.asgi.App()
    for name, text in ROUTES.items():
        resource = _falcon_resource(name)
        resource.on_get = resource.on_get_async
        app.add_route(_route(text, "{rest:path}", "{id}"), resource)
    return app


def flask() -> Any:
    app = Flask("flask", static_folder=None)
    for name, text in ROUTES.items():
        app.add_url_rule(_route(text, "<path:rest>", "<id>"), name, _answering(name), methods=["GET", "POST"])
    return app


_VIEW: Any = _answering("django")
_DJANGO = URLResolver(
    RegexPattern(r"^/"),
    [django_path(_route(text, "<path:rest>", "<str:id>")[1:], _VIEW, name=name) for name, text in ROUTES.items()],
)


def _resolve(path_info: str) -> None:
    try:
        CHOSEN.append(_DJANGO.resolve(path_info).url_name or "")
    except Http404:
        return


def django_wsgi() -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        # Django's handler answers 400 in this case.
        with suppress(UnicodeDecodeError):
            _resolve(WSGIRequest(environ).path_info)
        start_response("200 OK", [])
        return []

    return app


def django_asgi() -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        _resolve(ASGIRequest(scope, io.BytesIO()).path_info)

    return app


def pyramid_routes() -> Any:
    with Configurator() as config:
        for name, text in ROUTES.items():
            config.add_route(name, _route(text, "*rest", "{id}").replace("/*", "*"))
            config.add_view(_pyramid_view(name), route_name=name, renderer="string")
        return config.make_wsgi_app()


def pyramid_traversal() -> Any:
    """The same routes as views of resources, which also answer below their path."""

    class Root(dict[str, Any]):
        pass

    class Folder(dict[str, Any]):
        pass

    class Static(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            return Static()

    root = Root(static=Static(), v1=Folder(agents=Static()))
    with Configurator(root_factory=lambda request: root) as config:
        for name, kind, view in (
            ("health", Root, "health"),
            ("login", Root, "login"),
            ("transfers", Folder, "transfers"),
            ("secret", Folder, "secret"),
            ("static", Static, ""),
        ):
            config.add_view(_pyramid_view(name), context=kind, name=view, renderer="string")
        return config.make_wsgi_app()


def _pyramid_view(name: str) -> Any:
    return lambda context, request: _answering(name)()


ASGI = {
    "starlette": starlette,
    "quart": quart,
    "litestar": litestar,
    "falcon": falcon_asgi,
    "django": django_asgi,
}
WSGI = {
    "flask": flask,
    "django": django_wsgi,
    "falcon": falcon_wsgi,
    "pyramid-routes": pyramid_routes,
    "pyramid-traversal": pyramid_traversal,
}
