"""The same project limited by awx_ratelimit: settings, URLs and views in one file.

DJANGO_SETTINGS_MODULE=examples.migration.django_ratelimit.after python -m django runserver
"""

import os

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from awx_ratelimit import Plan, Refusal, Reply, Rule
from awx_ratelimit import Request as GateRequest
from awx_ratelimit.adapters.django import limit


def slow_down(_: GateRequest, __: Refusal) -> Reply:
    """Answer refused requests with our own body; the headers are kept."""
    return Reply.json({"error": "slow_down"}, status=429)


SECRET_KEY = "only-for-this-example"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
MIDDLEWARE = ["awx_ratelimit.adapters.django.RateLimitMiddleware"]
AWX_RATELIMIT = {
    "keys": {"awx_example_key": "customer"},
    "plans": [Plan.of("customer", per_minute=30)],
    "anonymous": Plan.of("visitor", per_minute=30),  # by address
    "rules": [Rule("/health", exempt=True)],
    "backend": os.environ.get("LIMITS_URL", "memory://"),
    "on_refused": slow_down,
}

market = limit("4/minute", scope="market")  # one bucket for all its views


def health(_: HttpRequest) -> HttpResponse:
    """Not limited."""
    return JsonResponse({"status": "ok"})


@limit("10/minute")
def notes(request: HttpRequest) -> HttpResponse:
    """List notes, or add one."""
    return JsonResponse({"notes": ["buy milk"]} if request.method == "GET" else {"status": "added"})


@limit("10/minute")
def note(_: HttpRequest, number: int) -> HttpResponse:
    """Show one note."""
    return JsonResponse({"number": number})


@limit("5/minute")
def search(_: HttpRequest) -> HttpResponse:
    """Search."""
    return JsonResponse({"found": []})


@limit(Plan.of("quotes", per_hour=8, per_minute=2))
def quotes(_: HttpRequest) -> HttpResponse:
    """Limited twice, in one decision."""
    return JsonResponse({"quotes": [1, 2]})


@limit("3/minute", per="address")
def login(_: HttpRequest) -> HttpResponse:
    """Limited by address, with and without an API key."""
    return JsonResponse({"welcome": "back"})


@market
def prices(_: HttpRequest) -> HttpResponse:
    """Shares its limit with /rates."""
    return JsonResponse({"milk": 2})


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
