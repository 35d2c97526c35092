"""Wrong arguments of middlewares and mounted apps."""

from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.testclient import TestClient
from tests.mistakes.cases import (
    Mistake,
    assert_refused,
    async_gate,
    each,
    flask_app,
    starlette_app,
    sync_gate,
)
from werkzeug.test import Client

from awx_ratelimit.adapters.starlette import RateLimitMiddleware as AsgiMiddleware
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware as WsgiMiddleware

MISTAKES: list[Mistake] = [
    (
        "AsgiMiddleware(flask_app, gate=async_gate())",
        TypeError,
        "app: expected an app for ASGI, got a Flask; use awx_ratelimit.adapters.werkzeug.RateLimitMiddleware for WSGI",
    ),
    (
        "AsgiMiddleware(flask_app.wsgi_app, gate=async_gate())",
        TypeError,
        "app: expected an app for ASGI, got the function Flask.wsgi_app; use "
        "awx_ratelimit.adapters.werkzeug.RateLimitMiddleware for WSGI",
    ),
    (
        "WsgiMiddleware(starlette_app, gate=sync_gate())",
        TypeError,
        "app: expected an app for WSGI, got a Starlette; use "
        "awx_ratelimit.adapters.starlette.RateLimitMiddleware for ASGI",
    ),
    (
        "AsgiMiddleware(starlette_app, gate=sync_gate())",
        TypeError,
        "gate: expected a gate for ASGI, got a Gate; write gate=AsyncGate(AsyncLimiter(backend), "
        "plans=..., identify=...)",
    ),
    (
        "WsgiMiddleware(flask_app, gate=async_gate())",
        TypeError,
        "gate: expected a gate for WSGI, got an AsyncGate; write gate=Gate(Limiter(backend), plans=..., identify=...)",
    ),
    (
        "AsgiMiddleware(starlette_app, gate=None)",
        TypeError,
        "gate: expected a gate for ASGI, got None; write gate=AsyncGate(AsyncLimiter(backend), "
        "plans=..., identify=...)",
    ),
    (
        "AsgiMiddleware(starlette_app, gate=AsyncGate)",
        TypeError,
        "gate: expected a gate for ASGI, got the class AsyncGate; write "
        "gate=AsyncGate(AsyncLimiter(backend), plans=..., identify=...)",
    ),
    (
        "WsgiMiddleware(flask_app, gate=limiter)",
        TypeError,
        "gate: expected a gate for WSGI, got a Limiter; write gate=Gate(Limiter(backend), plans=..., identify=...)",
    ),
    (
        "AsgiMiddleware(Starlette, gate=async_gate())",
        TypeError,
        "app: expected an app for ASGI, got the class Starlette; use an instance that is called as "
        "app(scope, receive, send)",
    ),
    (
        "AsgiMiddleware(None, gate=async_gate())",
        TypeError,
        "app: expected an app for ASGI, got None; use one that is called as app(scope, receive, send)",
    ),
    (
        'AsgiMiddleware("main:app", gate=async_gate())',
        TypeError,
        "app: expected an app for ASGI, got a str; use one that is called as app(scope, receive, send)",
    ),
    (
        "AsgiMiddleware(no_parameters, gate=async_gate())",
        TypeError,
        "app: expected an app for ASGI, got the function no_parameters; use one that is called as "
        "app(scope, receive, send)",
    ),
    (
        "WsgiMiddleware(Flask, gate=sync_gate())",
        TypeError,
        "app: expected an app for WSGI, got the class Flask; use an instance that is called as "
        "app(environ, start_response)",
    ),
    (
        "RateLimitMiddleware(starlette_app, keys={}, plans=no_parameters)",
        TypeError,
        "plans: expected the path of a plan table, a PlanTable or a list of Plans, got the function no_parameters; "
        "write plans=no_parameters() if it returns the plans. For a plan that depends on the request, write "
        "identify=function: it returns Caller(subject, plan)",
    ),
    (
        "RateLimitMiddleware(starlette_app, keys={}, plans=lambda request: plan)",
        TypeError,
        "plans: expected the path of a plan table, a PlanTable or a list of Plans, got the function <lambda>; write "
        "plans=function() if it returns the plans. For a plan that depends on the request, write identify=function: "
        "it returns Caller(subject, plan)",
    ),
    (
        'RateLimitMiddleware(starlette_app, keys={}, plans={"starter": plan})',
        TypeError,
        "plans: expected the path of a plan table, a PlanTable or a list of Plans, got a dict; write "
        'plans=PlanTable.from_mapping({"plans": ...}), or plans=[plan] for Plans',
    ),
    (
        'RateLimitMiddleware(starlette_app, keys={}, plans="60/minute")',
        TypeError,
        "plans: expected the path of a plan table, a PlanTable or a list of Plans, got a str; write "
        "plans=[Plan('default', (Rate.parse('60/minute'),))] for a plan of this rate",
    ),
    (
        "RateLimitMiddleware(starlette_app, keys={}, plans=60)",
        TypeError,
        "plans: expected the path of a plan table, a PlanTable or a list of Plans, got an int; write "
        "plans=[Plan.of('default', per_minute=60)]",
    ),
    (
        "AsgiApp(ManagementApi)",
        TypeError,
        "AsgiApp: expected a ManagementApi or a Console, got the class ManagementApi; write "
        "AsgiApp(ManagementApi(...))",
    ),
    (
        "AsgiApp(starlette_app)",
        TypeError,
        "AsgiApp: expected a ManagementApi or a Console, got a Starlette; write AsgiApp(ManagementApi(...))",
    ),
    (
        "WsgiApp(flask_app)",
        TypeError,
        "WsgiApp: expected a ManagementApi or a Console, got a Flask; write WsgiApp(ManagementApi(...))",
    ),
    (
        "document_limits(async_gate(), FastAPI())",
        TypeError,
        "document_limits: expected a FastAPI app and its AsyncGate, got an AsyncGate and a FastAPI",
    ),
    (
        "document_limits(starlette_app, async_gate())",
        TypeError,
        "document_limits: expected a FastAPI app and its AsyncGate, got a Starlette and an AsyncGate",
    ),
]


