"""A project of Django limited by django-ratelimit: settings, URLs and views in one file.

DJANGO_SETTINGS_MODULE=examples.migration.django_ratelimit.before python -m django runserver
"""

import os

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django_ratelimit.decorators import ratelimit

SECRET_KEY = "only-for-this-example"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
MIDDLEWARE = ["django_ratelimit.middleware.RatelimitMiddleware"]
RATELIMIT_VIEW = f"{__name__}.slow_down"
CACHES = {
    "default": {
        "BACKEND": os.environ.get("CACHE", "django.core.cache.backends.locmem.LocMemCache"),
        "LOCATION": os.environ.get("LIMITS_URL", "limits"),
    }
}


def caller(_: str, request: HttpRequest) -> str:
    """Count by API key, else by address."""
    return request.headers.get("X-API-Key") or str(request.META["REMOTE_ADDR"])


def slow_down(_: HttpRequest, __: Exception) -> HttpResponse:
    """Answer refused requests with our own body."""
    return JsonResponse({"error": "slow_down"}, status=429)


whole_site = ratelimit(group="site", key=caller, rate="30/m")
market = ratelimit(group="market", key=caller, rate="4/m")


def health(_: HttpRequest) -> HttpResponse:
    """Not limited."""
    return JsonResponse({"status": "ok"})


@whole_site
@ratelimit(key=caller, rate="10/m")
def notes(request: HttpRequest) -> HttpResponse:
    """List notes, or add one."""
    return JsonResponse({"notes": ["buy milk"]} if request.method == "GET" else {"status": "added"})


@whole_site
@ratelimit(key=caller, rate="10/m")
def note(_: HttpRequest, number: int) -> HttpResponse:
    """Show one note."""
    return JsonResponse({"number": number})


@whole_site
@ratelimit(key=caller, rate="5/m")
def search(_: HttpRequest) -> HttpResponse:
    """Search."""
    return JsonResponse({"found": []})


@whole_site
@ratelimit(key=caller, rate="8/h")
@ratelimit(key=caller, rate="2/m")
def quotes(_: HttpRequest) -> HttpResponse:
    """Limited twice."""
    return JsonResponse({"quotes": [1, 2]})


@whole_site
@ratelimit(key="ip", rate="3/m", method="POST")
def login(_: HttpRequest) -> HttpResponse:
    """Limited by address, with and without an API key."""
    return JsonResponse({"welcome": "back"})


@whole_site
@market
def prices(_: HttpRequest) -> HttpResponse:
    """Shares its limit with /rates."""
    return JsonResponse({"milk": 2})


@whole_site
@market
def rates(_: HttpRequest) -> HttpResponse:
    """Shares its limit with /prices."""
    return JsonResponse({"usd": 1})


urlpatterns = [
    path("health", health),
    path("notes", notes),
    path("notes/<int:number>", note),
    path("search", search),
    path("quotes", quotes),
    path("login", login),
    path("prices", prices),
    path("rates", rates),
]
