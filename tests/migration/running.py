"""How the apps of examples/migration are run in this process: ASGI and WSGI apps, and projects of Django."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

# It configures Django, once in each process.
from examples import django_app
from tests.docs.pages import gate_of
from tests.migration.sites import AsgiSender, Sender, WsgiSender

from awx_ratelimit.adapters.django.configuration import configuration

assert django_app.urlpatterns


@contextmanager
def asgi(module: ModuleType) -> Iterator[Sender]:
    """The ASGI app of a module."""
    with asyncio.Runner() as runner:
        yield AsgiSender(module.app, runner.get_loop())


def asgi_gate(module: ModuleType) -> Any:
    """The gate of the middleware of such an app."""
    return getattr(module.app, "gate", None) or gate_of(module.app)


@contextmanager
def wsgi(module: ModuleType) -> Iterator[Sender]:
    """The WSGI app of a module."""
    yield WsgiSender(module.app)


def wsgi_gate(module: ModuleType) -> Any:
    """The gate of the middleware of such an app, which Flask's apps have inside."""
    return getattr(module.app, "wsgi_app", module.app).gate


@contextmanager
def django(module: ModuleType) -> Iterator[Sender]:
    """The project whose settings are in a module, which may be its URLs too."""
    with override_settings(**{name: value for name, value in vars(module).items() if name.isupper()}):
        yield WsgiSender(get_wsgi_application())


def django_gate(_: ModuleType) -> Any:
    """The gate of the settings that are active."""
    return configuration().gate


def clear_cache(_: ModuleType) -> None:
    """Remove the counters from the cache of the settings that are active."""
    cache.clear()
