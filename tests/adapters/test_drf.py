"""Django REST framework and django-ninja: limits of views, actions and operations, and throttles."""

import asyncio
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import path
from django.utils.functional import SimpleLazyObject
from tests.adapters.django_site import ENTRY, Site
from tests.adapters.route_limit_laws import Get, RouteLimitLaws, identify

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, InvalidLimit, Limiter, MemoryBackend, Plan, PlanTable, Rule
from awx_ratelimit.adapters.django import DjangoUser
from awx_ratelimit.testing import ManualClock

# The framework reads its settings when it is imported, and its usual ones need an app with models.
REST = {"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None, "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}  # fmt: skip
with Site({}, REST_FRAMEWORK=REST).active():
    from ninja import NinjaAPI
    from ninja.errors import Throttled
    from ninja.testing import TestClient
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.decorators import action, api_view, throttle_classes
    from rest_framework.response import Response
    from rest_framework.views import APIView
    from rest_framework.viewsets import ViewSet

    from awx_ratelimit.adapters import drf
    from awx_ratelimit.adapters import ninja as for_ninja

PLAN = Plan.of("p", per_minute=100, concurrent=2)


class Ok(APIView):  # type: ignore[misc]  # the framework has no types
    """Answers with ok."""

    def get(self, _: Any) -> Any:
        return Response("ok")


def framework_views(limit: dict[str, Any]) -> dict[str, Any]:
    """Views, methods, functions and actions with the decorator."""
    decorate = drf.limit

    @api_view(["GET"])
    @decorate("2/minute", **limit)
    def one(_: Any) -> Any:
        return Response("ok")

    @decorate("2/minute", **limit)
    @api_view(["GET"])
    def two(_: Any) -> Any:
        return Response("ok")

    class Both(APIView):  # type: ignore[misc]  # the framework has no types
        @decorate("3/minute", per="address", **limit)
        @decorate("2/minute", **limit)
        def get(self, _: Any) -> Any:
            return Response("ok")

    class Agents(ViewSet):  # type: ignore[misc]  # the framework has no types
        @decorate("2/minute", per="everyone", **limit)
        def list(self, _: Any) -> Any:
            return Response("ok")

        @action(detail=False)
        @decorate("2/minute", per="account", **limit)
        def account(self, _: Any) -> Any:
            return Response("ok")

        @decorate("10/minute", cost=5, **limit)
        @action(detail=False)
        def costly(self, _: Any) -> Any:
            return Response("ok")

    shared = decorate("2/minute", scope="shared", **limit)

    @shared
    class Shared(Ok):
        pass

    @shared
    class SharedToo(Ok):
        pass

    return {
        "one": one,
        "two": two,
        "both": Both.as_view(),
        "everyone": Agents.as_view({"get": "list"}),
        "account": Agents.as_view({"get": "account"}),
        "costly": Agents.as_view({"get": "costly"}),
        "shared": Shared.as_view(),
        "shared-too": SharedToo.as_view(),
        "free": Ok.as_view(),
    }


def throttled_views(limit: dict[str, Any]) -> dict[str, Any]:
    """Views with throttles that have the same names as the routes of the laws."""

    def made(name: str, rate: str = "2/minute", **options: Any) -> Any:
        return type(name, (drf.Throttle,), {"rate": rate, "__module__": __name__, **limit, **options})

    def view(*throttles: Any) -> Any:
        made: Any = type("Throttled", (Ok,), {"throttle_classes": throttles})
        return made.as_view()

    return {
        "one": view(made("one")),
        "two": view(made("two")),
        "both": view(made("both", "3/minute", per="address"), made("second")),
        "everyone": view(made("everyone", per="everyone")),
        "account": view(made("account", per="account")),
        "costly": view(made("costly", "10/minute", cost=5)),
        "shared": view(made("a", scope="shared")),
        "shared-too": view(made("b", scope="shared")),
        "free": Ok.as_view(),
    }


