"""The shorter examples of docs/fastapi.md and docs/flask.md do what the pages say."""

from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.docs.pages import blocks, gate_of, run_text

from awx_ratelimit.testing import frozen

KEY = {"X-API-Key": "awx_example_key"}


class TestFastApi:
    """docs/fastapi.md without its last block, which is a whole program: see test_programs.py."""

    @pytest.fixture
    def names(self) -> dict[str, Any]:
        """The names of the page."""
        return run_text("".join(blocks("docs/fastapi.md", "python")[:-1]))

    def test_own_response(self, names: dict[str, Any]) -> None:
        """The handler of the page answers refusals of routes, with the headers of the limit."""
        app = names["app"]
        with frozen(gate_of(app)):
            client = TestClient(app)
            answers = [client.get("/search?q=a", headers=KEY) for _ in range(31)]

        assert answers[-1].status_code == 429
        assert answers[-1].json() == {"error": "slow_down"}
        assert answers[-1].headers["retry-after"] == "2"

    def test_document(self, names: dict[str, Any]) -> None:
        """The OpenAPI document of the second app has the key and the 429."""
        documented = names["documented"]

        assert documented.openapi()["components"]["securitySchemes"]["ApiKey"]["name"].lower() == "x-api-key"

    def test_settled(self, names: dict[str, Any]) -> None:
        """A chat costs three requests."""
        app = names["app"]
        with frozen(gate_of(app)):
            client = TestClient(app)
            client.post("/chat", headers=KEY)
            left = client.get("/other", headers=KEY).headers["ratelimit"]

        assert left.startswith('"minute";r=56')


def test_flask() -> None:
    """A chat costs three requests, a limited view has its own bucket, and an app of the factory is limited."""
    *short, _ = blocks("docs/flask.md", "python")
    names = run_text("".join(short))
    app = names["app"]
    with frozen(app.wsgi_app.gate):
        client = app.test_client()
        for method, path in (("POST", "/chat"), ("GET", "/search")):
            with client.open(path, method=method, headers=KEY) as response:
                left = response.headers["RateLimit"]

    assert left.startswith('"minute";r=56')
    assert '"search.minute";r=29' in left
    with names["create_app"]().test_client().get("/") as response:
        assert response.status_code == 401
