"""Small sites of Django in this process: views, settings, and clients for their WSGI and ASGI applications."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from django.urls import path

# It configures Django, once in each process.
from examples import django_app
from starlette.testclient import TestClient
from tests.adapters.route_limit_laws import Answer, Get
from werkzeug.test import Client

ENTRY = "awx_ratelimit.adapters.django.RateLimitMiddleware"
assert django_app.urlpatterns


class Site:
    """Views by their paths, with the settings `settings` besides those of every site."""

    def __init__(self, views: Mapping[str, Any], **settings: Any) -> None:
        patterns = [view if not callable(view) else path(name, view) for name, view in views.items()]
        self.settings = {"ROOT_URLCONF": type("Urls", (), {"urlpatterns": patterns}), **settings}

    @contextmanager
    def active(self) -> Iterator[None]:
        """In this block Django has the site's settings."""
        with override_settings(**self.settings):
            yield

    def wsgi(self, around: Any = None) -> Get:
        """Sends to the WSGI application, with the middleware `around` around it."""
        with self.active():
            app = get_wsgi_application()
        client = Client(around(app) if around else app)

        def get(path: str, key: str | None = None, address: str = "192.0.2.1") -> Answer:
            headers = {"X-API-Key": key} if key else {}
            with self.active(), client.get(path, headers=headers, environ_base={"REMOTE_ADDR": address}) as response:
                lines = {name.lower(): value for name, value in response.headers}
                return Answer(response.status_code, lines, response.get_data())

        return get

    def asgi(self, around: Any = None) -> Get:
        """Sends to the ASGI application, with the middleware `around` around it."""
        with self.active():
            app: Any = get_asgi_application()
        app = around(app) if around else app

        def get(path: str, key: str | None = None, address: str = "192.0.2.1") -> Answer:
            client = TestClient(app, client=(address, 4711))
            with self.active():
                response = client.get(path, headers={"x-api-key": key} if key else {})
            return Answer(response.status_code, dict(response.headers), response.content)

        return get


class OnlySync:
    """A middleware without async. Django calls the middlewares outside of it in threads, too."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)