def rest(views: dict[str, Any], around: Any) -> Site:
    """A site of the framework."""
    entry = {} if around is None else {"MIDDLEWARE": [ENTRY], "AWX_RATELIMIT": {"gate": around}}
    return Site(views, REST_FRAMEWORK=REST, **entry)


class TestFrameworkLimits(RouteLimitLaws):
    """`limit` in Django REST framework."""

    is_async = False

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """Under WSGI."""
        return rest(framework_views(limit), around).wsgi()


class TestFrameworkLimitsUnderAsgi(RouteLimitLaws):
    """`limit` in Django REST framework, whose views run in threads."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """Under ASGI."""
        return rest(framework_views(limit), around).asgi()


class TestThrottles(RouteLimitLaws):
    """Throttles of Django REST framework."""

    is_async = False

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """Under WSGI."""
        return rest(throttled_views(limit), around).wsgi()


class NinjaLaws(RouteLimitLaws):
    """`limit` and throttles of django-ninja."""

    def urls(self, limit: dict[str, Any], name: str) -> list[Any]:  # one function for each route
        """The routes of the laws."""
        api, decorate = NinjaAPI(urls_namespace=f"{name}{id(limit)}"), for_ninja.limit
        api.add_exception_handler(Throttled, for_ninja.on_throttled)
        # A throttle may run in an event loop, where it cannot wait.
        no_wait = {name: value for name, value in limit.items() if name == "gate"}

        @api.get("/one")
        @decorate("2/minute", **limit)
        def one(request: HttpRequest, response: HttpResponse) -> str:
            return "ok"

        @api.get("/two", throttle=[for_ninja.Throttle("2/minute", scope="two", **no_wait)])
        async def two(request: HttpRequest) -> str:
            return "ok"

        @api.get("/both")
        @decorate("3/minute", per="address", **limit)
        @decorate("2/minute", **limit)
        def both(request: HttpRequest, page: int = 1) -> str:
            return "ok"

        @api.get("/everyone", throttle=[for_ninja.Throttle("2/minute", scope="everyone", per="everyone", **no_wait)])
        async def everyone(request: HttpRequest) -> str:
            return "ok"

        @api.get("/account")
        @decorate("2/minute", per="account", **limit)
        async def account(request: HttpRequest, response: HttpResponse) -> str:
            return "ok"

        @api.get("/costly")
        @decorate("10/minute", cost=5, **limit)
        def costly(request: HttpRequest) -> str:
            return "ok"

        shared_limit = decorate("2/minute", scope="shared", **limit)

        @api.get("/shared")
        @shared_limit
        def shared(request: HttpRequest) -> HttpResponse:
            return HttpResponse("ok")

        @api.get("/shared-too")
        @shared_limit
        def shared_too(request: HttpRequest) -> str:
            return "ok"

        @api.get("/free")
        def free(request: HttpRequest) -> str:
            return "ok"

        return [path("", api.urls)]


class TestNinjaOnWsgi(NinjaLaws):
    """django-ninja under WSGI."""

    is_async = False

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """The gate is in the settings."""
        return ninja_site(self.urls(limit, "wsgi"), around).wsgi()


class TestNinjaOnAsgi(NinjaLaws):
    """django-ninja under ASGI."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """The gate is in the settings."""
        return ninja_site(self.urls(limit, "asgi"), around).asgi()


def ninja_site(urls: list[Any], around: Any) -> Site:
    """A site of an API."""
    entry = {} if around is None else {"MIDDLEWARE": [ENTRY], "AWX_RATELIMIT": {"gate": around}}
    return Site({"api": urls[0]}, **entry)


@pytest.fixture
def gate() -> Gate:
    """A gate at a time that stands still."""
    limiter = Limiter(MemoryBackend(clock=ManualClock(1_000_000_000)))
    return Gate(limiter, plans=PlanTable([PLAN], default="p"), identify=identify, anonymous=PLAN)


def own_handler(error: Any, _context: Any) -> Any:
    """The exception handler of a project."""
    return Response({"wait": error.wait, "status": error.status_code}, error.status_code)


def test_own_handler(gate: Gate) -> None:
    """A project's exception handler gets the wait, in whole seconds, and the response keeps the headers."""
    site = rest(throttled_views({"gate": gate}), None)
    site.settings["REST_FRAMEWORK"] = {**REST, "EXCEPTION_HANDLER": f"{__name__}.own_handler"}
    get = site.wsgi()

    refused = [get("/one") for _ in range(3)][-1]
    assert json.loads(refused.body) == {"wait": 30, "status": 429}
    assert refused.headers["retry-after"] == "30"
    assert refused.headers["ratelimit"] == '"one.minute";r=0;t=30'
    assert refused.headers["cache-control"] == "no-store"


