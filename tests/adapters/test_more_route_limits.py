"""`limit` in Quart and Litestar."""

from typing import Any, cast

import litestar
import pytest
import quart
import quart.views
from litestar.exceptions import NotFoundException
from starlette.testclient import TestClient, WebSocketDenialResponse
from tests.adapters.route_limit_laws import Get, RouteLimitLaws
from tests.adapters.test_route_limits import asgi_get

from awx_ratelimit.adapters import litestar as for_litestar
from awx_ratelimit.adapters import quart as for_quart
from awx_ratelimit.adapters.starlette import RateLimitMiddleware


class TestQuart(RouteLimitLaws):
    """Decorated views."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:  # noqa: C901  # one function for each route
        """Async and sync functions, one of them in a blueprint, and a class-based view."""
        app, blueprint, make = quart.Quart("app"), quart.Blueprint("v1", "v1"), for_quart.limit

        @app.get("/one")
        @make("2/minute", **limit)
        async def one() -> str:
            return "ok"

        @blueprint.get("/two")
        @make("2/minute", **limit)
        def two() -> str:
            return "ok"

        class Both(quart.views.MethodView):
            decorators = [make("2/minute", **limit), make("3/minute", per="address", **limit)]  # noqa: RUF012

            async def get(self) -> str:
                return "ok"

        @app.get("/everyone")
        @make("2/minute", per="everyone", **limit)
        async def everyone() -> tuple[str, int]:
            return "ok", 200

        @app.get("/account")
        @make("2/minute", per="account", **limit)
        async def account() -> quart.Response:
            return quart.Response("ok")

        @app.get("/costly")
        @make("10/minute", cost=5, **limit)
        async def costly() -> str:
            return "ok"

        @app.get("/shared")
        @make("2/minute", scope="shared", **limit)
        async def shared() -> str:
            return "ok"

        @app.get("/shared-too")
        @make("2/minute", scope="shared", **limit)
        async def shared_too() -> str:
            return "ok"

        @app.get("/free")
        async def free() -> str:
            return "ok"

        app.register_blueprint(blueprint)
        app.add_url_rule("/both", view_func=Both.as_view("both"))
        if around is not None:
            app.asgi_app = RateLimitMiddleware(app.asgi_app, gate=around)  # type: ignore[assignment]
        return asgi_get(app)


class TestLitestar(RouteLimitLaws):
    """Decorated route handlers, and limits as middleware."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """Functions, a controller and a router."""
        make = for_litestar.limit

        @litestar.get("/one", middleware=[make("2/minute", **limit)])
        async def one() -> str:
            return "ok"

        class Two(litestar.Controller):
            path = "/two"

            @make("2/minute", **limit)
            @litestar.get(sync_to_thread=True)
            def two(self) -> str:
                return "ok"

        @make("3/minute", per="address", **limit)
        @make("2/minute", **limit)
        @litestar.get("/both")
        async def both() -> str:
            return "ok"

        @make("2/minute", per="everyone", **limit)
        @litestar.get("/everyone")
        async def everyone() -> str:
            return "ok"

        @litestar.get("/")
        async def account() -> str:
            return "ok"

        @make("10/minute", cost=5, **limit)
        @litestar.get("/costly")
        async def costly() -> str:
            return "ok"

        shared_limit = make("2/minute", scope="shared", **limit)

        @shared_limit
        @litestar.get("/shared")
        async def shared() -> str:
            return "ok"

        @shared_limit
        @litestar.get("/shared-too")
        async def shared_too() -> str:
            return "ok"

        @litestar.get("/free")
        async def free() -> str:
            return "ok"

        accounts = litestar.Router(
            "/account", route_handlers=[account], middleware=[make("2/minute", per="account", **limit)]
        )
        app: Any = litestar.Litestar([one, Two, both, everyone, accounts, costly, shared, shared_too, free])
        return asgi_get(app if around is None else RateLimitMiddleware(app, gate=around))


def statuses(app: Any, *paths: str) -> list[int]:
    """The statuses of GETs from one client."""
    return [asgi_get(app)(path, address="203.0.113.9").status for path in paths]


async def _nothing() -> None:
    pass


class TestQuartOnly:
    """What only Quart has."""

    def test_views_of_one_module(self) -> None:
        """Two class-based views with the decorator have two buckets."""
        app = quart.Quart("app")

        class View(quart.views.MethodView):
            decorators = [for_quart.limit("1/minute")]  # noqa: RUF012

            async def get(self) -> str:
                return "ok"

        app.add_url_rule("/first", view_func=View.as_view("first"))
        app.add_url_rule("/second", view_func=View.as_view("second"))

        assert statuses(app, "/first", "/second", "/first") == [200, 200, 429]

    def test_before_request(self) -> None:
        """A limited function of `before_request` that returns None leaves the response to the view."""
        app = quart.Quart("app")
        app.before_request(for_quart.limit("2/minute", scope="all")(_nothing))

        @app.get("/")
        async def view() -> str:
            return "ok"

        assert statuses(app, "/", "/", "/") == [200, 200, 429]

    def test_websocket(self) -> None:
        """A WebSocket view is limited at its handshake, with the 429 where the server can send it."""
        app = quart.Quart("app")

        @app.websocket("/feed")
        @for_quart.limit("1/minute")
        async def quart_feed() -> None:
            await quart.websocket.send("tick")

        client = TestClient(cast("Any", app), client=("203.0.113.8", 1))
        with client.websocket_connect("/feed") as feed:
            assert feed.receive_text() == "tick"
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/feed"):
            pass
        assert refused.value.status_code == 429
        assert refused.value.headers["retry-after"] == "60"

    def test_class(self) -> None:
        """A class is an error that names `decorators`."""
        limit: Any = for_quart.limit("1/minute")

        with pytest.raises(TypeError, match=r"expected a function, got .*; write decorators = \[limit\(...\)\]"):
            limit(quart.views.MethodView)


class TestLitestarOnly:
    """What only Litestar has."""

    def test_document(self) -> None:
        """A decorated route shows the 429 with the three keys in the OpenAPI document; others do not."""

        @for_litestar.limit("1/minute")
        @litestar.get("/a")
        async def documented() -> str:
            return "ok"

        @litestar.get("/b")
        async def undocumented() -> str:
            return "ok"

        document = litestar.Litestar([documented, undocumented]).openapi_schema.to_schema()
        (schema,) = (s for name, s in document["components"]["schemas"].items() if "RateLimitError" in name)
        assert "429" in document["paths"]["/a"]["get"]["responses"]
        assert "429" not in document["paths"]["/b"]["get"]["responses"]
        assert list(schema["properties"]) == ["code", "type", "message"]

    def test_controller(self) -> None:
        """A limit on a controller gives each of its routes a bucket."""

        @for_litestar.limit("1/minute")
        class Reports(litestar.Controller):
            @litestar.get("/first")
            async def first_report(self) -> str:
                return "ok"

            @litestar.get("/second")
            async def second_report(self) -> str:
                return "ok"

        assert statuses(litestar.Litestar([Reports]), "/first", "/second", "/first") == [200, 200, 429]

    def test_routes_of_one_name(self) -> None:
        """Two routes with functions of one name have two buckets; two paths of one route have one."""

        def router(path: str) -> litestar.Router:
            @for_litestar.limit("1/minute")
            @litestar.get(["/", "/again"])
            async def namesake() -> str:
                return "ok"

            return litestar.Router(path, route_handlers=[namesake])

        app = litestar.Litestar([router("/a"), router("/b")])

        assert statuses(app, "/a", "/b", "/a/again", "/b/again") == [200, 200, 429, 429]

    def test_websocket(self) -> None:
        """A WebSocket handler is limited at its handshake."""

        @for_litestar.limit("1/minute")
        @litestar.websocket("/feed")
        async def litestar_feed(socket: litestar.WebSocket[Any, Any, Any]) -> None:
            await socket.accept()
            await socket.send_text("tick")
            await socket.close()

        client = TestClient(litestar.Litestar([litestar_feed]), client=("203.0.113.7", 1))  # type: ignore[arg-type]
        with client.websocket_connect("/feed") as feed:
            assert feed.receive_text() == "tick"
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/feed"):
            pass
        assert refused.value.status_code == 429

    def test_exceptions(self) -> None:
        """The response to an exception of the handler reports the limit."""

        @for_litestar.limit("1/minute")
        @litestar.get("/missing")
        async def missing_thing() -> str:
            raise NotFoundException

        answer = asgi_get(litestar.Litestar([missing_thing]))("/missing", address="203.0.113.6")

        assert answer.status == 404
        assert answer.headers["ratelimit"] == '"missing_thing.minute";r=0;t=60'

    def test_function(self) -> None:
        """A function is an error that names the order of the decorators."""
        with pytest.raises(TypeError, match=r"got the function .*; write @limit\(...\) above @get\(...\)"):
            for_litestar.limit("1/minute")(lambda: "ok")
