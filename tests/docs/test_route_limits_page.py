"""The examples of docs/route-limits.md do what the page says."""

from flask import Flask
from starlette.testclient import TestClient
from tests.docs.pages import gate_of, run

from awx_ratelimit import Request
from awx_ratelimit.adapters.flask import RateLimit
from awx_ratelimit.adapters.flask import limit as flask_limit
from awx_ratelimit.testing import frozen

KEY = {"X-API-Key": "awx_example_key"}


def test_routes_of_fastapi() -> None:
    """A route, a decorated endpoint and an included router have limits of their own, each in its bucket."""
    app = run("docs/route-limits.md")["app"]

    with frozen(gate_of(app)):
        client = TestClient(app, headers=KEY)
        answers = [client.get("/search?q=a"), client.post("/invoices"), client.get("/exports/agents")]

    named = [answer.headers["ratelimit"].rpartition(", ")[2].partition(";t")[0] for answer in answers]
    assert named == ['"search.minute";r=29', '"invoice.minute";r=4', '"export_agents.hour";r=9']


def test_routes_of_starlette() -> None:
    """A function and a class have limits of their own."""
    client = TestClient(run("docs/route-limits.md")["starlette_app"])

    assert [client.post("/login").status_code for _ in range(6)] == [200] * 5 + [429]
    assert [client.get("/reports").status_code for _ in range(11)] == [200] * 10 + [429]


def test_routes_of_flask() -> None:
    """A view of a blueprint and a class-based view have limits of their own."""
    client = run("docs/route-limits.md")["flask_app"].test_client()

    assert [client.post("/v1/login").status_code for _ in range(6)] == [200] * 5 + [429]
    assert [client.get("/v1/reports").status_code for _ in range(11)] == [200] * 10 + [429]


def test_limit_that_depends_on_the_caller() -> None:
    """A caller of the plan growth gets 60 reports a minute, and any other 10, of whose tokens 54 are left after one."""
    app = run("docs/route-limits.md")["by_plan"]

    with frozen(gate_of(app)):
        client = TestClient(app)
        answers = {
            key: [client.get("/reports", headers={"X-API-Key": key}) for _ in range(61)]
            for key in ("awx_growth_key", "awx_example_key")
        }

    assert [[each.status_code for each in some].count(200) for some in answers.values()] == [60, 10]
    assert '"reports.minute";r=54' in answers["awx_example_key"][0].headers["ratelimit"]


def test_limits_of_which_neither_divides_the_other() -> None:
    """Of 300 tokens a minute, a caller of the plan growth gets 100 exports and any other 30; the headers say 300."""
    app = run("docs/route-limits.md")["by_plan"]

    with frozen(gate_of(app)):
        client = TestClient(app)
        large, small = (
            [client.get("/exports", headers={"X-API-Key": key}) for _ in range(count + 1)]
            for key, count in (("awx_growth_key", 100), ("awx_example_key", 30))
        )

    assert [each.status_code for each in large] == [200] * 100 + [429]
    assert [each.status_code for each in small] == [200] * 30 + [429]
    assert '"exports.minute";q=300;w=60' in small[0].headers["ratelimit-policy"]


def test_decision_on_wsgi() -> None:
    """On WSGI, a cost finds the decision of the middleware where the page says."""
    seen: list[str] = []
    app = Flask("shop")
    RateLimit(app, keys={"awx_example_key": "growth"})

    def price(request: Request) -> int:
        seen.append(request.source["awx_ratelimit.decision"].plan.name)
        return 1

    app.add_url_rule("/reports", view_func=flask_limit("60/minute", cost=price)(lambda: "a report"), endpoint="reports")
    app.test_client().get("/reports", headers=KEY, buffered=True)

    assert seen == ["growth"]


def test_limit_that_changes() -> None:
    """A cost that reads a setting changes the limit while the app runs."""
    names = run("docs/route-limits.md")
    app, headers = names["by_plan"], {"X-API-Key": "awx_example_key"}
    with frozen(gate_of(app)) as clock:
        client = TestClient(app)
        few = [client.get("/feed", headers=headers).status_code for _ in range(12)]
        clock.advance(60_000)
        names["SETTINGS"]["price"] = 10
        many = [client.get("/feed", headers=headers).status_code for _ in range(60)]

    assert (few.count(200), many.count(200)) == (10, 60)