@each(MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    """A wrong app, gate or API is refused when it is wrapped."""
    assert_refused(mistake)


def test_wsgi_middleware_around_its_own_app() -> None:
    """``app.wsgi_app = RateLimitMiddleware(app)``, which would call itself forever, says what to write."""
    app = Flask("looped")
    app.wsgi_app = WsgiMiddleware(app, gate=sync_gate())  # type: ignore[method-assign]

    with pytest.raises(RuntimeError, match=r"write app\.wsgi_app = RateLimitMiddleware\(app\.wsgi_app, gate=gate\)$"):
        Client(app).get("/", headers={"X-API-Key": "awx_example_key"})


def test_asgi_middleware_around_its_own_app() -> None:
    """An app that calls its own attribute `asgi_app`, as Quart does, gets the same error."""

    class QuartLike:
        asgi_app: Any

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.asgi_app(scope, receive, send)

    app = QuartLike()
    app.asgi_app = AsgiMiddleware(app, gate=async_gate())

    with pytest.raises(RuntimeError, match=r"write app\.asgi_app = RateLimitMiddleware\(app\.asgi_app, gate=gate\)$"):
        TestClient(app).get("/", headers={"X-API-Key": "awx_example_key"})


def wrapped(app: Any) -> Any:
    def wrapper(*arguments: Any, **more: Any) -> Any:
        return app(*arguments, **more)

    return wrapper


class Endpoint:
    """An app in the form of Starlette's endpoints: a class that is instantiated for each request, and awaited."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Any: ...


@pytest.mark.parametrize(
    "app",
    [starlette_app, FastAPI(), wrapped(starlette_app), starlette_app.__call__, Endpoint],
    ids=["object", "FastAPI", "wrapper", "method", "class"],
)
def test_form_of_an_asgi_app(app: Any) -> None:
    """Every callable with the interface of ASGI is accepted."""
    assert AsgiMiddleware(app, gate=async_gate()).app is app


@pytest.mark.parametrize(
    "app",
    [flask_app, flask_app.wsgi_app, wrapped(flask_app), lambda environ, start_response: []],
    ids=["object", "method", "wrapper", "function"],
)
def test_form_of_a_wsgi_app(app: Any) -> None:
    """Every callable with the interface of WSGI is accepted."""
    assert WsgiMiddleware(app, gate=sync_gate()).app is app
