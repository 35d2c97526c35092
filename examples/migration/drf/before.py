"""An API limited by the framework's own throttles. Run it with ``gunicorn examples.migration.drf.before:app``."""

import os
from typing import Any

import django
from django.conf import settings

SETTINGS = {
    "SECRET_KEY": "only-for-this-example",
    "ALLOWED_HOSTS": ["*"],
    "ROOT_URLCONF": __name__,
    "MIDDLEWARE": [],
    "CACHES": {
        "default": {
            "BACKEND": os.environ.get("CACHE", "django.core.cache.backends.locmem.LocMemCache"),
            "LOCATION": os.environ.get("LIMITS_URL", "limits"),
        }
    },
    "REST_FRAMEWORK": {
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "EXCEPTION_HANDLER": f"{__name__}.slow_down",
        "DEFAULT_THROTTLE_CLASSES": [
            "rest_framework.throttling.AnonRateThrottle",
            "rest_framework.throttling.UserRateThrottle",
            "rest_framework.throttling.ScopedRateThrottle",
        ],
        "DEFAULT_THROTTLE_RATES": {
            "anon": "30/min",
            "user": "30/min",
            "notes": "10/min",
            "note": "10/min",
            "search": "5/min",
            "quotes_hour": "8/hour",
            "quotes_minute": "2/min",
            "login": "3/min",
            "market": "4/min",
        },
    },
}
if not settings.configured:
    settings.configure(**SETTINGS)
    django.setup()

# The framework reads the settings when it is imported.
from django.core.wsgi import get_wsgi_application
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle, SimpleRateThrottle, UserRateThrottle
from rest_framework.views import APIView, exception_handler


class Customer:
    """The owner of an API key."""

    is_authenticated = True

    def __init__(self, pk: int) -> None:
        self.pk = pk


KEYS = {"awx_example_key": 7}


class KeyAuthentication(BaseAuthentication):
    """Identify customers by X-API-Key."""

    def authenticate(self, request: Request) -> tuple[Customer, None] | None:
        """Without a key, the client is anonymous."""
        key = request.headers.get("X-API-Key")
        if key is None:
            return None
        if key not in KEYS:
            raise AuthenticationFailed
        return Customer(KEYS[key]), None

    def authenticate_header(self, _: Request) -> str:
        """Name the scheme, so that a wrong key is a 401."""
        return "ApiKey"


def slow_down(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer refused requests with our own body."""
    response = exception_handler(error, context)
    if isinstance(error, Throttled):
        response.data = {"error": "slow_down"}
    return response


class QuotesHour(UserRateThrottle):
    """A rate of /quotes."""

    scope = "quotes_hour"


class QuotesMinute(UserRateThrottle):
    """Another rate of /quotes."""

    scope = "quotes_minute"


class Login(SimpleRateThrottle):
    """The rate of /login, by address."""

    scope = "login"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        """Count with and without an API key."""
        return f"throttle_{self.scope}_{self.get_ident(request)}"


class ApiView(APIView):
    """The base of all views."""

    authentication_classes = [KeyAuthentication]


class HealthView(ApiView):
    """Not limited."""

    throttle_classes = ()

    def get(self, request: Request) -> Response:
        """Whether the server is up."""
        return Response({"status": "ok"})


class NotesView(ApiView):
    """Limited for all methods together."""

    throttle_scope = "notes"

    def get(self, request: Request) -> Response:
        """List the notes."""
        return Response(["buy milk"])

    def post(self, request: Request) -> Response:
        """Add a note."""
        return Response({"status": "added"})


class NoteView(ApiView):
    """Limited for all notes together."""

    throttle_scope = "note"

    def get(self, request: Request, number: int) -> Response:
        """Show one note."""
        return Response({"number": number})


class SearchView(ApiView):
    """Limited per view."""

    throttle_scope = "search"

    def get(self, request: Request) -> Response:
        """Search."""
        return Response({"found": []})


class QuotesView(ApiView):
    """Limited twice."""

    throttle_classes = [AnonRateThrottle, UserRateThrottle, QuotesHour, QuotesMinute]

    def get(self, request: Request) -> Response:
        """List the quotes."""
        return Response([1, 2])


class LoginView(ApiView):
    """Limited by address."""

    throttle_classes = [AnonRateThrottle, UserRateThrottle, Login]

    def post(self, request: Request) -> Response:
        """Log in."""
        return Response({"welcome": "back"})


class PricesView(ApiView):
    """Shares its limit with /rates."""

    throttle_scope = "market"

    def get(self, request: Request) -> Response:
        """List the prices."""
        return Response({"milk": 2})


class RatesView(ApiView):
    """Shares its limit with /prices."""

    throttle_scope = "market"

    def get(self, request: Request) -> Response:
        """List the rates."""
        return Response({"usd": 1})


urlpatterns = [
    path("health", HealthView.as_view()),
    path("notes", NotesView.as_view()),
    path("notes/<int:number>", NoteView.as_view()),
    path("search", SearchView.as_view()),
    path("quotes", QuotesView.as_view()),
    path("login", LoginView.as_view()),
    path("prices", PricesView.as_view()),
    path("rates", RatesView.as_view()),
]
app = get_wsgi_application()
