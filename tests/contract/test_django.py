"""The entry of Django's MIDDLEWARE under the whole contract: the same requests, the same bytes.

The views call the apps of the contract.
"""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import re_path
from tests.adapters.django_site import ENTRY, Site

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter
from awx_ratelimit.testing import AdapterContract
from awx_ratelimit.testing.drivers import AsgiDriver, Driver, WsgiDriver


def site(view: Any, gate: Any) -> Site:
    """A site of one view for every path. Errors of the view reach the server."""
    settings = {"MIDDLEWARE": [ENTRY], "AWX_RATELIMIT": {"gate": gate}, "DEBUG_PROPAGATE_EXCEPTIONS": True}
    return Site({"": re_path("", view)}, **settings)


class DjangoContract(AdapterContract):
    """Every request is served with the settings of the site."""

    @pytest.fixture(autouse=True)
    def _settings(self) -> Any:
        """The settings of the sites of this test."""
        self.sites: list[Any] = []
        yield
        for active in reversed(self.sites):
            active.__exit__(None, None, None)

    def activate(self, made: Site) -> None:
        """Use the settings of `made` until the end of the test."""
        self.sites.append(made.active())
        self.sites[-1].__enter__()


class TestDjangoOnWsgi(DjangoContract):
    """Under WSGI."""

    def driver(self, backend: Any, **gate: Any) -> Driver:
        """The WSGI application of Django is the adapter."""
        made = Gate(Limiter(backend), **gate)

        def adapt(app: Any) -> Any:
            self.activate(site(wsgi_view(app), made))
            return get_wsgi_application()

        return DjangoWsgiDriver(adapt)


class TestDjangoOnAsgi(DjangoContract):
    """Under ASGI."""

    def driver(self, backend: Any, **gate: Any) -> Driver:
        """The ASGI application of Django is the adapter."""
        made = AsyncGate(AsyncLimiter(backend), **gate)

        def adapt(app: Any) -> Any:
            self.activate(site(asgi_view(app), made))
            return with_one_body(get_asgi_application())

        return DjangoAsgiDriver(adapt)

    @pytest.mark.parametrize("path", ["/before", "/during", "/after"])
    def test_slot_after_an_error(self, client: Driver, path: str) -> None:
        """As in the contract. Django does not close the file of the request if an error leaves it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            super().test_slot_after_an_error(client, path)
            gc.collect()


def wsgi_view(app: Any) -> Any:
    """A view that calls a WSGI app."""

    def view(request: HttpRequest) -> StreamingHttpResponse:
        started: list[Any] = []
        body = app(request.META, lambda *response: started.extend(response))
        chunks = iter(body)
        first = next(chunks)
        return response_of(int(started[0][:3]), started[1], after(first, chunks, body))

    return view


def after(first: bytes, chunks: Any, body: Any) -> Any:
    """All chunks of a body."""
    try:
        yield first
        yield from chunks
    finally:
        body.close()


def asgi_view(app: Any) -> Any:
    """A view that calls an ASGI app."""

    async def view(request: Any) -> StreamingHttpResponse:
        messages: asyncio.Queue[Any] = asyncio.Queue()

        async def run() -> None:
            try:
                await app(request.scope, None, messages.put)
                await messages.put(None)
            except Exception as error:
                await messages.put(error)

        async def chunks() -> AsyncIterator[bytes]:
            try:
                while (message := await messages.get()) is not None:
                    if isinstance(message, Exception):
                        raise message
                    yield message["body"]
            finally:
                task.cancel()

        task = asyncio.ensure_future(run())
        start = await messages.get()
        if isinstance(start, Exception):
            raise start
        lines = [(name.decode(), value.decode()) for name, value in start["headers"]]
        return response_of(start["status"], lines, chunks())

    return view


def response_of(status: int, headers: list[tuple[str, str]], chunks: Any) -> StreamingHttpResponse:
    """A streamed response with these headers alone."""
    response = StreamingHttpResponse(chunks, status=status)
    del response["Content-Type"]
    for name, value in headers:
        response[name] = value
    return response


def with_one_body(app: Any) -> Any:
    """The app, with a client that sends its body once, as Django expects, and stays connected until it is gone."""

    async def adapted(scope: Any, receive: Any, send: Any) -> None:
        scope["gone"] = asyncio.Event()
        is_sent = False

        async def receive_once() -> Any:
            nonlocal is_sent
            if is_sent:
                await scope["gone"].wait()
                return {"type": "http.disconnect"}
            is_sent = True
            return await receive()

        await app(scope, receive_once, send)

    return adapted


class DjangoWsgiDriver(WsgiDriver):
    """A streamed response of Django refers to itself, so that one which no server closes waits for the collector."""

    def abandoned(self, path: str, headers: Any = ()) -> None:
        """See Driver."""
        super().abandoned(path, headers)
        gc.collect()


class DjangoAsgiDriver(AsgiDriver):
    """Django leaves its own tasks behind if the server cancels the app, so that clients disconnect instead."""

    def abandoned(self, path: str, headers: Any = ()) -> None:
        """See Driver."""
        exchange, task = self._start(path, headers)
        gone: Any = exchange.scope["gone"]
        gone.set()
        self._loop.run_until_complete(task)
