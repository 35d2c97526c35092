"""The snippets of docs/cors.md let browser scripts read every response, and the wrong order logs a warning."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient as AsgiClient
from werkzeug.test import Client as WsgiClient

from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend, Plan, PlanTable, StaticKeys
from awx_ratelimit.adapters.starlette import RateLimitMiddleware

PAGE = (Path(__file__).parents[2] / "docs" / "cors.md").read_text()
FASTAPI, LITESTAR, QUART, FLASK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ORIGIN = "https://app.example.com"
NAMES = {"retry-after", "ratelimit-policy", "ratelimit"}
FROM_SCRIPT = {"Origin": ORIGIN, "X-API-Key": "awx_example_key"}
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "X-API-Key",
}


def gate(**fields: Any) -> AsyncGate:
    """A gate whose one caller may send one request."""
    return AsyncGate(
        AsyncLimiter(MemoryBackend()),
        plans=PlanTable([Plan.of("starter", per_day=1)]),
        identify=StaticKeys({"awx_example_key": "starter"}),
        **fields,
    )


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the limiter has logged."""
    return [record.getMessage() for record in caplog.records if record.name == "awx_ratelimit"]


def run(snippet: str) -> Any:
    """The app of a snippet of the page."""
    names: dict[str, Any] = {"gate": gate(), "__name__": __name__}
    exec(compile(snippet, "cors.md", "exec", dont_inherit=True), names)
    return names["app"]


def assert_readable(answer: Any, status: int) -> None:
    """A script of ORIGIN may read the answer and the header lines of the limiter."""
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")} >= NAMES


def assert_a_script_reads_all(client: Any, path: str, admitted: int, limit: int = 1) -> None:
    """The preflight is answered without a key, then each answer can be read: within the limit, over it, and a 401."""
    preflight = client.options(path, headers=PREFLIGHT)
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "x-api-key" in preflight.headers["access-control-allow-headers"].lower()
    for _ in range(limit):
        assert_readable(client.get(path, headers=FROM_SCRIPT), admitted)
    assert_readable(client.get(path, headers=FROM_SCRIPT), 429)
    assert_readable(client.get(path, headers={"Origin": ORIGIN}), 401)


@pytest.mark.parametrize(("snippet", "admitted"), [(FASTAPI, 404), (LITESTAR, 200), (QUART, 404)])
def test_asgi_snippets(snippet: str, admitted: int, caplog: pytest.LogCaptureFixture) -> None:
    """On FastAPI, Litestar and Quart scripts can read every response, and no warning is logged."""
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        assert_a_script_reads_all(AsgiClient(run(snippet)), "/", admitted)

    assert warnings(caplog) == []


def test_flask_snippet() -> None:
    """On Flask scripts can read every response, and each CORS header occurs once."""
    app = run(FLASK)
    app.get("/")(lambda: "hello")
    client = WsgiClient(app)

    assert_a_script_reads_all(client, "/", 200, limit=60)
    assert len(client.get("/", headers=FROM_SCRIPT).headers.getlist("access-control-allow-origin")) == 1
    assert "access-control-allow-origin" not in client.get("/", headers={"Origin": "https://evil.example"}).headers


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


def wrong_starlette() -> Any:
    app = Starlette(routes=[Route("/", hello)])
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
    app.add_middleware(RateLimitMiddleware, gate=gate())
    return app


def wrong_fastapi() -> Any:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
    app.add_middleware(RateLimitMiddleware, gate=gate())
    return app


def wrong_list() -> Any:
    inside = [Middleware(RateLimitMiddleware, gate=gate()), Middleware(CORSMiddleware, allow_origins=[ORIGIN])]
    return Starlette(routes=[Route("/", hello)], middleware=inside)


def wrapped() -> Any:
    app = FastAPI()
    limited = RateLimitMiddleware(app, gate=gate())
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
    return limited


@pytest.mark.parametrize("make", [wrong_starlette, wrong_fastapi, wrong_list, wrapped])
def test_cors_middleware_inside(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In the wrong order refusals have no CORS headers, and one warning at startup shows the right order."""
    with caplog.at_level(logging.WARNING, "awx_ratelimit"), AsgiClient(make()) as client:
        assert "add CORSMiddleware after RateLimitMiddleware" in warnings(caplog)[0]
        answers = [client.get("/", headers=FROM_SCRIPT) for _ in range(3)]

    assert answers[-1].status_code == 429
    assert "access-control-allow-origin" not in answers[-1].headers
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        ((), False),
        (("Retry-After", "ratelimit-policy", "RateLimit", "X-More"), False),
        (("X-More",), True),
        (("Retry-After",), True),
    ],
)
def test_replaced_expose_headers(names: tuple[str, ...], warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A CORS middleware with names of its own replaces those of expose=True: the log says which to add."""
    app = Starlette(routes=[Route("/", hello)])
    app.add_middleware(RateLimitMiddleware, gate=gate(expose=True))
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN], expose_headers=names)
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        answer = AsgiClient(app).get("/", headers=FROM_SCRIPT)
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}

    assert (exposed >= NAMES) is not warned
    assert [("expose_headers" in message and "'ratelimit'" in message) for message in warnings(caplog)] == [
        True
    ] * warned


def test_no_warning_for_a_second_limiter(caplog: pytest.LogCaptureFixture) -> None:
    """A CORS middleware outside is found through the app, so one more inside does no harm."""
    app = Starlette(routes=[Route("/", hello)])
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
    app.add_middleware(RateLimitMiddleware, gate=gate())
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        AsgiClient(app).get("/", headers=FROM_SCRIPT)

    assert warnings(caplog) == []


def test_unusual_app_attributes(caplog: pytest.LogCaptureFixture) -> None:
    """Looking for a CORS middleware never makes a request fail, and ends where apps wrap each other in a circle."""

    class Strange:
        @property
        def app(self) -> Any:
            raise RuntimeError("no app yet")

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("hello")(scope, receive, send)

    class Circle(Strange):
        @property
        def app(self) -> Any:
            return self

    for app in (Strange(), Circle()):
        assert AsgiClient(RateLimitMiddleware(app, gate=gate())).get("/", headers=FROM_SCRIPT).status_code == 200
    assert warnings(caplog) == []
