"""`limit` in Starlette, FastAPI and Flask."""

from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from flask import Blueprint, Flask
from flask.views import MethodView
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket
from tests.adapters.route_limit_laws import Answer, Get, RouteLimitLaws

from awx_ratelimit import Plan
from awx_ratelimit.adapters import fastapi as for_fastapi
from awx_ratelimit.adapters import flask as for_flask
from awx_ratelimit.adapters import starlette as for_starlette
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware as WsgiMiddleware


def asgi_get(app: Any) -> Get:
    """Sends to an ASGI app."""

    def get(path: str, key: str | None = None, address: str = "192.0.2.1") -> Answer:
        client = TestClient(app, client=(address, 4711))
        response = client.get(path, headers={"x-api-key": key} if key else {})
        return Answer(response.status_code, dict(response.headers), response.content)

    return get


def wsgi_get(app: Flask) -> Get:
    """Sends to a Flask app."""

    def get(path: str, key: str | None = None, address: str = "192.0.2.1") -> Answer:
        headers = {"X-API-Key": key} if key else {}
        with app.test_client().get(path, headers=headers, environ_base={"REMOTE_ADDR": address}) as response:
            lines = {name.lower(): value for name, value in response.headers}
            return Answer(response.status_code, lines, response.data)

    return get


class TestStarlette(RouteLimitLaws):
    """Decorated functions."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:  # noqa: C901  # one function for each route
        """Functions with the decorator."""
        decorate = for_starlette.limit

        @decorate("2/minute", **limit)
        async def one(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @decorate("2/minute", **limit)
        def two(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @decorate("3/minute", per="address", **limit)
        @decorate("2/minute", **limit)
        async def both(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @decorate("2/minute", per="everyone", **limit)
        async def everyone(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @decorate("2/minute", per="account", **limit)
        async def account(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @decorate("10/minute", cost=5, **limit)
        async def costly(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @decorate("2/minute", scope="shared", **limit)
        async def shared(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @decorate("2/minute", scope="shared", **limit)
        async def shared_too(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        async def free(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        views: list[Any] = [one, two, both, everyone, account, costly, shared, shared_too, free]
        app = Starlette(routes=[Route(f"/{view.__name__.replace('_', '-')}", view) for view in views])
        if around is not None:
            app.add_middleware(for_starlette.RateLimitMiddleware, gate=around)
        return asgi_get(app)


class TestFastApiDependencies(RouteLimitLaws):
    """Dependencies of routes."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:  # noqa: C901  # one function for each route
        """Functions with dependencies, of which one is in an included router."""
        app, router = FastAPI(), APIRouter()

        def depends(*limits: Any) -> Any:
            return {"dependencies": [Depends(each) for each in limits]}

        make = for_fastapi.limit

        @app.get("/one", **depends(make("2/minute", **limit)))
        async def one() -> str:
            return "ok"

        @router.get("/two", **depends(make("2/minute", **limit)))
        def two() -> str:
            return "ok"

        @app.get("/both", **depends(make("3/minute", per="address", **limit), make("2/minute", **limit)))
        async def both() -> str:
            return "ok"

        @app.get("/everyone", **depends(make("2/minute", per="everyone", **limit)))
        async def everyone() -> str:
            return "ok"

        @app.get("/account", **depends(make("2/minute", per="account", **limit)))
        async def account() -> str:
            return "ok"

        @app.get("/costly", **depends(make("10/minute", cost=5, **limit)))
        async def costly() -> str:
            return "ok"

        shared_limit = make("2/minute", scope="shared", **limit)

        @app.get("/shared", **depends(shared_limit))
        async def shared() -> str:
            return "ok"

        @app.get("/shared-too", **depends(shared_limit))
        async def shared_too() -> str:
            return "ok"

        @app.get("/free")
        async def free() -> str:
            return "ok"

        app.include_router(router)
        if around is not None:
            app.add_middleware(for_starlette.RateLimitMiddleware, gate=around)
        return asgi_get(app)


