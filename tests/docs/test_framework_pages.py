"""The shorter examples of docs/fastapi.md and docs/flask.md do what the pages say."""

from typing import Any

import pytest
from flask import Flask
from starlette.testclient import TestClient
from tests.docs.pages import blocks, gate_of, run_text

from awx_ratelimit.http.explain import request_to
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

    def test_messages(self, names: dict[str, Any]) -> None:
        """All connections of a caller share 30 messages a minute, beside the plan that counts handshakes."""
        app = names["talking"]
        with frozen(gate_of(app)):
            client = TestClient(app, headers=KEY)
            replies = []
            for _ in range(2):
                with client.websocket_connect("/talk") as connection:
                    for _ in range(16):
                        connection.send_text("hello")
                        replies.append(connection.receive_json())
            left = client.get("/other").headers["ratelimit"]

        assert replies[:30] == [{"text": "You said hello."}] * 30
        assert replies[30:] == [{"error": "slow_down", "wait_ms": 2_000}] * 2
        assert left.startswith('"minute";r=57')

    def test_background_task(self, names: dict[str, Any]) -> None:
        """A request whose task settles is charged its estimate, and has cost what the task says."""
        app = names["talking"]
        with frozen(gate_of(app)):
            client = TestClient(app, headers=KEY)
            left = [client.post("/reports").headers["ratelimit"].split(";t")[0] for _ in range(2)]

        assert left == ['"minute";r=40', '"minute";r=37']


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


class TestFlaskUsers:
    """docs/flask.md: the users of Flask's session, and the limits of a blueprint."""

    @pytest.fixture
    def names(self) -> dict[str, Any]:
        """The names of the page."""
        return run_text("".join(blocks("docs/flask.md", "python")[:-1]))

    def test_session(self, names: dict[str, Any]) -> None:
        """After a login each user has limits of its own, and before it the address has."""
        app = names["by_user"]
        clients = [app.test_client() for _ in range(3)]
        left = []
        with frozen(app):
            for client, name in zip(clients, ("ann", "ben", None), strict=True):
                if name:
                    client.post("/login", data={"name": name}).close()
                with client.get("/") as response:
                    left.append(response.headers["RateLimit"].split(";t")[0])

        assert left == ['"minute";r=59', '"minute";r=59', '"minute";r=17']

    def test_explained_session(self, names: dict[str, Any]) -> None:
        """A request that nobody has sent has no session, and can be explained."""
        gate = names["by_user"].wsgi_app.gate

        explained = gate.explain(request_to(gate, "GET", "/", client="192.0.2.1"))

        assert explained.caller.subject == "address:192.0.2.1"

    def test_blueprint_without_middleware(self, names: dict[str, Any]) -> None:
        """The function before each view of the blueprint limits it, and leaves the response to the view."""
        app = Flask("alone")
        app.register_blueprint(names["v3"])

        answers = [app.test_client().get("/v3/agents") for _ in range(4)]

        assert [answer.status_code for answer in answers] == [200] * 3 + [429]

    @pytest.mark.parametrize("path", ["/v3/agents", "/v4/agents"])
    def test_blueprint(self, names: dict[str, Any], path: str) -> None:
        """Three requests a minute reach the blueprint."""
        app = names["with_blueprints"]
        statuses = []
        with frozen(app):
            for _ in range(4):
                with app.test_client().get(path, headers=KEY) as response:
                    statuses.append(response.status_code)

        assert statuses == [200 if "v3" in path else 404] * 3 + [429]
