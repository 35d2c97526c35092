"""The README's examples work as they are pasted."""

from typing import Any

from blockbuster import BlockBuster
from starlette.testclient import TestClient
from tests.docs.pages import blocks, gate_of, run, run_first, run_text
from tests.redis_servers import RedisServer

from awx_ratelimit import PlanTable
from awx_ratelimit.testing import frozen

KEY = {"X-API-Key": "awx_example_key"}


def statuses(app: Any, requests: int, path: str = "/", **headers: Any) -> list[int]:
    with TestClient(app) as client:
        return [client.get(path, **headers).status_code for _ in range(requests)]


def test_five_lines() -> None:
    """The first five lines admit 60 requests of a key a minute, and none without a key."""
    app = run_first("README.md")["app"]

    with frozen(gate_of(app)):
        assert statuses(app, 61, headers=KEY) == [404] * 60 + [429]
        assert statuses(app, 1) == [401]


def test_five_lines_are_five() -> None:
    """The first example has five lines, and is the first block of Python."""
    assert len(blocks("README.md", "python")[0].replace("\n\n", "\n").splitlines()) <= 5


def test_route_limit_in_fastapi() -> None:
    """The route admits 30 requests a minute of a caller, and the plan is charged for these alone."""
    first, second, *_ = blocks("README.md", "python")
    app = run_text(first + second)["app"]

    with frozen(gate_of(app)):
        found = statuses(app, 32, "/search?q=a", headers=KEY)
        others = TestClient(app).get("/", headers=KEY)

    assert found == [200] * 30 + [429] * 2
    assert others.headers["ratelimit"].startswith('"minute";r=29')


def test_route_limit_in_flask() -> None:
    """The view admits five logins a minute from an address."""
    client = run("README.md")["flask_app"].test_client()

    assert [client.post("/login").status_code for _ in range(6)] == [200] * 5 + [429]


def test_plans_and_redis(redis_server: RedisServer, nothing_blocks_the_event_loop: BlockBuster) -> None:
    """Two apps share the plan of the file on the server of their URL."""
    # Once a second the plan table looks at its file.
    for name in ("os.stat", "io.BufferedReader.read"):
        nothing_blocks_the_event_loop.functions[name].deactivate()
    text = blocks("README.md", "python")[-1].replace("redis://localhost", f"{redis_server.url}?budget_ms=5000")
    head = blocks("README.md", "python")[0]
    apps = [run_text(head + text)["app"] for _ in "ab"]

    remaining = []
    for app in apps:
        with TestClient(app) as client:
            # The day does not refill until midnight.
            remaining.append(client.get("/", headers=KEY).headers["ratelimit"].split(", ")[1].partition(";t=")[0])

    assert remaining == ['"day";r=99999', '"day";r=99998']


def test_plan_table() -> None:
    """The plan table has the plans that the page shows, and starter is the default."""
    table = PlanTable.from_toml("plans.toml")

    assert [plan.name for plan in table.plans] == ["starter", "growth"]
