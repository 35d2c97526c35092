"""The functions of docs/migration that keep the responses of the library before the move."""

import json
from typing import Any

import pytest
import slowapi
from django.core.exceptions import PermissionDenied
from django_ratelimit.exceptions import Ratelimited

# It configures Django, once in each process.
from examples import django_app
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi_limiter.callback import default_callback
from flask import Flask
from flask_limiter import Limiter as FlaskLimiter
from rest_framework.exceptions import Throttled
from slowapi.errors import RateLimitExceeded
from starlette.testclient import TestClient
from tests.docs.pages import gate_of, run

from awx_ratelimit import Plan, RateLimitMiddleware, Refusal, Reply, Rule
from awx_ratelimit.adapters.fastapi import limit
from awx_ratelimit.adapters.flask import limit as flask_limit
from awx_ratelimit.testing import frozen

assert django_app.urlpatterns
KEY = {"X-API-Key": "awx_example_key"}


def replied(page: str, retry_after_s: int | None = None) -> Reply:
    """What the function of a page replies to a refusal."""
    reply: Reply = run(f"docs/migration/{page}.md")["on_refused"](
        None, Refusal(retry_after_s, ["minute"], None, Reply.json({}))
    )
    return reply


@pytest.fixture
def slowapi_page() -> dict[str, Any]:
    """The names of docs/migration/slowapi.md."""
    return run("docs/migration/slowapi.md")


def test_slowapi_function(slowapi_page: dict[str, Any]) -> None:
    """60 searches a minute of a partner are admitted, and 10 of a customer."""
    with frozen(gate_of(slowapi_page["app"])):
        client = TestClient(slowapi_page["app"])
        admitted = {
            key: [client.get("/search", headers={"X-API-Key": key}).status_code for _ in range(61)].count(200)
            for key in ("awx_partner_key", "awx_example_key")
        }

    assert admitted == {"awx_partner_key": 60, "awx_example_key": 10}


def test_slowapi_several_limits(slowapi_page: dict[str, Any]) -> None:
    """A route with two dependencies reports both limits, and a refusal of one charges neither."""
    with frozen(gate_of(slowapi_page["app"])):
        client = TestClient(slowapi_page["app"])
        answers = [client.get("/prices", headers=KEY) for _ in range(7)]
        other = client.get("/prices", headers={"X-API-Key": "awx_partner_key"})

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert '"prices.minute";r=4' in other.headers["ratelimit"]
    assert '"prices-2.minute";r=14' in other.headers["ratelimit"]


def test_slowapi_body(slowapi_page: dict[str, Any]) -> None:
    """The body is that of slowapi: the limit in words, or the message of the limit."""
    api, app = slowapi_page["api"], FastAPI()
    app.state.limiter = slowapi.Limiter(lambda: "everybody")
    handler: Any = slowapi._rate_limit_exceeded_handler
    app.add_exception_handler(RateLimitExceeded, handler)

    @app.get("/quotes")
    @app.state.limiter.limit("1/minute")
    def before(request: Request) -> None: ...

    @app.get("/search")
    @app.state.limiter.limit("1/minute", error_message="Too many searches.")
    def searched(request: Request) -> None: ...

    for path in ("quotes", "search"):
        api.get(f"/{path}", name=path, dependencies=[Depends(limit("1/minute"))])(lambda: None)
    with frozen(gate_of(api)):
        for path in ("/quotes", "/search"):
            old, new = ([TestClient(each).get(path, headers=KEY) for _ in range(2)][-1] for each in (app, api))

            assert new.json() == old.json()
            assert new.status_code == old.status_code == 429


def test_slowapi_body_of_a_plan(slowapi_page: dict[str, Any]) -> None:
    """A refusal by the caller's plan names its limit."""
    with frozen(gate_of(slowapi_page["api"])):
        client = TestClient(slowapi_page["api"])
        answers = [client.get("/nowhere", headers=KEY) for _ in range(61)]

    assert answers[-1].json() == {"error": "Rate limit exceeded: 60 per 1 minute"}


def test_slowapi_body_of_a_function(slowapi_page: dict[str, Any]) -> None:
    """A limit that was a function is named in the size that it has for the caller."""
    api: FastAPI = slowapi_page["api"]
    api.get("/reports", dependencies=[Depends(limit("60/minute", scope="reports", cost=lambda _: 20))])(lambda: None)
    with frozen(gate_of(api)):
        answers = [TestClient(api).get("/reports", headers=KEY) for _ in range(4)]

    assert answers[-1].json() == {"error": "Rate limit exceeded: 3 per 1 minute"}


def test_slowapi_body_of_a_rule(slowapi_page: dict[str, Any]) -> None:
    """The limit of a rule is named with its numbers, too."""
    rule = Rule("/login", budget="logins", plan=Plan.of("logins", per_hour=2))
    options = {"keys": {"awx_example_key": "starter"}, "on_refused": slowapi_page["on_refused"], "rules": [rule]}
    app = RateLimitMiddleware(FastAPI(), **options)
    with frozen(app.gate):
        answers = [TestClient(app).get("/login", headers=KEY) for _ in range(3)]

    assert answers[-1].json() == {"error": "Rate limit exceeded: 2 per 1 hour"}


def test_flask_limiter_text() -> None:
    """The text is that of Flask-Limiter: the limit in words, or the message of the limit."""
    app, old = run("docs/migration/flask-limiter.md")["app"], Flask("old")
    limiter = FlaskLimiter(lambda: "everybody", app=old, storage_uri="memory://")
    old.get("/quotes")(limiter.limit("1/minute")(lambda: "ok"))
    old.errorhandler(429)(lambda error: (error.description, 429))
    reports = flask_limit("60/minute", scope="reports", cost=lambda _: 20)
    app.add_url_rule("/reports", view_func=reports(lambda: "ok"), endpoint="reports")
    app.add_url_rule("/quotes", view_func=flask_limit("1/minute", scope="quotes")(lambda: "ok"))

    with frozen(app):
        texts = [[each.test_client().get("/quotes", headers=KEY).text for _ in range(2)][-1] for each in (old, app)]
        functions = [app.test_client().get("/reports", headers=KEY).text for _ in range(4)]
        searches = [app.test_client().get("/search", headers=KEY).text for _ in range(6)]

    assert texts[0] == texts[1] == "1 per 1 minute"
    assert functions[-1] == "3 per 1 minute"
    assert searches[-1] == "Too many searches."


def test_fastapi_limiter_body() -> None:
    """The body is that of fastapi-limiter's default callback."""
    with pytest.raises(HTTPException) as refused:
        default_callback()  # type: ignore[no-untyped-call]

    assert json.loads(replied("fastapi-limiter").body) == {"detail": refused.value.detail}


def test_django_ratelimit_status() -> None:
    """The status is that of the exception that django-ratelimit raises."""
    assert issubclass(Ratelimited, PermissionDenied)
    assert replied("django-ratelimit").status == 403


@pytest.mark.parametrize("wait_s", [None, 1, 12])
def test_drf_body(wait_s: int | None) -> None:
    """The body is that of the framework, with and without a wait."""
    assert json.loads(replied("drf", wait_s).body) == {"detail": str(Throttled(wait=wait_s).detail)}
