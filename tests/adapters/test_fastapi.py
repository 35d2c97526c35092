"""`document_limits` adds keys and limits to FastAPI's OpenAPI document."""

import inspect
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.testclient import TestClient

from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend, PlanTable, Rule, StaticKeys, StoredKeys
from awx_ratelimit.adapters.fastapi import document_limits, limit
from awx_ratelimit.adapters.starlette import RateLimitMiddleware
from awx_ratelimit.keys import KeyStore, KeyVerifier


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    router = APIRouter(prefix="/v1")
    gate = AsyncGate(
        AsyncLimiter(MemoryBackend()),
        plans=PlanTable.default(),
        identify=StaticKeys({"awx_example": "starter"}),
        rules=[Rule("/health", exempt=True)],
    )

    @router.get("/agents/{agent_id}")
    def agent(agent_id: str) -> str:
        return agent_id

    @app.get("/health")
    def health() -> str:
        return "ok"

    app.include_router(router)
    document_limits(app, gate)
    app.add_middleware(RateLimitMiddleware, gate=gate)
    return app


def test_documented_operation(app: FastAPI) -> None:
    """Each limited operation has the security scheme, the 401 and the 429; calling openapi() again changes nothing."""
    document: Any = app.openapi()
    operation = document["paths"]["/v1/agents/{agent_id}"]["get"]

    assert document["components"]["securitySchemes"] == {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    }
    assert operation["security"] == [{"ApiKey": []}]
    assert list(operation["responses"]["429"]["headers"]) == ["Retry-After", "RateLimit-Policy", "RateLimit"]
    assert set(operation["responses"]) == {"200", "401", "422", "429"}
    assert app.openapi() == document


def test_exempt_operation(app: FastAPI) -> None:
    """Exempt operations are not changed."""
    operation = app.openapi()["paths"]["/health"]["get"]

    assert "security" not in operation
    assert set(operation["responses"]) == {"200"}


def test_bearer_key(tmp_path: Path) -> None:
    """If the gate reads keys from the Authorization header too, the document says so: either is enough."""
    with closing(KeyStore.open(tmp_path / "keys.db")) as store, closing(KeyVerifier(store)) as verifier:
        stored, static = StoredKeys(verifier, bearer=True), StaticKeys({"awx_example": "starter"}, bearer=True)
        documents = [_documented(identify) for identify in (stored, static)]

    for document in documents:
        assert document["components"]["securitySchemes"]["BearerKey"] == {"type": "http", "scheme": "bearer"}
        assert document["paths"]["/"]["get"]["security"] == [{"ApiKey": []}, {"BearerKey": []}]


def _documented(identify: StoredKeys | StaticKeys) -> Any:
    app = FastAPI()
    app.get("/")(lambda: "ok")
    document_limits(app, AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable.default(), identify=identify))
    return app.openapi()


def test_limit_of_an_exempt_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its 429 in the document, also if it is the first limit of the process and made after the call."""
    monkeypatch.setattr(FastAPI, "openapi", inspect.unwrap(FastAPI.openapi))
    app = FastAPI()
    gate = AsyncGate(
        AsyncLimiter(MemoryBackend()),
        plans=PlanTable.default(),
        identify=StaticKeys({"awx_example": "starter"}),
        rules=[Rule("/login", exempt=True)],
    )
    document_limits(app, gate)
    app.post("/login", dependencies=[Depends(limit("5/minute", per="address"))])(lambda: "ok")

    assert set(app.openapi()["paths"]["/login"]["post"]["responses"]) == {"200", "429"}


def test_document_needs_a_key(app: FastAPI) -> None:
    """Included routers are limited, and so is the document itself unless a rule exempts it."""
    with TestClient(app) as client:
        statuses = [client.get(path).status_code for path in ("/v1/agents/a", "/openapi.json", "/health")]
        served = client.get("/openapi.json", headers={"X-API-Key": "awx_example"}).json()

    assert statuses == [401, 401, 200]
    assert "ApiKey" in served["components"]["securitySchemes"]
