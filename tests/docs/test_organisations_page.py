"""The examples of docs/organisations.md do what the page says."""

import json
import tomllib
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.docs.pages import blocks, gate_of, run_text, text_of

from awx_ratelimit import Caller
from awx_ratelimit.testing import frozen


@pytest.fixture
def client() -> TestClient:
    """A client of the app of the page, with its plan table."""
    Path("plans.toml").write_text(blocks("docs/organisations.md", "toml")[1])
    text = next(text for text in blocks("docs/organisations.md", "python") if "app = FastAPI()" in text)
    return TestClient(run_text(text)["app"])


def _chat(client: TestClient, number: int) -> str:
    """The header of a chat with one of the keys."""
    key = {"X-API-Key": f"awx_example_key_{number}"}
    return str(client.post("/chat?prompt=hello", headers=key).headers["ratelimit"])


def test_shared(client: TestClient) -> None:
    """Both keys use one quota of requests and one of tokens, which counts what the model has used."""
    with frozen(gate_of(client.app)):
        *_, left = [_chat(client, number) for number in (1, 2, 1)]
        page = text_of("docs/organisations.md")

    assert '"account.month";r=9997' in left
    assert '"account.tokens-month";r=4996100' in left
    assert all(f"`{item}`" in page for item in ('"account.month";r=9997', '"account.tokens-month";r=4996100'))


def test_override(client: TestClient) -> None:
    """Another organisation has the quotas of the plan, and uses its own."""
    with frozen(gate_of(client.app)):
        _chat(client, 1)
        left = _chat(client, 3)

    assert '"account.month";r=9999' in left
    assert '"account.tokens-month";r=998500' in left


def test_jobs(tmp_path: Path) -> None:
    """A job charges the month of the organisation that the app reports, and with a key also that of the key."""
    backend = f"host://{tmp_path}/limits"
    Path("plans.toml").write_text(blocks("docs/organisations.md", "toml")[1])
    texts = blocks("docs/organisations.md", "python")
    text = next(text for text in texts if "app = FastAPI()" in text)
    app = run_text(text.replace("rules=", f"backend={backend!r}, rules="))["app"]
    gate_of(app)  # which reads the plan table before the event loop runs
    jobs = run_text(next(text for text in texts if "def summarise" in text).replace("memory://", backend))
    answer = {"text": "short", "total_tokens": 1_200}

    with TestClient(app) as client:
        assert jobs["summarise"]("acme", lambda: answer) == "short"
        assert jobs["charge"](Caller("ada", account="acme"), 800).allowed
        left = _chat(client, 1)
        assert not jobs["charge"](Caller("ada", account="acme"), 5_000_000)
    jobs["limiter"].close()

    assert '"account.month";r=9998' in left
    assert f'"account.tokens-month";r={5_000_000 - 1_200 - 800 - 1_500}' in left


def test_job_of_a_spent_month() -> None:
    """A job of an organisation that has spent its month does not run."""
    Path("plans.toml").write_text(blocks("docs/organisations.md", "toml")[1])
    jobs = run_text(next(text for text in blocks("docs/organisations.md", "python") if "def summarise" in text))
    answer = {"text": "long", "total_tokens": 1_000_000}

    assert jobs["summarise"]("beta", lambda: answer) == "long"
    assert jobs["summarise"]("beta", lambda: answer) is None


@pytest.mark.parametrize("page", ["docs/organisations.md", "docs/billing-periods.md"])
def test_override_as_json(page: str) -> None:
    """The JSON for a key store says what the override of the plan table says, with its billing day."""
    (command,) = [text for text in blocks(page, "sh") if "set-overrides" in text]
    tables = [tomllib.loads(text).get("overrides", {}) for text in blocks(page, "toml")]
    (override,) = [override for table in tables for override in table.values()]

    assert json.loads(command.split("'")[1]) == override
