"""The examples of docs/backends.md and docs/plans.md do what the pages say."""

import asyncio
import os
from pathlib import Path

from starlette.testclient import TestClient
from tests.docs.pages import blocks, run, run_text
from tests.redis_servers import RedisServer

from awx_ratelimit import STARTER, Caller, InvalidLimit, PlanTable, Request


def test_shared_gates(redis_server: RedisServer) -> None:
    """Two gates share their limits on the server of their URL."""
    first, *_ = blocks("docs/backends.md", "python")
    text = first.replace("redis://localhost:6379?expected", f"{redis_server.url}?budget_ms=5000&expected")
    gates = [run_text(text)["shared_gate"] for _ in "ab"]

    async def decided() -> list[bool]:
        request = Request("GET", "/", None, lambda _: [b"awx_example_key"])
        admissions = [await gates[number % 2].admit(request) for number in range(6)]
        for gate in gates:
            await gate._limiter.aclose()
        return [admission.reply is None for admission in admissions]

    assert asyncio.run(decided()) == [True] * 5 + [False]


def test_wrappers(redis_server: RedisServer) -> None:
    """The wrappers decide on the server of their URL, and report the guard's state."""
    text = blocks("docs/backends.md", "python")[-1].replace("redis://localhost:6379", redis_server.url)
    limiter = run_text(text)["limiter"]

    allowed, health = limiter.acquire("s", STARTER).allowed, limiter.health()
    limiter.close()

    assert allowed is True
    assert health["state"] == "ok"
    assert health["outages"] == 0


def test_guarded_file(tmp_path: Path) -> None:
    """When the file fails, a worker of the page's four admits a quarter of the limit, and answers no 503."""
    file = tmp_path / "limits"
    text = "".join(blocks("docs/workers.md", "python")).replace("/dev/shm/app-limits", str(file))
    with TestClient(run_text(text)["guarded"], headers={"X-API-Key": "awx_example_key"}) as client:
        before = client.get("/").status_code
        os.truncate(file, 0)
        statuses = [client.get("/").status_code for _ in range(30)]

    assert before == 404
    # A token of the share refills every four seconds.
    assert 15 <= statuses.count(404) <= 20
    assert set(statuses) == {404, 429}


def test_plans() -> None:
    """The strict plan never admits more than 60 in a minute, and the unlimited one has no limit."""
    names = run("docs/plans.md")

    (rate,) = names["strict"].rates
    assert rate.burst + rate.tokens == 60
    assert names["internal"].is_unlimited


def test_plan_table(tmp_path: Path) -> None:
    """The overrides of the page's table work."""
    text, *_ = blocks("docs/plans.md", "toml")
    (tmp_path / "plans.toml").write_text(text)

    acme = PlanTable.from_toml("plans.toml").resolve(Caller("key_1", account="acct_acme"))

    assert [rate.tokens for rate in acme.rates] == [50, 12_000, 5_000_000]


def test_error_of_a_plan_table(tmp_path: Path) -> None:
    """The page shows the error as it is."""
    (table, *_), (shown,) = blocks("docs/plans.md", "toml"), blocks("docs/plans.md", "text")
    (tmp_path / "plans.toml").write_text(table.replace("limit = 300", 'limit = "300"'))
    error = ""
    try:
        PlanTable.from_toml("plans.toml")
    except InvalidLimit as raised:
        error = str(raised)

    assert f"{error}\n" == shown
