"""The responses that pages show are those that clients get, byte for byte."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.docs.pages import PAGES, blocks, gate_of, run, run_first

from awx_ratelimit import AsyncGate, Request
from awx_ratelimit.adapters.asgi.route_limits import default_gate
from awx_ratelimit.testing import frozen

KEY = {"X-API-Key": "awx_example_key"}


def written(status: int, headers: list[tuple[str, str]], body: str) -> str:
    """A response as pages show it, without the header content-length."""
    lines = [f"{name}: {value}" for name, value in headers if name != "content-length"]
    return "\n".join([f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *lines, "", body, ""])


def last_of(app: Any, gate: AsyncGate, path: str, requests: int, accept: str = "*/*") -> str:
    """The last of some requests to an app, within one moment."""
    with frozen(gate):
        client = TestClient(app)
        answers = [client.get(path, headers={**KEY, "Accept": accept}) for _ in range(requests)]
    return written(answers[-1].status_code, answers[-1].headers.multi_items(), answers[-1].text)


def of_the_five_lines() -> str:
    """The 61st request of a key."""
    app = run_first("README.md")["app"]
    return last_of(app, gate_of(app), "/", 61)


def of_a_request_without_a_key() -> str:
    """A request without a key, to the app of the five lines."""
    answer = TestClient(run_first("README.md")["app"]).get("/")
    return written(answer.status_code, answer.headers.multi_items(), answer.text)


def of_a_client_that_prefers_problems() -> str:
    """The 61st request of a key, from a client that prefers RFC 9457."""
    app = run_first("README.md")["app"]
    return last_of(app, gate_of(app), "/", 61, accept="application/problem+json")


def of_the_tutorial() -> str:
    """The first request of a key."""
    app = run_first("docs/tutorial.md")["app"]
    return last_of(app, gate_of(app), "/agents", 1)


def of_the_middleware() -> str:
    """The 61st request of a key."""
    app = run_first("docs/gate.md")["app"]
    return last_of(app, app.gate, "/v1/agents", 61)


def of_a_route() -> str:
    """The 31st request to a limited route without a middleware."""
    app = run("docs/route-limits.md")["app"]
    app.user_middleware.clear()
    return last_of(app, default_gate(), "/search?q=a", 31)


def of_an_ended_session() -> str:
    """A request with a session that has ended."""
    gate = run("docs/identify.md")["gate"]
    lines = {b"authorization": [b"Bearer 77ab"]}
    reply = asyncio.run(gate.admit(Request("GET", "/", "192.0.2.1", lambda name: lines.get(name, [])))).reply
    return written(
        reply.status, [(name.decode(), value.decode()) for name, value in reply.headers], reply.body.decode()
    )


PRODUCED: dict[str, Callable[[], str]] = {
    "README.md": of_the_five_lines,
    "docs/errors.md": of_a_request_without_a_key,
    "docs/reference/http.md": of_a_client_that_prefers_problems,
    "docs/tutorial.md": of_the_tutorial,
    "docs/gate.md": of_the_middleware,
    "docs/route-limits.md": of_a_route,
    "docs/identify.md": of_an_ended_session,
}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "http")])
def test_responses(page: str) -> None:
    """The page shows the whole response, byte for byte."""
    assert blocks(page, "http") == [PRODUCED[page]()]
