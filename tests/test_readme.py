"""The README's examples work as pasted."""

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


def test_the_asgi_snippet_limits_its_app() -> None:
    """The first snippet answers 60 requests of a key, and the 61st with the 429 that stands below it."""
    answers = _answers_of_61_requests()

    shown = re.findall(r"^\{\"code\".*", README, re.MULTILINE)[0]
    assert [answer.status_code for answer in answers] == [200] * 60 + [429]
    assert answers[-1].text == shown


def test_the_asgi_snippet_reports_limits_with_an_unhandled_exception() -> None:
    """The first snippet puts the middleware where the 500 of a bug has the headers too."""
    broken = SNIPPETS[0].replace('return JSONResponse({"agents": ["atlas", "borea"]})', 'raise RuntimeError("a bug")')
    with TestClient(_run(broken)["app"], raise_server_exceptions=False) as client:
        response = client.get("/v1/agents", headers={"X-API-Key": "awx_example_key"})

    assert response.status_code == 500
    assert "ratelimit" in response.headers


def test_the_headers_shown_are_those_that_are_sent() -> None:
    """The README's 429 has the names of the lines that are sent, in their order."""
    answers = _answers_of_61_requests()

    shown = re.findall(r"^([a-z-]+): ", README.split("HTTP/1.1 429")[1].split("```")[0], re.MULTILINE)
    assert [name for name in answers[-1].headers if name != "content-length"] == shown


def test_the_wsgi_snippet_limits_its_app() -> None:
    """The Flask snippet refuses the 61st request of a key."""
    names, statuses = _run(SNIPPETS[1]), []
    client = names["flask_app"].test_client()

    with frozen(names["gate"]):
        for _ in range(61):
            with client.get("/", headers={"X-API-Key": "awx_example_key"}) as answer:
                statuses.append(answer.status_code)
    assert statuses == [404] * 60 + [429]


def test_the_plain_snippet_prints_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet without HTTP runs and prints what is left."""
    _run(SNIPPETS[2])

    assert capsys.readouterr().out == "58 of 60 left this minute\n"


def test_the_redis_snippet_makes_a_gate_whose_limits_are_shared(redis_server: RedisServer) -> None:
    """The snippet decides on the server of its URL; here that of a test's own."""
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


def test_every_snippet_is_tested() -> None:
    """A snippet more in the README wants a test here."""
    assert len(SNIPPETS) == 8


def test_the_gate_with_everything_is_one() -> None:
    """The longer snippet makes a gate with each of its fields."""
    gate = _run(SNIPPETS[4])["gate"]

    assert len(gate.header_names) == 5
    assert gate.is_exempt("GET", "/health") is True


def test_the_snippet_of_the_wrappers_is_guarded(redis_server: RedisServer) -> None:
    """It decides on the server of its URL, and says how the guard is."""
    limiter = _run(SNIPPETS[7].replace("redis://localhost:6379", redis_server.url))["limiter"]

    allowed, health = limiter.acquire("s", STARTER).allowed, limiter.health()
    limiter.close()
    assert allowed is True
    assert health["state"] == "ok"
    assert health["outages"] == 0


def test_the_keys_snippet_makes_keys_and_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet creates a key over HTTP with a token, admits it, and refuses it once deleted."""
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


def test_the_console_snippet_shows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet serves the pages to logged-in users only."""
    monkeypatch.setenv("CONSOLE_SECRET", "a secret that is long enough for it")
    names = _run(SNIPPETS[6])
    names["sessions"]["s1"] = names["Owner"]("acct_acme", "ann@acme.example")
    with TestClient(names["settings_app"]) as client:
        statuses = [
            client.get("/console/", headers={"cookie": f"session={value}"}).status_code for value in ("s1", "s2")
        ]

    assert statuses == [200, 403]


def test_the_plan_table_is_one(tmp_path: Path) -> None:
    """The TOML of the README is read, and its overrides work."""
    path = tmp_path / "plans.toml"
    path.write_text(PLANS)

    acme = PlanTable.from_toml(path).resolve(Caller("key_1", account="acct_acme"))
    assert [rate.tokens for rate in acme.rates] == [50, 12_000, 5_000_000]


@pytest.mark.parametrize("name", re.findall(r"`pytest ([^`]*)`", README))
def test_each_command_of_the_promises_names_tests_that_exist(name: str) -> None:
    """The tests that the README names are there."""
    paths = [word for word in name.split() if word.startswith("tests/")]

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
