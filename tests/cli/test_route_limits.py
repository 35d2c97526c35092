"""``explain`` finds the limits of routes in an app, without a call of the route, and says so where it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from django.utils.decorators import method_decorator
from django.views import View as DjangoView
from fastapi import APIRouter, Depends, FastAPI
from flask import Flask
from flask.views import MethodView
from quart import Quart
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from tests.adapters.django_site import ENTRY, Site
from tests.cli.conftest import Named, Run
from werkzeug.routing import BaseConverter
from werkzeug.test import Client

from awx_ratelimit import Gate, Limiter, MemoryBackend, PlanTable, RateLimitMiddleware, Rule, StaticKeys
from awx_ratelimit.adapters import django, fastapi, flask, quart, starlette

OPTIONS: dict[str, Any] = {"keys": {"awx_example_key": "growth"}, "rules": [Rule("/free", exempt=True)]}


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("the route was called")


def _fastapi() -> FastAPI:
    app, inner = FastAPI(), FastAPI()
    router = APIRouter(prefix="/v1", dependencies=[Depends(fastapi.limit("9/hour"))])

    @router.post("/login/{name}", dependencies=[Depends(fastapi.limit("5/minute", per="address"))])
    @fastapi.limit("7/second", scope="own")
    def login(name: str) -> None:
        _never(name)

    @app.get("/plain")
    def plain() -> None:
        _never()

    @app.get("/free")
    @fastapi.limit("7/second")
    def free() -> None:
        _never()

    @inner.post("/deep", dependencies=[Depends(fastapi.limit("2/hour"))])
    @fastapi.limit("3/minute")
    def deep() -> None:
        _never()

    app.include_router(router)
    app.mount("/inner", inner)
    app.add_middleware(RateLimitMiddleware, **OPTIONS)
    return app


@pytest.fixture
def explain(run: Run, named: Named) -> Callable[..., Any]:
    """Explains a request with a known key; returns the names and the remaining tokens of the limits of its route."""

    def limits(app: Any, method: str, path: str) -> Any:
        ran = run("explain", method, path, "--app", named(app), "--key", "-", "--json", stdin=b"awx_example_key")
        assert ran.status == 0, ran.err
        assert ran.json["knows_route_limits"] is True
        scoped = [each for budget in ran.json["budgets"] if budget["scope"] for each in budget["limits"]]
        return {each["limit"]: each["capacity"] for each in scoped}

    return limits


def test_long_path(explain: Callable[..., Any]) -> None:
    """A server remembers no limits for long paths, because clients choose them. The command finds them all the same."""
    assert explain(_fastapi(), "POST", f"/v1/login/{'a' * 900}")["own.second"] == 7


def test_fastapi(explain: Callable[..., Any]) -> None:
    """Dependencies of routers and routes, decorators, and apps that are mounted."""
    app = _fastapi()

    assert explain(app, "POST", "/v1/login/ada") == {"login.hour": 9, "login-2.minute": 5, "own.second": 7}
    assert explain(app, "GET", "/plain") == {}
    assert explain(app, "GET", "/v1/login/ada") == {}
    [dependency, decorator] = explain(app, "POST", "/inner/deep").items()
    assert dependency[0].startswith("deep-")
    assert (dependency[1], decorator[1]) == (2, 3)


def test_names_are_those_of_the_server(explain: Callable[..., Any]) -> None:
    """The names of the limits are those in the headers of a response."""

    @starlette.limit("5/minute")
    async def login(_: Any) -> Any:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse("")

    @starlette.limit("6/minute")
    class Reports(HTTPEndpoint):
        async def get(self, _: Any) -> Any:
            from starlette.responses import PlainTextResponse

            return PlainTextResponse("")

    routes = [Mount("/v1", routes=[Route("/login", login, methods=["POST"])]), Route("/reports", Reports)]
    app = Starlette(routes=routes)
    app.add_middleware(RateLimitMiddleware, **OPTIONS)
    client = TestClient(app)
    for method, path in (("POST", "/v1/login"), ("GET", "/reports")):
        [name] = explain(app, method, path)

        headers = client.request(method, path, headers={"X-API-Key": "awx_example_key"}).headers
        assert f'"{name}";' in headers["ratelimit"]


def test_flask(explain: Callable[..., Any]) -> None:
    """Views, and methods of class-based views."""
    app = Flask("shop")
    flask.RateLimit(app, **OPTIONS)

    class Reports(MethodView):
        decorators = [flask.limit("6/minute")]  # noqa: RUF012  # Flask's name

        @flask.limit("2/hour", scope="posted")
        def post(self) -> Any:
            return ""

    app.add_url_rule("/login/<name>", view_func=flask.limit("5/minute", scope="login")(_never), methods=["POST"])
    app.add_url_rule("/reports", view_func=Reports.as_view("reports"))
    found = explain(app, "POST", "/reports")
    response = Client(app).post("/reports", headers={"X-API-Key": "awx_example_key"})

    assert explain(app, "POST", "/login/ada") == {"login.minute": 5}
    assert explain(app, "GET", "/nowhere") == {}
    assert sorted(found.values()) == [2, 6]
    assert [name for name in found if f'"{name}";' not in response.headers["ratelimit"]] == []


def _hosted() -> Flask:
    app = Flask("shop", static_host="static.example.com", host_matching=True)
    app.add_url_rule("/login", host="shop.example.com", view_func=flask.limit("5/minute")(_never), methods=["POST"])
    return app


def _with_subdomains() -> Flask:
    app = Flask("shop", subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.com"
    app.add_url_rule("/login", subdomain="api", view_func=flask.limit("5/minute")(_never), methods=["POST"])
    return app


class _Adapting(Flask):
    """An app that routes by a header, as one with several tenants may."""

    def create_url_adapter(self, request: Any) -> Any:
        return super().create_url_adapter(request)


def _with_own_adapter() -> Flask:
    app = _Adapting("shop")
    app.add_url_rule("/login", view_func=flask.limit("5/minute")(_never), methods=["POST"])
    return app


class _Broken(BaseConverter):
    def to_python(self, value: str) -> Any:
        raise LookupError(value)


def _with_broken_router() -> Flask:
    app = Flask("shop")
    app.url_map.converters["broken"] = _Broken
    app.add_url_rule("/<broken:x>", view_func=flask.limit("5/minute")(_never), methods=["POST"])
    return app


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_hosted, "the app chooses routes by more than the path"),
        (_with_subdomains, "the app chooses routes by more than the path"),
        (_with_own_adapter, "the app chooses routes by more than the path"),
        (_with_broken_router, "the router of the app raised a LookupError"),
    ],
)
def test_routes_of_flask_that_are_unknown(run: Run, named: Named, make: Callable[[], Flask], reason: str) -> None:
    """A route that the path alone does not find may have limits: the command says that it does not know them."""
    app = make()
    flask.RateLimit(app, **OPTIONS)
    words = ("explain", "POST", "/login", "--app", named(app), "--key", "-")
    ran, as_json = run(*words, stdin=b"awx_example_key"), run(*words, "--json", stdin=b"awx_example_key")

    assert reason in ran.err
    assert as_json.json["knows_route_limits"] is False


def test_quart(explain: Callable[..., Any]) -> None:
    """Views of an app that is around the middleware."""
    app = Quart("shop")
    app.asgi_app = RateLimitMiddleware(app.asgi_app, **OPTIONS)  # type: ignore[method-assign,assignment]
    app.add_url_rule("/login", "login", quart.limit("5/minute", scope="login")(_never), methods=["POST"])

    assert explain(app, "POST", "/login") == {"login.minute": 5}


@django.limit("5/minute", scope="login")
def _login(_: Any) -> Any:
    _never()


@django.limit("6/minute")
class _Search(DjangoView):
    pass


@method_decorator(django.limit("7/minute"), name="dispatch")
class _Reports(DjangoView):
    @method_decorator(django.limit("8/minute"))
    def get(self, _: Any) -> Any:
        from django.http import HttpResponse

        return HttpResponse("")


def test_django(explain: Callable[..., Any]) -> None:
    """Functions, class-based views and their methods, with the names that the server uses."""
    from django.core.wsgi import get_wsgi_application

    views = {"login": _login, "search": _Search.as_view(), "reports": _Reports.as_view()}
    site = Site(views, MIDDLEWARE=[ENTRY], AWX_RATELIMIT=OPTIONS)
    with override_settings(**site.settings):
        app = get_wsgi_application()
        found = [explain(app, "GET", f"/{path}") for path in views]
    answer = site.wsgi()("/reports", "awx_example_key")

    assert [sorted(each.values()) for each in found] == [[5], [6], [7, 8]]
    assert [name for name in found[2] if f'"{name}";' not in answer.headers["ratelimit"]] == []


def test_exempt_route_with_a_limit(run: Run, named: Named) -> None:
    """A path that a rule exempts is not called exempt without a word if its route has a limit."""
    ran = run("explain", "GET", "/free", "--app", named(_fastapi()))

    assert ran.out.startswith("GET /free: exempt, but the route has its own limits, which are not shown\n")


def _gate() -> Gate:
    return Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StaticKeys(OPTIONS["keys"]))


def test_unknown_routes(run: Run, named: Named, tmp_path: Path) -> None:
    """Where the limits of routes are not known, the command says so and why, also in JSON."""
    words = ("explain", "POST", "/login", "--app", named(_gate()), "--key", "-")
    ran, as_json = run(*words, stdin=b"awx_example_key"), run(*words, "--json", stdin=b"awx_example_key")

    assert ran.out.startswith("POST /login: allowed")
    assert (
        "note: the route limits are not known here, so one of them may refuse the request. The reason: the" in ran.err
    )
    assert "in apps of FastAPI, Starlette, Flask, Quart and Django, and --app names something else" in ran.err
    assert as_json.json["knows_route_limits"] is False


def test_limit_of_another_gate(run: Run, named: Named) -> None:
    """A limit that another gate decides is not shown, and the command says so."""
    app = Flask("shop")
    flask.RateLimit(app, **OPTIONS)
    app.add_url_rule("/login", view_func=flask.limit("5/minute", gate=_gate(), scope="x")(_never), methods=["POST"])
    ran = run("explain", "POST", "/login", "--app", named(app), "--key", "-", stdin=b"awx_example_key")

    assert "x.minute" not in ran.out
    assert "another gate than that of the app decides some of them" in ran.err
