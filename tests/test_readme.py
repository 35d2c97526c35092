"""The README's examples work as they are."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from starlette.testclient import TestClient
from tests.redis_servers import RedisServer

from awx_ratelimit import STARTER, Caller, PlanTable
from awx_ratelimit.http.message import Request
from awx_ratelimit.testing import frozen

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PLANS = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[0]


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snippets run in a temporary folder."""
    monkeypatch.chdir(tmp_path)


def _run(snippet: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(snippet, "README.md", "exec"), names)
    return names


def _answers_of_61_requests() -> list[Any]:
    names = _run(SNIPPETS[0])
    with TestClient(names["app"]) as client, frozen(names["gate"]):
        return [client.get("/v1/agents", headers={"X-API-Key": "awx_example_key"}) for _ in range(61)]


def test_asgi_snippet() -> None:
    """The first snippet admits 60 requests of a key, and answers the 61st with the 429 that the page shows."""
    answers = _answers_of_61_requests()

    shown = re.findall(r"^\{\"code\".*", README, re.MULTILINE)[0]
    assert [answer.status_code for answer in answers] == [200] * 60 + [429]
    assert answers[-1].text == shown


def test_asgi_snippet_with_an_unhandled_exception() -> None:
    """The 500 of an unhandled exception has the headers too."""
    broken = SNIPPETS[0].replace('return JSONResponse({"agents": ["atlas", "borea"]})', 'raise RuntimeError("a bug")')
    with TestClient(_run(broken)["app"], raise_server_exceptions=False) as client:
        response = client.get("/v1/agents", headers={"X-API-Key": "awx_example_key"})

    assert response.status_code == 500
    assert "ratelimit" in response.headers


def test_headers_of_the_429() -> None:
    """The page shows exactly the headers of the 429, in their order."""
    answers = _answers_of_61_requests()

    shown = re.findall(r"^([a-z-]+): ", README.split("HTTP/1.1 429")[1].split("```")[0], re.MULTILINE)
    assert [name for name in answers[-1].headers if name != "content-length"] == shown


def test_wsgi_snippet() -> None:
    """The Flask snippet refuses the 61st request of a key."""
    names, statuses = _run(SNIPPETS[1]), []
    client = names["flask_app"].test_client()

    with frozen(names["gate"]):
        for _ in range(61):
            with client.get("/", headers={"X-API-Key": "awx_example_key"}) as answer:
                statuses.append(answer.status_code)
    assert statuses == [404] * 60 + [429]


def test_snippet_without_http(capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet without HTTP prints what remains."""
    _run(SNIPPETS[2])

    assert capsys.readouterr().out == "58 of 60 left this minute\n"


def test_redis_snippet(redis_server: RedisServer) -> None:
    """Two gates of the snippet share their limits on the server of its URL."""
    gates = [
        _run(SNIPPETS[3].replace("redis://localhost:6379?", f"{redis_server.url}?budget_ms=5000&"))["shared_gate"]
        for _ in "ab"
    ]

    async def decided() -> list[bool]:
        request = Request("GET", "/", None, lambda _: [b"awx_example_key"])
        admissions = [await gates[number % 2].admit(request) for number in range(6)]
        for gate in gates:
            await gate._limiter.aclose()
        return [admission.reply is None for admission in admissions]

    assert asyncio.run(decided()) == [True] * 5 + [False]


def test_number_of_snippets() -> None:
    """A new snippet needs a test here."""
    assert len(SNIPPETS) == 8


def test_snippet_with_all_options() -> None:
    """The snippet with all options creates a gate."""
    gate = _run(SNIPPETS[4])["gate"]

    assert len(gate.header_names) == 5
    assert gate.is_exempt("GET", "/health") is True


def test_snippet_of_the_wrappers(redis_server: RedisServer) -> None:
    """The snippet decides on the server of its URL, and reports the guard's state."""
    limiter = _run(SNIPPETS[7].replace("redis://localhost:6379", redis_server.url))["limiter"]

    allowed, health = limiter.acquire("s", STARTER).allowed, limiter.health()
    limiter.close()
    assert allowed is True
    assert health["state"] == "ok"
    assert health["outages"] == 0


def test_keys_snippet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet creates a key over HTTP with a token, admits it, and refuses it after it was deleted."""
    secret = "a secret that is long enough for HS256"
    monkeypatch.setenv("TOKEN_SECRET", secret)
    claims = {
        "iss": "https://login.example.com",
        "aud": "wallet-api",
        "sub": "acct_acme",
        "exp": int(time.time()) + 600,
    }
    token = {"Authorization": f"Bearer {jwt.encode(claims, secret)}"}
    names = _run(SNIPPETS[5])
    with TestClient(names["keys_app"]) as client:
        made = client.post("/api/v1/api-keys", json={"name": "production-backend"}, headers=token).json()
        key = {"X-API-Key": made["key"]}
        let_in = client.get("/v1/agents", headers=key)
        client.get("/v1/agents", headers=key)
        used = client.get("/api/v1/usage", headers=token).json()["data"][0]["limits"][0]["used"]
        gone = client.delete(f"/api/v1/api-keys/{made['id']}", headers=token).status_code
        refused = client.get("/v1/agents", headers=key)

    assert let_in.status_code == 200
    assert used == 2
    assert gone == 204
    assert refused.json()["code"] == "api_key_revoked"
    assert names["verifier"].health()["unwritten_uses"] == 0


def test_console_snippet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet serves the console only to logged-in users."""
    monkeypatch.setenv("CONSOLE_SECRET", "a secret that is long enough for it")
    names = _run(SNIPPETS[6])
    names["sessions"]["s1"] = names["Owner"]("acct_acme", "ann@acme.example")
    with TestClient(names["settings_app"]) as client:
        statuses = [
            client.get("/console/", headers={"cookie": f"session={value}"}).status_code for value in ("s1", "s2")
        ]

    assert statuses == [200, 403]


def test_plan_table(tmp_path: Path) -> None:
    """The page's TOML is a valid plan table, and its overrides work."""
    path = tmp_path / "plans.toml"
    path.write_text(PLANS)

    acme = PlanTable.from_toml(path).resolve(Caller("key_1", account="acct_acme"))
    assert [rate.tokens for rate in acme.rates] == [50, 12_000, 5_000_000]


@pytest.mark.parametrize("name", re.findall(r"`pytest ([^`]*)`", README))
def test_tests_of_the_promises(name: str) -> None:
    """The test files that the page names exist."""
    paths = [word for word in name.split() if word.startswith("tests/")]

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
