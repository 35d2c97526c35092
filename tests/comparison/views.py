"""Libraries that limit views of Django: one caller of a view, and two keys of an account."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time
from types import ModuleType
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django_ratelimit.decorators import ratelimit
from tests.comparison.accounts import Account, Shared, sending_key
from tests.comparison.subject import NAMES, Limit, Subject, sending, standing_clock

# It configures Django, which the framework reads when it is imported.
from tests.migration.running import clear_cache, django  # isort: split

from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView
from tests.migration.sites import ADDRESS, Answer, Sender

from awx_ratelimit.testing import ManualClock

#: Who is charged for a request.
_Owner = Callable[[HttpRequest], str]


@contextmanager
def django_ratelimit(*limits: Limit) -> Iterator[Subject]:
    """A decorated view. Its refusals are 403."""
    with _decorated([(each, _address) for each in limits]) as (sender, clock):
        yield Subject(sending(sender), clock)


@contextmanager
def drf(*limits: Limit) -> Iterator[Subject]:
    """A view of Django REST framework with a throttle for each limit."""
    with _throttled([(each, _address) for each in limits]) as (sender, clock):
        yield Subject(sending(sender), clock)


@contextmanager
def django_ratelimit_account(limits: list[Shared]) -> Iterator[Account]:
    """A view with two decorators; the upper one is decided first."""
    with _decorated([(each.limit, _owner(each)) for each in reversed(limits)]) as (sender, clock):
        yield Account(sending_key(sender), clock)


@contextmanager
def drf_account(limits: list[Shared]) -> Iterator[Account]:
    """A view with two throttles."""
    with _throttled([(each.limit, _owner(each)) for each in limits]) as (sender, clock):
        yield Account(sending_key(sender), clock)


def _address(request: HttpRequest) -> str:
    return str(request.META["REMOTE_ADDR"])


def _owner(each: Shared) -> _Owner:
    return lambda request: each.owner(request.headers["X-API-Key"])


@contextmanager
def _decorated(limits: list[tuple[Limit, _Owner]]) -> Iterator[tuple[Sender, ManualClock]]:
    with _site(_decorated_view(limits), "django_ratelimit.core.time") as site:
        yield site


def _decorated_view(limits: list[tuple[Limit, _Owner]]) -> Any:
    view: Any = _page
    for (amount, seconds), owner in limits:
        view = ratelimit(key=_key_of(owner), rate=f"{amount}/{NAMES[seconds][0]}")(view)
    return view


def _key_of(owner: _Owner) -> Callable[[str, HttpRequest], str]:
    return lambda _, request: owner(request)


@contextmanager
def _throttled(limits: list[tuple[Limit, _Owner]]) -> Iterator[tuple[Sender, ManualClock]]:
    clocks: list[ManualClock] = []
    with _site(_throttled_view(limits, lambda _: clocks[0].now_ms() / 1_000)) as site:
        clocks.append(site[1])
        yield site


def _throttled_view(limits: list[tuple[Limit, _Owner]], timer: Any = lambda _: time()) -> Any:
    def throttle(limit: Limit, owner: _Owner) -> type[SimpleRateThrottle]:
        members = {
            "rate": f"{limit[0]}/{NAMES[limit[1]]}",
            "scope": NAMES[limit[1]],
            "timer": timer,
            "get_cache_key": lambda self, request, _: f"{self.scope}_{owner(request)}",
        }
        return type("Throttle", (SimpleRateThrottle,), members)

    members = {
        "throttle_classes": [throttle(*each) for each in limits],
        "authentication_classes": (),
        "permission_classes": (),
        "get": lambda _, __: HttpResponse("hello"),
    }
    page: Any = type("Page", (APIView,), members)
    return page.as_view()


def _page(_: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


@contextmanager
def _site(view: Any, *readers: str) -> Iterator[tuple[Sender, ManualClock]]:
    project = _project(view)
    caches = ("django.core.cache.backends.base.time", "django.core.cache.backends.locmem.time")
    with standing_clock(*readers, *caches) as clock, django(project) as sender:
        clear_cache(project)
        yield sender, clock


def _project(view: Any, **settings: Any) -> ModuleType:
    project = ModuleType("project")
    # Without a setting the framework needs Django's users.
    settings["REST_FRAMEWORK"] = {"UNAUTHENTICATED_USER": None}
    urls = type("Urls", (), {"urlpatterns": [path("", view)]})
    vars(project).update(ROOT_URLCONF=urls, MIDDLEWARE=[], **settings)
    return project


@contextmanager
def on_redis(name: str, url: str) -> Iterator[Callable[[], Answer]]:
    """Send requests to a view with 5 a minute, whose cache is on Redis."""
    view = _throttled_view if name == "drf" else _decorated_view
    cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}
    with django(_project(view([((5, 60), _address)]), CACHES={"default": cache})) as sender:
        yield lambda: sender.send("/", "GET", ADDRESS, {})