def test_default_throttles(gate: Gate) -> None:
    """A throttle in the settings limits every view, in one bucket."""
    Everywhere.gate = gate
    settings = {"REST_FRAMEWORK": {**REST, "DEFAULT_THROTTLE_CLASSES": [f"{__name__}.Everywhere"]}}
    with Site({}, **settings).active():
        site = Site({"a": plain_view("a"), "b": plain_view("b")}, **settings)
    get = site.wsgi()

    assert [get(path).status for path in ("/a", "/b", "/a")] == [200, 200, 429]


class Everywhere(drf.Throttle):
    """Two requests a minute."""

    rate = "2/minute"


def plain_view(name: str) -> Any:
    """A view with the throttles of the settings."""
    from rest_framework.settings import api_settings

    made: Any = type(name, (Ok,), {"throttle_classes": api_settings.DEFAULT_THROTTLE_CLASSES})
    return made.as_view()


def test_wait(gate: Gate) -> None:
    """`wait` is exact: a fraction of a second is kept."""

    class Quick(drf.Throttle):
        rate = "8/minute"
        per = "everyone"

    Quick.gate = gate
    throttle = Quick()
    allowed = [throttle.allow_request(RequestFactory().get("/"), None) for _ in range(9)]

    assert allowed == [True] * 8 + [False]
    assert throttle.wait() == 7.5


def test_later_throttles_are_free(gate: Gate) -> None:
    """After a refusal the throttles that follow charge nothing."""

    class First(drf.Throttle):
        rate = "1/minute"

    class Second(drf.Throttle):
        rate = "2/minute"

    First.gate = Second.gate = gate

    class Twice(Ok):
        throttle_classes: ClassVar[list[Any]] = [First, Second]

    class Once(Ok):
        throttle_classes: ClassVar[list[Any]] = [Second]

    get = rest({"twice": Twice.as_view(), "once": Once.as_view()}, None).wsgi()

    assert [get("/twice").status for _ in range(4)] == [200, 429, 429, 429]
    assert get("/once").status == 200


def test_throttled_function(gate: Gate) -> None:
    """A throttle limits a function of `api_view`."""
    Everywhere.gate = gate

    @api_view(["GET"])
    @throttle_classes([Everywhere])
    def view(_: Any) -> Any:
        return Response("ok")

    get = rest({"": view}, None).wsgi()

    assert [get("/").status for _ in range(3)] == [200, 200, 429]


