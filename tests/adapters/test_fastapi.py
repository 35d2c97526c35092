"""`document_limits` adds keys and limits to FastAPI's OpenAPI document."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient

from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend, PlanTable, Rule, StaticKeys
from awx_ratelimit.adapters.fastapi import document_limits
from awx_ratelimit.adapters.starlette import RateLimitMiddleware


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
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}
    }
    assert operation["security"] == [{"ApiKey": []}]
    assert list(operation["responses"]["429"]["headers"]) == ["Retry-After", "Ratelimit-Policy", "Ratelimit"]
    assert set(operation["responses"]) == {"200", "401", "422", "429"}
    assert app.openapi() == document


def test_exempt_operation(app: FastAPI) -> None:
    """Exempt operations are not changed."""
    operation = app.openapi()["paths"]["/health"]["get"]

    assert "security" not in operation
    assert set(operation["responses"]) == {"200"}


def test_document_needs_a_key(app: FastAPI) -> None:
    """Included routers are limited, and so is the document itself unless a rule exempts it."""
    with TestClient(app) as client:
        statuses = [client.get(path).status_code for path in ("/v1/agents/a", "/openapi.json", "/health")]
        served = client.get("/openapi.json", headers={"X-API-Key": "awx_example"}).json()

    assert statuses == [401, 401, 200]
    assert "ApiKey" in served["components"]["securitySchemes"]
