"""How the apps of examples/migration are run in this process: ASGI and WSGI apps, and projects of Django."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

# It configures Django, once in each process.
from examples import django_app
from rest_framework.settings import api_settings
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView
from tests.docs.pages import gate_of
from tests.migration.sites import ADDRESS, Answer, AsgiSender, Sender, WsgiSender

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


@contextmanager
def rest_framework(module: ModuleType) -> Iterator[Sender]:
    """The project of a module that configures Django itself, as its own process would run it."""
    with ExitStack() as stack:
        stack.enter_context(override_settings(**module.SETTINGS))
        # The framework reads these when it is imported.
        for owner, name, default in (
            (SimpleRateThrottle, "THROTTLE_RATES", api_settings.DEFAULT_THROTTLE_RATES),
            (APIView, "throttle_classes", api_settings.DEFAULT_THROTTLE_CLASSES),
            (APIView, "renderer_classes", api_settings.DEFAULT_RENDERER_CLASSES),
        ):
            stack.enter_context(patch.object(owner, name, default))
        # In shadow, the app is in a middleware.
        getattr(module, "limited_by_throttles", module.app).load_middleware()
        yield ThrottledSender(module.app)


class ThrottledSender(WsgiSender):
    """Sends so that requests at the same time read the framework's cache before one of them has written it."""

    def at_once(self, target: str, count: int) -> list[Answer]:
        """Send a request while the one before is between its read and its write, where a throttle asks for the time.

        Another library has no such moment: then all are sent by threads.
        """
        answers: list[Answer] = []
        original, sent = SimpleRateThrottle.timer, 1

        def timer(throttle: SimpleRateThrottle) -> float:
            nonlocal sent
            if throttle.scope == target.strip("/") and sent < count:
                sent += 1
                answers.append(self.send(target, "GET", ADDRESS, {}))
            return float(original())

        with patch.object(SimpleRateThrottle, "timer", timer):
            answers.append(self.send(target, "GET", ADDRESS, {}))
        return answers + super().at_once(target, count - sent) if sent < count else answers


def django_gate(_: ModuleType) -> Any:
    """The gate of the settings that are active."""
    return configuration().gate


def rest_framework_gate(module: ModuleType) -> Any:
    """The gate of the middleware around the project, else that of the settings."""
    return getattr(module.app, "gate", None) or configuration().gate


def clear_cache(_: ModuleType) -> None:
    """Remove the counters from the cache of the settings that are active."""
    cache.clear()