class Tokens(BaseAuthentication):  # type: ignore[misc]  # the framework has no types
    """Takes the token for the primary key of a user."""

    def authenticate(self, request: Any) -> Any:
        return SimpleNamespace(pk=request.headers["X-API-Key"], is_authenticated=True), None


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_users_of_tokens(kind: str) -> None:
    """On a path that a rule exempts, a throttle counts by the user whom the framework has authenticated."""

    class PerUser(drf.Throttle):
        rate = "2/minute"

    backend = MemoryBackend(clock=ManualClock(1_000_000_000))
    configured = {"identify": DjangoUser(), "rules": [Rule("/api", exempt=True)], "backend": backend}
    view: Any = type("View", (Ok,), {"throttle_classes": [PerUser], "authentication_classes": [Tokens]})
    settings = {"MIDDLEWARE": [f"{__name__}.anonymous", ENTRY], "AWX_RATELIMIT": configured, "REST_FRAMEWORK": REST}
    get = getattr(Site({"api": view.as_view()}, **settings), kind)()

    assert [get("/api", key).status for key in ("1", "1", "1", "2")] == [200, 200, 429, 200]


def anonymous(get_response: Any) -> Any:
    """A middleware that sets a lazy anonymous user, as Django's does."""

    async def auser() -> Any:
        return SimpleNamespace(pk=None, is_authenticated=False)

    def middleware(request: Any) -> Any:
        request.user, request.auser = SimpleLazyObject(lambda: asyncio.run(auser())), auser
        return get_response(request)

    return middleware


@pytest.mark.parametrize(
    ("module", "package", "name"),
    [("drf", "rest_framework", "djangorestframework"), ("ninja", "ninja", "django-ninja")],
)
def test_missing_package(module: str, package: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the framework, the import is an error that names the command."""
    monkeypatch.delitem(sys.modules, f"awx_ratelimit.adapters.{module}")
    for found in [*sys.modules]:
        if found.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, found, None)

    with pytest.raises(ImportError, match=f"install it with: pip install {name}"):
        import_module(f"awx_ratelimit.adapters.{module}")


def test_client_of_the_framework() -> None:
    """django-ninja's own test client, whose requests have no environ, works with limits."""
    api = NinjaAPI(urls_namespace="client")

    @api.get("/a")
    @for_ninja.limit("1/minute", per="everyone", scope="client")
    def operation(request: HttpRequest) -> str:
        return "a"

    client = TestClient(api)

    assert [client.get("/a").status_code for _ in range(2)] == [200, 429]


def test_throttle_that_would_wait() -> None:
    """In an async operation, a throttle over a gate that has to wait is an error that says what to write."""

    async def slow(_: Any) -> str:
        await asyncio.sleep(0)
        return "alice"

    async def operation() -> None:
        gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable([PLAN]), identify=slow)
        for_ninja.Throttle("2/minute", scope="slow", gate=gate).allow_request(RequestFactory().get("/"))

    with pytest.raises(RuntimeError, match=r"a backend that never waits, .*write @limit\(...\) on the operation"):
        asyncio.run(operation())


def test_wrong_rate() -> None:
    """A wrong rate is an error when the class is defined, and a missing one when it is used."""
    with pytest.raises(InvalidLimit, match="2/fortnight"):
        type("Wrong", (drf.Throttle,), {"rate": "2/fortnight"})
    with pytest.raises(ImproperlyConfigured, match=r"Throttle.rate: expected a notation such as '30/minute', got None"):
        drf.Throttle().allow_request(None, None)


@pytest.mark.parametrize("first", ["rest_framework.views", "awx_ratelimit.adapters.drf"])
def test_default_throttle_classes(tmp_path: Path, first: str) -> None:
    """A throttle can stand in DEFAULT_THROTTLE_CLASSES, whichever module a project imports first."""
    (tmp_path / "throttles.py").write_text(
        "from awx_ratelimit.adapters.drf import Throttle\n\n\nclass Site(Throttle):\n    rate = '30/minute'\n"
    )
    program = (
        "import importlib\n"
        "from django.conf import settings\n"
        "settings.configure(REST_FRAMEWORK={'DEFAULT_THROTTLE_CLASSES': ['throttles.Site']})\n"
        f"importlib.import_module('{first}')\n"
        "from rest_framework.views import APIView\n"
        "print(APIView.throttle_classes)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == ("[<class 'throttles.Site'>]\n", "")
