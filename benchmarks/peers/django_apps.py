"""A view of Django, bare and behind each rate limiter for Django. A process has one project, so all are its views."""

from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

from benchmarks.peers.deciders import MANY, PER_DAY, PER_MINUTE, PLAN
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django_ratelimit.decorators import ratelimit

from awx_ratelimit import Plan
from awx_ratelimit.adapters.django import limit

_SETTINGS: dict[str, Any] = {
    "ALLOWED_HOSTS": ["*"],
    "CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    "MIDDLEWARE": [],
    "REST_FRAMEWORK": {"UNAUTHENTICATED_USER": None},
    "ROOT_URLCONF": __name__,
}
#: How far apart the requests are to the throttle of Django REST framework, which keeps a log of a minute's requests.
_STEP_S = 2
urlpatterns: list[Any] = []


def bare() -> Any:
    """The control."""
    return _view("bare")


def awx() -> Any:
    """One decision of two rates, headers."""
    return _view("awx")


def django_ratelimit() -> Any:
    """Two limits, no headers."""
    return _view("django-ratelimit")


def drf_bare() -> Any:
    """A view of Django REST framework, the control of its throttle."""
    return _view("drf-bare")


def drf() -> Any:
    """One limit, with 30 requests in its log."""
    return _view("drf")


def drf_awx() -> Any:
    """One limit, headers. What it does is the same for any limit, so this one is high."""
    return _view("drf-awx")


def _view(name: str) -> Callable[..., Any]:
    app = _project()

    def at_its_path(environ: dict[str, Any], start_response: Any) -> Any:
        environ["PATH_INFO"] = f"/{name}"
        return app(environ, start_response)

    return at_its_path


@cache
def _project() -> Any:
    settings.configure(**_SETTINGS)
    # They read the settings.
    from rest_framework.throttling import SimpleRateThrottle
    from rest_framework.views import APIView

    from awx_ratelimit.adapters.drf import Throttle as AwxThrottle

    class Ours(AwxThrottle):
        rate = MANY
        scope = "bench"

    class Throttle(SimpleRateThrottle):
        rate = "60/min"
        scope = "bench"
        seconds = count(step=_STEP_S)

        def timer(self) -> int:
            return next(self.seconds)

        def get_cache_key(self, request: Any, _: Any) -> str:
            return f"bench_{self.get_ident(request)}"

    def page(_: HttpRequest) -> HttpResponse:
        return HttpResponse("hello")

    def rest(*throttles: type) -> Any:
        members = {"throttle_classes": throttles, "authentication_classes": (), "permission_classes": ()}
        return type("Page", (APIView,), {**members, "get": lambda _, request: page(request)}).as_view()

    twice = ratelimit(key="ip", rate=f"{PER_DAY}/d")(ratelimit(key="ip", rate=f"{PER_MINUTE}/m")(page))
    views = {"bare": page, "awx": limit(Plan("bench", PLAN.rates))(page), "django-ratelimit": twice}
    views.update({"drf-bare": rest(), "drf": rest(Throttle), "drf-awx": rest(Ours)})
    urlpatterns.extend(path(name, view) for name, view in views.items())
    return get_wsgi_application()
