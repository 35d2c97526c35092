"""`limit` on classes of endpoints: each class that inherits from one is a route of its own."""

import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket
from tests.adapters.test_aiohttp import AiohttpServed
from tests.adapters.test_tornado import TornadoServed
from tornado import web as tornado_web

from awx_ratelimit.adapters import aiohttp, starlette, tornado
from awx_ratelimit.adapters.asgi.route_limits import default_gate


@pytest.fixture(autouse=True)
def nothing_used() -> None:
    """Limits without a gate begin with empty buckets."""
    default_gate.cache_clear()


def test_starlette() -> None:
    """Two classes that inherit from a limited HTTPEndpoint have buckets of their own."""

    @starlette.limit("1/hour")
    class Base(HTTPEndpoint):
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

    class One(Base): ...

    class Two(Base): ...

    client = TestClient(Starlette(routes=[Route("/one", One), Route("/two", Two)]))

    assert [client.get(path).status_code for path in ("/one", "/two", "/one")] == [200, 200, 429]


def test_starlette_websocket() -> None:
    """A limited WebSocketEndpoint is limited at its handshake."""

    @starlette.limit("1/hour")
    class Chat(WebSocketEndpoint):
        async def on_connect(self, websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.close()

    client = TestClient(Starlette(routes=[WebSocketRoute("/chat", Chat)]))
    with client.websocket_connect("/chat") as opened:
        assert opened.receive()["code"] == 1000

    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/chat"):
        pass
    assert refused.value.status_code == 429


class TestAiohttpViews(AiohttpServed):
    """Classes of views."""

    def test_inherited(self) -> None:
        """Two classes that inherit from a limited view have buckets of their own."""

        @aiohttp.limit("1/hour")
        class Base(web.View):
            async def get(self) -> web.Response:
                return web.Response()

        class One(Base): ...

        class Two(Base): ...

        app = web.Application()
        app.add_routes([web.view("/one", One), web.view("/two", Two)])
        get = self.get(app)

        assert [get(path).status for path in ("/one", "/two", "/one")] == [200, 200, 429]


class TestTornadoHandlers(TornadoServed):
    """Classes of handlers."""

    def test_inherited(self) -> None:
        """Two classes that inherit from a limited handler have buckets of their own."""

        @tornado.limit("1/hour")
        class Base(tornado_web.RequestHandler):
            async def get(self) -> None: ...

        class One(Base): ...

        class Two(Base): ...

        get = self.get(tornado_web.Application([("/one", One), ("/two", Two)]))

        assert [get(path).status for path in ("/one", "/two", "/one")] == [200, 200, 429]