class TestFastApiDecorators(RouteLimitLaws):
    """Decorated endpoints without a parameter for the request."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:  # noqa: C901  # one function for each route
        """Functions with the decorator below that of the route."""
        app, make = FastAPI(), for_fastapi.limit

        @app.get("/one")
        @make("2/minute", **limit)
        async def one() -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get("/two")
        @make("2/minute", **limit)
        def two(request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get("/both")
        @make("3/minute", per="address", **limit)
        @make("2/minute", **limit)
        async def both() -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get("/everyone")
        @make("2/minute", per="everyone", **limit)
        async def everyone() -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get("/account")
        @make("2/minute", per="account", **limit)
        async def account() -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get("/costly")
        @make("10/minute", cost=5, **limit)
        async def costly() -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get("/shared")
        @make("2/minute", scope="shared", **limit)
        async def shared() -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get("/shared-too")
        @make("2/minute", scope="shared", **limit)
        def shared_too() -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get("/free")
        async def free() -> PlainTextResponse:
            return PlainTextResponse("ok")

        if around is not None:
            app.add_middleware(for_starlette.RateLimitMiddleware, gate=around)
        return asgi_get(app)


class TestFlask(RouteLimitLaws):
    """Decorated views."""

    is_async = False

    def app(self, limit: dict[str, Any], around: Any) -> Get:  # noqa: C901  # one function for each route
        """Functions, one of them async, with the decorator below that of the route."""
        app, decorate = Flask("app"), for_flask.limit

        @app.get("/one")
        @decorate("2/minute", **limit)
        def one() -> str:
            return "ok"

        @app.get("/two")
        @decorate("2/minute", **limit)
        async def two() -> str:
            return "ok"

        @app.get("/both")
        @decorate("3/minute", per="address", **limit)
        @decorate("2/minute", **limit)
        def both() -> str:
            return "ok"

        @app.get("/everyone")
        @decorate("2/minute", per="everyone", **limit)
        def everyone() -> str:
            return "ok"

        @app.get("/account")
        @decorate("2/minute", per="account", **limit)
        def account() -> str:
            return "ok"

        @app.get("/costly")
        @decorate("10/minute", cost=5, **limit)
        def costly() -> str:
            return "ok"

        @app.get("/shared")
        @decorate("2/minute", scope="shared", **limit)
        def shared() -> str:
            return "ok"

        @app.get("/shared-too")
        @decorate("2/minute", scope="shared", **limit)
        def shared_too() -> str:
            return "ok"

        @app.get("/free")
        def free() -> str:
            return "ok"

        if around is not None:
            app.wsgi_app = WsgiMiddleware(app.wsgi_app, gate=around)  # type: ignore[method-assign]
        return wsgi_get(app)


KEY = {"X-API-Key": "awx_example_key"}
ONE = Plan.of("one", per_minute=1)


def test_flask_extension() -> None:
    """`RateLimit(app, ...)` limits the whole app, with the arguments of the middleware."""
    app = Flask("app")
    for_flask.RateLimit(app, keys={"awx_example_key": ONE})

    statuses = [app.test_client().get("/", headers=headers).status_code for headers in ({}, KEY, KEY)]

    assert statuses == [401, 404, 429]


def test_flask_extension_for_factories() -> None:
    """`init_app` gives each app limits of its own; a second call changes nothing."""
    limits, apps = for_flask.RateLimit(keys={"awx_example_key": ONE}), [Flask("a"), Flask("b")]
    for app in apps * 2:
        limits.init_app(app)

    assert [app.test_client().get("/", headers=KEY).status_code for app in apps] == [404, 404]
    assert [app.test_client().get("/", headers=KEY).status_code for app in apps] == [429, 429]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((None, {}), "expected one of them, got none"), (("app", {"keys": {}}), "app: expected a Flask app, got a str")],
)
def test_flask_extension_mistakes(arguments: Any, error: str) -> None:
    """A wrong argument is a TypeError when the extension meets its app."""
    app, options = arguments

    with pytest.raises(TypeError, match=error):
        for_flask.RateLimit(app or Flask("app"), **options)


def test_flask_class_based_view() -> None:
    """A limit in `decorators` limits a class-based view, for all its methods together."""

    class Search(MethodView):
        decorators = [for_flask.limit("2/minute")]  # noqa: RUF012  # Flask reads a list

        def get(self) -> str:
            return "ok"

        def post(self) -> str:
            return "ok"

    app = Flask("app")
    app.add_url_rule("/search", view_func=Search.as_view("search"))
    client, address = app.test_client(), {"REMOTE_ADDR": "198.51.100.21"}

    answers = [client.open("/search", method=method, environ_base=address) for method in ("GET", "POST", "GET")]

    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_flask_blueprints() -> None:
    """Views of one name in two blueprints have buckets of their own."""
    app, address = Flask("app"), {"REMOTE_ADDR": "198.51.100.22"}
    for name in ("v1", "v2"):
        blueprint = Blueprint(name, name, url_prefix=f"/{name}")

        def search() -> str:
            return "ok"

        search.__module__ = name
        blueprint.add_url_rule("/search", view_func=for_flask.limit("1/minute")(search))
        app.register_blueprint(blueprint)

    statuses = [
        app.test_client().get(f"/{name}/search", environ_base=address).status_code for name in ("v1", "v2", "v1")
    ]

    assert statuses == [200, 200, 429]


def test_starlette_class_based_endpoint() -> None:
    """A limit of an HTTPEndpoint limits all its methods together; a limit of a method that method alone."""

    @for_starlette.limit("2/minute")
    class Search(HTTPEndpoint):
        async def get(self, _: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        @for_starlette.limit("1/minute")
        async def post(self, _: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

    client = TestClient(Starlette(routes=[Route("/search", Search)]), client=("198.51.100.23", 1))

    answers = [client.request(method, "/search") for method in ("POST", "POST", "GET", "GET")]

    assert [answer.status_code for answer in answers] == [200, 429, 200, 429]
    assert answers[0].headers["ratelimit-policy"]


def test_starlette_websocket() -> None:
    """A refused WebSocket gets the 429 at its handshake."""

    @for_starlette.limit("1/minute")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    client = TestClient(Starlette(routes=[WebSocketRoute("/feed", feed)]), client=("198.51.100.24", 1))
    with client.websocket_connect("/feed"):
        pass

    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/feed"):
        pass

    assert denied.value.status_code == 429
    assert denied.value.headers["retry-after"]


def test_flask_views_of_one_module() -> None:
    """Two class-based views with the decorator have two buckets, which have the names of the views."""
    app = Flask("app")

    class View(MethodView):
        decorators = [for_flask.limit("1/minute")]  # noqa: RUF012  # Flask reads a list

        def get(self) -> str:
            return "ok"

    app.add_url_rule("/first", view_func=View.as_view("flask_first"))
    app.add_url_rule("/second", view_func=View.as_view("flask_second"))
    get = wsgi_get(app)

    answers = [get(path, address="203.0.113.5") for path in ("/first", "/second", "/first")]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[1].headers["ratelimit"] == '"flask_second.minute";r=0;t=60'
