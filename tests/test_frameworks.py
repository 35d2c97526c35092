"""The examples of frameworks, in process: routers, mounted apps and blueprints are all limited."""

from collections.abc import Iterator
from typing import Any

import pytest
from examples import django_app, fastapi_app
from starlette.testclient import TestClient
from werkzeug.test import Client

from awx_ratelimit import Gate
from awx_ratelimit.testing import ManualClock, frozen, rate_limits

KEY = {"X-API-Key": "awx_demo_starter"}
__all__ = ["rate_limits"]


@pytest.fixture
def rate_limited() -> Gate:
    """The gate that the fixture `rate_limits` freezes."""
    return django_app.gate


@pytest.fixture
def fastapi() -> Iterator[TestClient]:
    app = fastapi_app.create_app()
    with frozen(app.state.gate), TestClient(app) as client:
        yield client


def test_fastapi_routers_and_mounts(fastapi: TestClient) -> None:
    """An included router and a mounted app share one limit."""
    paths = ["/v1/agents", "/reports/daily"] * 30
    statuses = [fastapi.get(path, headers=KEY).status_code for path in paths]

    assert statuses == [200] * 60
    assert fastapi.get("/reports/daily", headers=KEY).status_code == 429


def test_fastapi_budget(fastapi: TestClient) -> None:
    """The sixth login of a minute is refused, and other requests are admitted."""
    statuses = [fastapi.post("/v1/login", headers=KEY, json={"name": "a"}).status_code for _ in range(6)]

    assert statuses == [200] * 5 + [429]
    assert fastapi.get("/v1/agents", headers=KEY).status_code == 200


def test_fastapi_route_limit(fastapi: TestClient) -> None:
    """The 31st search of a minute is refused, and other requests are admitted."""
    statuses = [fastapi.get("/v1/search", headers=KEY).status_code for _ in range(31)]

    assert statuses == [200] * 30 + [429]
    assert fastapi.get("/v1/agents", headers=KEY).status_code == 200


def test_fastapi_document(fastapi: TestClient) -> None:
    """The OpenAPI document and its page need no key, and the document describes the 429."""
    document: Any = fastapi.get("/openapi.json").json()

    assert fastapi.get("/docs").status_code == 200
    assert "429" in document["paths"]["/v1/agents"]["get"]["responses"]


def test_django_on_wsgi(rate_limits: ManualClock) -> None:
    """Ten reports of cost 5 and ten pages use up a minute, and requests are admitted after the wait."""
    client = Client(django_app.application)
    paths = ["/v1/report"] * 10 + ["/v1/agents"] * 11

    statuses = [_status(client, path) for path in paths]
    rate_limits.advance(1_000)
    assert statuses == [200] * 20 + [429]
    assert _status(client, "/v1/agents") == 200


def test_django_on_asgi(rate_limits: ManualClock) -> None:
    """The WSGI and the ASGI application of one process share their limits."""
    _status(Client(django_app.application), "/v1/report")
    # Without `with`, because Django's ASGI application supports no lifespan.
    answer = TestClient(django_app.asgi_application).get("/v1/agents", headers=KEY)

    assert answer.status_code == 200
    assert answer.headers["ratelimit"].split(", ")[0] == '"minute";r=54;t=54'
    assert rate_limits.now_ms() > 0


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_django_preflight(kind: str, rate_limits: ManualClock) -> None:
    """Without a key an OPTIONS request is a 401; with one it is charged, and the view answers 405."""
    client = Client(django_app.application) if kind == "wsgi" else TestClient(django_app.asgi_application)
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    without_key = client.options("/v1/agents", headers=preflight)
    with_key = client.options("/v1/agents", headers={**preflight, **KEY})
    without_key.close()
    with_key.close()

    assert without_key.status_code == 401
    assert with_key.status_code == 405
    assert with_key.headers["ratelimit"].startswith('"minute";r=59')
    assert rate_limits.now_ms() > 0


def test_frozen(rate_limits: ManualClock) -> None:
    """Each test begins with unused limits, and time stands still during the test."""
    client = Client(django_app.application)
    before = [_status(client, "/v1/agents") for _ in range(61)][-1]
    with frozen(django_app.gate):
        inside = _status(client, "/v1/agents")

    assert before == 429
    assert inside == 200
    assert rate_limits.now_ms() % 86_400_000 == 0


def _status(client: Client, path: str) -> int:
    with client.get(path, headers=KEY) as answer:
        answer.get_data()
        return answer.status_code
