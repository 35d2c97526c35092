"""The same API limited by awx_ratelimit. Run it with ``gunicorn examples.migration.drf.after:app``."""

import os

import django
from django.conf import settings

from awx_ratelimit import Plan, Refusal, Reply, Rule
from awx_ratelimit import Request as GateRequest

SETTINGS = {
    "SECRET_KEY": "only-for-this-example",
    "ALLOWED_HOSTS": ["*"],
    "ROOT_URLCONF": __name__,
    "MIDDLEWARE": ["awx_ratelimit.adapters.django.RateLimitMiddleware"],
    "AWX_RATELIMIT": {
        "keys": {"awx_example_key": "customer"},
        "plans": [Plan.of("customer", per_minute=30)],
        "anonymous": Plan.of("visitor", per_minute=30),  # by address
        "rules": [Rule("/health", exempt=True)],
        "backend": os.environ.get("LIMITS_URL", "memory://"),
        "on_refused": f"{__name__}.slow_down",
    },
    "REST_FRAMEWORK": {
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
}
if not settings.configured:
    settings.configure(**SETTINGS)
    django.setup()

# The framework reads the settings when it is imported.
from django.core.wsgi import get_wsgi_application
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from awx_ratelimit.adapters.drf import Throttle, limit


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


def slow_down(_: GateRequest, __: Refusal) -> Reply:
    """Answer refused requests with our own body; the headers are kept."""
    return Reply.json({"error": "slow_down"}, status=429)


class Quotes(Throttle):
    """Both rates of /quotes, in one decision."""

    rate = Plan.of("quotes", per_hour=8, per_minute=2)


class Login(Throttle):
    """The rate of /login, by address, with and without an API key."""

    rate = "3/minute"
    per = "address"


class Market(Throttle):
    """One bucket for all views that name it."""

    rate = "4/minute"


class ApiView(APIView):
    """The base of all views."""

    authentication_classes = [KeyAuthentication]


class HealthView(ApiView):
    """Not limited."""

    def get(self, request: Request) -> Response:
        """Whether the server is up."""
        return Response({"status": "ok"})


@limit("10/minute", scope="notes")
class NotesView(ApiView):
    """Limited for all methods together."""

    def get(self, request: Request) -> Response:
        """List the notes."""
        return Response(["buy milk"])

    def post(self, request: Request) -> Response:
        """Add a note."""
        return Response({"status": "added"})


@limit("10/minute", scope="note")
class NoteView(ApiView):
    """Limited for all notes together."""

    def get(self, request: Request, number: int) -> Response:
        """Show one note."""
        return Response({"number": number})


@limit("5/minute", scope="search")
class SearchView(ApiView):
    """Limited per view."""

    def get(self, request: Request) -> Response:
        """Search."""
        return Response({"found": []})


class QuotesView(ApiView):
    """Limited twice."""

    throttle_classes = [Quotes]

    def get(self, request: Request) -> Response:
        """List the quotes."""
        return Response([1, 2])


class LoginView(ApiView):
    """Limited by address."""

    throttle_classes = [Login]

    def post(self, request: Request) -> Response:
        """Log in."""
        return Response({"welcome": "back"})


class PricesView(ApiView):
    """Shares its limit with /rates."""

    throttle_classes = [Market]

    def get(self, request: Request) -> Response:
        """List the prices."""
        return Response({"milk": 2})


class RatesView(ApiView):
    """Shares its limit with /prices."""

    throttle_classes = [Market]

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
