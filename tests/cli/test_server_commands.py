"""``plans check``, ``usage``, ``reset`` and ``doctor``, on real servers."""

import json
import re
import socket
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from tests.cli.conftest import Named, Result, Run
from tests.postgres_servers import Postgres
from tests.processes import free_port
from tests.redis_groups import Cluster
from tests.redis_servers import RedisServer, StartRedis

from awx_ratelimit import STARTER, Budget, Gate, Limiter, MemoryBackend, Plan, PlanTable, Rule
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.open import open_backend, own_url
from awx_ratelimit.backends.postgres import doctor as postgres_doctor
from awx_ratelimit.backends.redis import doctor
from awx_ratelimit.core.budget import own_account
from awx_ratelimit.runtime.compiled import IS_COMPILED


def found(ran: Result) -> dict[str, Any]:
    """The findings of the doctor by name."""
    return {one["what"]: (one["mark"], one["said"], one["remedy"]) for one in json.loads(ran.out)["findings"]}


def test_plans_check(run: Run) -> None:
    """The table has each limit, with the maximum in any period."""
    ran = run("plans", "check", "examples/plans.toml")

    assert ran.status == 0
    assert ran.err == ""
    assert len(ran.out.splitlines()) == 10
    assert "60 per minute, burst 60; at most 120 in any minute" in ran.out


def test_plans_check_of_an_app(run: Run, named: Named) -> None:
    """The table may be that of an app, named as for the other commands."""
    ran = run("plans", "check", named(PlanTable.default()))

    assert ran.status == 0
    assert "60 per minute, burst 60; at most 120 in any minute" in ran.out


def test_plans_check_of_a_gate(run: Run, named: Named) -> None:
    """For an app, it prints also the plan of requests without a key, and the budgets of its rules."""
    rules = [Rule(path, budget="login", plan=Plan.of("login", per_hour=5)) for path in ("/login", "/token")]
    anonymous, table = Plan.of("public", per_minute=3), PlanTable.default()
    gate = named(Gate(Limiter(MemoryBackend()), plans=table, identify=lambda _: None, anonymous=anonymous, rules=rules))
    lines = [re.split(r"  +", line.strip()) for line in run("plans", "check", gate).out.splitlines()]
    document = run("plans", "check", gate, "--json").json

    assert lines[-2:] == [
        ["(anonymous)", "minute", "3 per minute, burst 3; at most 6 in any minute"],
        ["(rule /login)", "login.hour", "5 per hour, burst 5; at most 10 in any hour"],
    ]
    assert document["anonymous"]["name"] == "public"
    assert [(one["budget"], one["path"], one["plan"]["name"]) for one in document["budgets"]] == [
        ("login", "/login", "login")
    ]


def test_plans_check_mistake(run: Run, tmp_path: Path) -> None:
    """A mistake is one line that names its place in the file."""
    path = tmp_path / "plans.toml"
    path.write_text("[plans.a]\nper_minute = 0\n")
    ran = run("plans", "check", str(path))

    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert "plans.a.per_minute" in ran.err


def test_unlimited_plan(run: Run, tmp_path: Path) -> None:
    """``plans check`` shows that a plan has no limits, and an audit of such a plan is refused at its start."""
    path = tmp_path / "plans.toml"
    path.write_text("[plans.internal]\nunlimited = true\n")
    table, document = run("plans", "check", str(path)), json.loads(run("plans", "check", str(path), "--json").out)
    audit = run("loadtest", "http://127.0.0.1:9/", "--plans", str(path), "--plan", "internal", "--key", "awx_k")

    assert "everything" in table.out
    internal: dict[str, Any] = {"name": "internal", "rates": [], "concurrent": None, "unlimited": True, "account": None}
    assert document == {"plans": [internal], "service": None}
    assert audit.status == 2
    assert "plan: expected one with limits, got 'internal', which is unlimited" in audit.err


SHARED_PLANS = """
[plans.team]
per_day = 1_000
[plans.team.account]
per_month = { limit = 1_000, anchor_day = 15, timezone = "Europe/Berlin" }
per_week = 500
per_year = { limit = 9_000, anchor_month = 4, anchor_day = 6 }
per_day = { limit = 100, timezone = "Asia/Tokyo" }
rates = [{ limit = 5_000, per = "minute", measure = "tokens" }]
concurrent = 8
[plans.solo]
per_minute = 5
[service]
per_second = 5_000
concurrent = 2_000
"""


@pytest.fixture
def shared_plans(tmp_path: Path) -> str:
    """The path of a plan table whose keys share limits."""
    path = tmp_path / "plans.toml"
    path.write_text(SHARED_PLANS)
    return str(path)


def test_plans_check_of_shared_limits(run: Run, shared_plans: str) -> None:
    """The table has the limits of accounts and of the service, and says when periods of the calendar begin."""
    ran = run("plans", "check", shared_plans)
    rows = [re.split(r"  +", line.strip()) for line in ran.out.splitlines()]

    assert rows[1:] == [
        ["team", "day", "1000 per day, burst 1000; at most 2000 in any day"],
        ["solo", "minute", "5 per minute, burst 5; at most 10 in any minute"],
        ["team", "account.day", "100 per calendar day, which begins at midnight (Asia/Tokyo)"],
        ["team", "account.week", "500 per calendar week, which begins on Monday at midnight (UTC)"],
        ["team", "account.month", "1000 per calendar month, which begins on day 15 at midnight (Europe/Berlin)"],
        ["team", "account.year", "9000 per calendar year, which begins on day 6 of month 4 at midnight (UTC)"],
        ["team", "account.tokens-minute", "5000 tokens per minute, burst 5000; at most 10000 in any minute"],
        ["team", "account.concurrent", "8 in flight"],
        ["(everybody)", "service.second", "5000 per second, burst 5000; at most 10000 in any second"],
        ["(everybody)", "service.concurrent", "2000 in flight"],
    ]


def test_plans_check_json_of_shared_limits(run: Run, shared_plans: str) -> None:
    """The JSON document has them too, with the periods of the calendar and what is counted."""
    document = run("plans", "check", shared_plans, "--json").json
    account = document["plans"][0]["account"]
    rates = {rate["name"]: rate for rate in account["rates"]}

    assert document["plans"][1]["account"] is None
    assert document["service"]["concurrent"] == 2_000
    assert account["concurrent"] == 8
    assert rates["month"] == {
        "name": "month", "tokens": 1_000, "measure": "requests", "period_ms": None, "period": "month",
        "anchor_day": 15, "anchor_month": 1, "timezone": "Europe/Berlin", "burst": 1_000, "refill": "calendar",
        "shadow": False,
    }  # fmt: skip
    assert rates["tokens-minute"]["measure"] == "tokens"
    assert rates["tokens-minute"]["period_ms"] == 60_000


@pytest.fixture
def team_url(tmp_path: Path, shared_plans: str) -> str:
    """The URL of a host file in which two keys of the account acme have made 12 requests."""
    url = f"host://{tmp_path}/limits"
    team = PlanTable.from_toml(shared_plans).plans[0]
    assert team.account
    limiter = Limiter(open_backend(url))
    for key, requests in (("key_1", 7), ("key_2", 5)):
        for _ in range(requests):
            limiter.release(limiter.acquire(key, team, also=[Budget("acme", team.account, "account")]))
    limiter.close()
    return url


def test_usage_of_an_account(run: Run, shared_plans: str, team_url: str) -> None:
    """``--account`` shows first what all keys of the account have used, and does not add to it."""
    words = ("usage", "key_1", "--account", "acme", "--plan", "team", "--plans", shared_plans, "--backend", team_url)
    for _ in range(2):
        document = run(*words, "--json").json

    used = {one["limit"]: (one["measure"], one["used"]) for one in document["limits"]}
    assert (document["subject"], document["account"]) == ("key_1", "acme")
    assert list(used.items()) == [
        ("account.day", ("requests", 12)),
        ("account.week", ("requests", 12)),
        ("account.month", ("requests", 12)),
        ("account.year", ("requests", 12)),
        ("account.tokens-minute", ("tokens", 0)),
        ("account.concurrent", ("concurrent-requests", 0)),
        ("day", ("requests", 7)),
    ]
    assert "account.month" in run(*words).out


def test_whose_limits(run: Run, shared_plans: str, team_url: str) -> None:
    """Each line says whose limit it is and in which scope, as `explain` does."""
    words = ("--plan", "team", "--plans", shared_plans, "--backend", team_url)
    key = run("usage", "key_1", "--account", "acme", *words, "--json").json["limits"]
    alone = run("usage", "key_1", "--no-account", *words, "--json").json["limits"]
    account = run("usage", "account", "acme", *words, "--json").json["limits"]
    lines = run("usage", "key_1", "--account", "acme", *words).out.splitlines()

    assert {(one["scope"], one["subject"]) for one in key[:-1]} == {("account", "acme")}
    assert (key[-1]["limit"], key[-1]["scope"], key[-1]["subject"]) == ("day", None, "key_1")
    assert (alone[0]["scope"], alone[0]["subject"]) == ("account", "key_1")
    assert (account[0]["scope"], account[0]["subject"]) == ("account", "acme")
    assert re.split(r"  +", lines[0])[:3] == ["limit", "of", "counts"]
    assert re.split(r"  +", lines[1])[:3] == ["account.day", "acme (account)", "requests"]
    assert re.split(r"  +", lines[-1])[:3] == ["day", "key_1", "requests"]


def test_usage_of_all_keys(run: Run, shared_plans: str, team_url: str) -> None:
    """``usage account`` shows what all keys of an account have used, without a key of it, and does not add to it."""
    words = ("usage", "account", "acme", "--plan", "team", "--plans", shared_plans, "--backend", team_url)
    for _ in range(2):
        ran = run(*words, "--json")

    assert (ran.status, ran.err) == (0, "")
    assert ran.json["account"] == "acme"
    assert [(one["limit"], one["used"]) for one in ran.json["limits"]][:2] == [
        ("account.day", 12),
        ("account.week", 12),
    ]
    assert "account.month" in run(*words).out


def test_usage_of_an_account_without_limits(run: Run, shared_plans: str, team_url: str) -> None:
    """``usage account`` says so if the keys of an account share no limits, and if they use nothing of them."""
    words = ("--plans", shared_plans, "--backend", team_url)
    solo = run("usage", "account", "acme", "--plan", "solo", *words)
    unknown = run("usage", "account", "acne", "--plan", "team", *words)

    assert (solo.status, solo.out) == (0, "")
    assert solo.err.startswith(
        "note: the keys of 'acme' share no limits, because the plan 'solo' has no table `account`."
    )
    assert (
        "the account 'acne' uses none of its limits now. Either its keys made no requests, everything has"
        in unknown.err
    )
    assert "For a subject, write: awx-ratelimit usage acne. " in unknown.err


def test_usage_without_an_account(run: Run, shared_plans: str, team_url: str) -> None:
    """``--no-account`` shows first what a subject without an account has used of its limits, not what others have."""
    team = PlanTable.from_toml(shared_plans).plans[0]
    assert team.account
    limiter = Limiter(open_backend(team_url))
    limiter.release(limiter.acquire("acme", team, also=[own_account("acme", team.account)]))
    limiter.close()

    words = ("usage", "acme", "--plan", "team", "--plans", shared_plans, "--backend", team_url)
    document = json.loads(run(*words, "--no-account", "--json").out)
    assert [one["used"] for one in document["limits"] if one["limit"] in ("account.day", "day")] == [1, 1]
    assert run(*words, "--no-account", "--account", "acme").status == 2


def test_usage_of_an_account_without_shared_limits(run: Run, shared_plans: str, team_url: str) -> None:
    """An account whose keys share no limit is an error on one line that says so."""
    ran = run("usage", "k", "--account", "acme", "--plan", "solo", "--plans", shared_plans, "--backend", team_url)

    assert ran.status == 2
    assert "'solo'" in ran.err
    assert ran.err.count("\n") == 1


def test_reset_of_a_scope(run: Run, shared_plans: str, team_url: str) -> None:
    """``--scope account`` resets what the keys of an account share, and leaves the keys as they are."""
    words = ("usage", "key_1", "--account", "acme", "--plan", "team", "--plans", shared_plans, "--backend", team_url)

    def used() -> dict[str, int]:
        limits = run(*words, "--json").json["limits"]
        return {one["limit"]: one["used"] for one in limits if one["limit"] in ("account.month", "day")}

    other = run("reset", "acme", "--scope", "login", "--backend", team_url)
    before = used()
    ran = run("reset", "acme", "--scope", "account", "--backend", team_url)

    assert (other.status, ran.status) == (1, 0)
    assert other.err == (
        "nothing was reset, because nothing is counted for the subject in the scope 'login' now. "
        "Either it made no requests, everything has refilled, or your app names it otherwise. "
        "Without a scope, all its scopes are reset. "
        "See docs/identify.md#the-name-of-a-subject\n"
    )
    assert before == {"account.month": 12, "day": 7}
    assert used() == {"account.month": 0, "day": 7}


@pytest.mark.parametrize(
    ("subject", "hint"),
    [
        ("key_3", ""),
        ("192.0.2.1", "For a client without a key, write: address:192.0.2.1. "),
        ("address:2001:db8::7", "For a client without a key, write: address:2001:db8::/64. "),
        ("address:2001:db8::/64", ""),
    ],
)
def test_reset_of_nothing(run: Run, team_url: str, subject: str, hint: str) -> None:
    """If nothing is counted for a subject, `reset` says so, and its exit status is 1: the name may be misspelled."""
    ran = run("reset", subject, "--backend", team_url)

    assert ran.status == 1
    assert ran.err == (
        "nothing was reset, because nothing is counted for the subject now. "
        f"Either it made no requests, everything has refilled, or your app names it otherwise. "
        f"{hint}See docs/identify.md#the-name-of-a-subject\n"
    )


def test_reset_of_a_wrong_scope(run: Run, team_url: str) -> None:
    """A text that no scope can be is an error on one line."""
    ran = run("reset", "acme", "--scope", "Account!", "--backend", team_url)

    assert ran.status == 2
    assert "scope: expected 1 to 32 of a-z" in ran.err
    assert ran.err.count("\n") == 1


def test_usage_and_reset(run: Run, redis_server: RedisServer) -> None:
    """``usage`` shows the usage of other processes without adding to it, and ``reset`` clears it."""
    url = f"redis+unix://{redis_server.socket}"
    limiter = Limiter(open_backend(url))
    for _ in range(7):
        limiter.release(limiter.acquire("key_1", STARTER))
    limiter.close()
    used = [
        json.loads(run("usage", "key_1", "--plan", "starter", "--backend", url, "--json").out)["limits"][1]["used"]
        for _ in range(2)
    ]
    ran = run("reset", "key_1", "--backend", url)
    after = json.loads(run("usage", "key_1", "--backend", url, "--json").out)["limits"][1]["used"]

    assert used == [7, 7]
    assert ran.status == 0
    assert after == 0


def test_postgres(run: Run, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """``usage``, ``reset`` and ``doctor`` work on a database; every check of a healthy one passes."""
    monkeypatch.setattr(postgres_doctor, "_MAX_P99_MS", 10_000.0)
    url = postgres.emptied_limits()
    limiter = Limiter(open_backend(f"{url}&budget_ms=10000"))
    for _ in range(7):
        limiter.release(limiter.acquire("key_1", STARTER))
    limiter.close()
    words = "usage", "key_1", "--plan", "starter", "--backend", url, "--json"
    used = json.loads(run(*words).out)["limits"][1]["used"]
    reset = run("reset", "key_1", "--backend", url)
    ran = run("doctor", url, "--json")

    assert used == 7
    assert reset.status == 0
    assert json.loads(run(*words).out)["limits"][1]["used"] == 0
    assert ran.status == 0
    assert {mark for mark, _, _ in found(ran).values()} == {"ok"}
    checks = {"reachable", "version", "role", "isolation", "latency", "clock", "functions"}
    assert set(found(ran)) == {"library", *checks}


def test_doctor_of_a_database_that_cannot_be_reached(run: Run) -> None:
    """A database that does not answer is wrong, and the password is not shown."""
    ran = run("doctor", "postgresql://eve:secret@127.0.0.1:1/limits", "--json")

    assert ran.status == 1
    assert found(ran)["reachable"][0] == "wrong"
    assert "secret" not in ran.out + ran.err


@pytest.mark.parametrize("named", [True, False], ids=["named", "by default"])
def test_host_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """The commands work on a host file; without a URL, on the user's own file."""
    monkeypatch.setenv("XDG_STATE_HOME", f"{tmp_path}/my state")
    words = ["--backend", f"host://{tmp_path}/my%20state/awx-ratelimit/limits"] if named else []
    limiter = Limiter(open_backend(own_url()))
    for _ in range(7):
        limiter.release(limiter.acquire("key_1", STARTER))
    used = [json.loads(run("usage", "key_1", "--json", *words).out)["limits"][1]["used"] for _ in range(2)]
    ran, examined = run("reset", "key_1", *words), run("doctor", "--json", *words[1:])

    after = json.loads(run("usage", "key_1", *words, "--json").out)["limits"][1]["used"]
    assert used == [7, 7]
    assert ran.status == 0
    assert after == 0
    assert found(examined)["file"][0] == "ok"


@pytest.mark.parametrize("command", ["usage", "reset"])
def test_missing_host_file(run: Run, tmp_path: Path, command: str) -> None:
    """A file that root made by looking could not be opened by the app any more."""
    ran = run(command, "key_1", "--backend", f"host://{tmp_path}/limits")

    assert ran.status == 2
    assert "no limits there; start your app, or name its backend with --backend, or in AWX_BACKEND" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["usage", "key_1"], ["reset", "key_1"], ["doctor"]], ids=lambda words: words[0])
def test_own_file_before_the_first_app(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """A command that looks for the user's own file makes no folder for it: a home directory stays as it was."""
    monkeypatch.setenv("XDG_STATE_HOME", f"{tmp_path}/state")
    ran = run(*command)

    assert "start " in ran.out + ran.err
    assert "app" in ran.out + ran.err
    assert [*tmp_path.iterdir()] == []
    assert own_url() == f"host://{tmp_path}/state/awx-ratelimit/limits"
    assert [*tmp_path.iterdir()] == [tmp_path / "state"]


def test_no_home_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says so."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    ran = run("usage", "key_1")

    assert ran.status == 2
    assert "name a backend" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", ["usage", "reset"])
@pytest.mark.parametrize("url", ["memory://", "redis://127.0.0.1:1"])
def test_unusable_backend(run: Run, command: str, url: str) -> None:
    """A backend without shared state, or one that is down, is an error on one line."""
    ran = run(command, "key_1", "--backend", url)

    assert ran.status == 2, ran
    assert ran.out == "", ran
    assert ran.err.startswith("error: "), ran
    assert ran.err.count("\n") == 1, ran


@pytest.mark.parametrize("command", ["usage", "reset"])
def test_dead_server(run: Run, caplog: pytest.LogCaptureFixture, command: str) -> None:
    """The error says why the server does not answer, and names the doctor. What happens to an app is not said."""
    ran = run(command, "key_1", "--backend", "redis://127.0.0.1:1?on_outage=open")

    assert ran.err.startswith("error: the backend does not answer: redis at 127.0.0.1:1: ")
    assert ran.err.endswith("; look for the cause with: awx-ratelimit doctor URL\n")
    assert "on_outage" not in ran.err
    assert caplog.messages == []


def test_plans_check_json(run: Run) -> None:
    """The JSON document has the limits of each plan."""
    plans = {
        plan["name"]: plan for plan in json.loads(run("plans", "check", "examples/plans.toml", "--json").out)["plans"]
    }
    bursts = {rate["name"]: rate["burst"] for rate in plans["enterprise"]["rates"]}

    assert sorted(plans) == ["enterprise", "growth", "starter"]
    assert plans["enterprise"]["concurrent"] == 100
    assert bursts["minute"] == 120


@pytest.mark.parametrize("written", [None, b"\xff\xfe", b"x = [", b"[plans.a]\nper_minut = 5\n", b""])
def test_plans_check_unreadable(run: Run, tmp_path: Path, written: bytes | None) -> None:
    """A file that is missing or malformed is one line that names the file."""
    path = tmp_path / "plans.toml"
    if written is not None:
        path.write_bytes(written)
    ran = run("plans", "check", str(path))

    assert ran.status == 2, ran
    assert ran.out == "", ran
    assert ran.err.count("\n") == 1, ran
    assert str(path) in ran.err, ran


@pytest.fixture
def _any_latency_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept the latency of a busy machine."""
    monkeypatch.setattr(doctor, "_MAX_P99_MS", 10_000.0)


@pytest.mark.usefixtures("_any_latency_is_ok")
def test_doctor_healthy(run: Run, redis_server: RedisServer) -> None:
    """Every check of a healthy server passes, and the doctor leaves nothing behind."""
    ran = run("doctor", f"redis+unix://{redis_server.socket}", "--json")
    with redis_server.client() as client:
        keys = client.keys()

    assert ran.status == 0
    assert {mark for mark, _, _ in found(ran).values()} == {"ok"}
    assert keys == []
    checks = {"reachable", "version", "role", "cluster", "memory", "persistence", "latency", "clock", "scripts"}
    assert set(found(ran)) == {"library", *checks}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"save": ""},
            "none: a restart forgets all usage, including that of days and months; with appendonly yes, at most",
        ),
        ({"save": "60 1"}, "snapshots (save 60 1): a restart forgets what was used since the latest one; with append"),
        ({"appendonly": "yes"}, "append-only file: a restart forgets at most the last seconds"),
    ],
)
def test_doctor_says_what_a_restart_forgets(
    run: Run, start_redis: StartRedis, settings: dict[str, str], said: str
) -> None:
    """That is a choice, so it is no problem."""
    redis_server = start_redis()
    with redis_server.client() as client:
        for name, value in settings.items():
            client.config_set(name, value)
    ran = run("doctor", f"redis+unix://{redis_server.socket}", "--json")

    assert found(ran)["persistence"][:2] == ("ok", ANY)
    assert found(ran)["persistence"][1].startswith(said)


@pytest.mark.usefixtures("_any_latency_is_ok")
def test_doctor_strict(run: Run, start_redis: StartRedis) -> None:
    """A warning fails only a strict check, as a script of a deployment makes it. A healthy server passes that, too."""
    redis_server = start_redis()
    url = f"redis+unix://{redis_server.socket}"
    healthy = run("doctor", url, "--strict")
    with redis_server.client() as client:
        client.config_set("maxmemory", "50mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    lenient, strict = run("doctor", url, "--json"), run("doctor", url, "--strict", "--json")

    assert healthy.status == 0, healthy
    assert found(lenient)["memory"][0] == found(strict)["memory"][0] == "warning"
    assert (lenient.status, strict.status) == (0, 1)


def test_doctor_may_not_read_the_configuration(run: Run, start_redis: StartRedis) -> None:
    """Without CONFIG, the doctor does not know whether there are snapshots."""
    redis_server = start_redis()
    with redis_server.client() as client:
        client.acl_setuser("app", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
    ran = run("doctor", f"redis+unix://app:x@{redis_server.socket}", "--json")

    assert found(ran)["persistence"][1].startswith("snapshots, if any: a restart forgets what was used since")


def test_doctor_library(run: Run) -> None:
    """The first row says which version of the library runs, and whether it is compiled."""
    ran = run("doctor", "memory://", "--json")

    form = "compiled" if IS_COMPILED else "not compiled: pure Python"
    assert found(ran)["library"] == ("ok", f"awx-ratelimit {version('awx-ratelimit')}, {form}", "")


def test_doctor_cluster(run: Run, redis_cluster: Cluster) -> None:
    """Each server of a cluster is checked."""
    ran = run("doctor", redis_cluster.url, "--json")
    names = [finding["what"] for finding in json.loads(ran.out)["findings"]]

    assert ran.status == 0
    assert names.count("latency") == 3
    assert names.count("scripts") == 1


def test_doctor_host_file(run: Run, tmp_path: Path) -> None:
    """A file is named. One that no app has created is wrong, is not created, and could be."""
    path = tmp_path / "limits"
    missing = run("doctor", f"host://{path}", "--json")
    left = list(tmp_path.iterdir())
    HostBackend(path).close()
    existing = run("doctor", f"host://{path}", "--json")

    said = f"there is no file {path}; one can be created there, and its limits can be shared"
    assert missing.status == 1
    assert found(missing)["file"] == ("wrong", said, "start the app that uses it, or name the backend of your app")
    assert left == []
    assert existing.status == 0
    assert found(existing)["file"] == ("ok", f"the limits in {path} can be shared", "")


def test_doctor_without_a_url(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL, the doctor says that it looks at the user's own file, which is wrong if there is none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ran = run("doctor", "--json")

    assert ran.status == 1
    assert found(ran)["backend"][:2] == ("warning", "no URL was given, so this is your own file")
    assert f"there is no file {tmp_path}/awx-ratelimit/limits" in found(ran)["file"][1]


@pytest.mark.parametrize("command", ["doctor", "usage"])
@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("redis://127.0.0.1:1?on_outage=no", "on_outage: expected 'local', 'open' or 'closed', got 'no'"),
        ("redis://127.0.0.1:1?budget_ms=0", "budget_ms: expected an integer >= 1, got 0"),
        ("redis://127.0.0.1:1?budget_ms=fast", "budget_ms: expected an integer, got 'fast'"),
        ("redis://127.0.0.1:1?on_outag=open", "redis URL: got option 'on_outag'; expected one of "),
        ("postgresql://u@127.0.0.1:1/db?expected_workers=0", "expected_workers: expected an integer >= 1, got 0"),
        ("host:///dev/shm/limits?on_outage=open", "backend URL: expected host:///path/to/file"),
        ("redid://127.0.0.1", "backend URL: expected a scheme such as redis://, got 'redid'; write redis://"),
    ],
)
def test_wrong_options(run: Run, command: str, url: str, error: str) -> None:
    """A wrong option of the URL is an error on one line, before anything is connected."""
    ran = run("doctor", url) if command == "doctor" else run("usage", "key_1", "--backend", url)

    assert ran.status == 2
    assert error in ran.err
    assert ran.err.count("\n") == 1


def test_options_of_memory(run: Run) -> None:
    """memory:// has no options."""
    assert "expected memory:// alone, which has no options" in run("doctor", "memory://?on_outage=open").err


def test_doctor_missing_folder(run: Run, tmp_path: Path) -> None:
    """A file that cannot be created is an error that says what to do."""
    ran = run("doctor", f"host://{tmp_path}/no/limits")

    assert ran.status == 2
    assert "its folder does not exist; create it" in ran.err


def test_doctor_unhealthy_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that reports a problem is a finding, and the exit status is 1."""
    monkeypatch.setattr(HostBackend, "health", lambda _: {"state": "the disk is full"})
    ran = run("doctor", f"host://{tmp_path / 'limits'}", "--json")

    assert ran.status == 1
    assert found(ran)["file"][0] == "wrong"
    assert "the disk is full" in found(ran)["file"][1]


def test_doctor_remedies(run: Run, start_redis: StartRedis) -> None:
    """An eviction policy, a cluster, a replica and a missing permission each have a remedy."""
    # Without a port of its own for the cluster it would be 10,000 above the other, where there may be none.
    cluster = f"--cluster-enabled yes --cluster-port {free_port()}"
    evicting = start_redis(options=["--maxmemory 50mb", "--maxmemory-policy allkeys-lru", cluster])
    replica = start_redis(replica_of=start_redis())
    guarded = start_redis(users=["eve on >secret ~awx:* +ping +time +info +client"])
    first, second, third = (
        run("doctor", url, "--json")
        for url in (evicting.url, replica.url, guarded.url.replace("redis://", "redis://eve:secret@"))
    )

    assert first.status == 1
    assert found(first)["memory"][0] == "warning"
    assert found(first)["cluster"][0] == "wrong"
    assert "noeviction" in found(first)["memory"][2]
    assert second.status == 1
    assert found(second)["role"][0] == "wrong"
    assert "name its primary" in found(second)["role"][2]
    assert third.status == 1
    assert found(third)["scripts"][0] == "wrong"
    assert "+evalsha" in found(third)["scripts"][2]


def test_doctor_slow_server(run: Run, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow server, a clock that differs and an old version each have a remedy."""
    monkeypatch.setattr(doctor, "_MAX_P99_MS", 0.0)
    monkeypatch.setattr(doctor, "_MIN_MAJOR_VERSION", 1_000)
    monkeypatch.setattr(doctor, "time", SlowClock())
    ran = run("doctor", f"redis+unix://{redis_server.socket}", "--json")

    assert ran.status == 1
    assert {what: found(ran)[what][0] for what in ("latency", "clock", "version")} == {
        "latency": "warning",
        "clock": "warning",
        "version": "wrong",
    }
    ahead_ms = int(re.findall(r"(\d+) ms ahead of", found(ran)["clock"][1])[0])
    assert 4_900 <= ahead_ms <= 5_100
    assert [what for what in found(ran) if found(ran)[what][2]] == ["version", "latency", "clock"]


class SlowClock:
    """The clock of this machine, five seconds slow."""

    monotonic, perf_counter_ns = staticmethod(time.monotonic), staticmethod(time.perf_counter_ns)

    @staticmethod
    def time_ns() -> int:
        return time.time_ns() - 5_000_000_000


def test_doctor_low_memory(run: Run, start_redis: StartRedis) -> None:
    """A server that is almost out of memory is a warning."""
    ran = run("doctor", start_redis(options=["--maxmemory 1mb"]).url, "--json")

    assert found(ran)["memory"][0] == "warning"
    assert "raise maxmemory" in found(ran)["memory"][2]


@pytest.mark.usefixtures("_any_latency_is_ok")
def test_doctor_permissions(run: Run, start_redis: StartRedis) -> None:
    """A missing permission is a finding, and the other checks still run."""
    server = start_redis(users=["eve on >secret ~awx:* +@all -info -time"])
    ran = run("doctor", server.url.replace("redis://", "redis://eve:secret@"), "--json")
    marks = {what: mark for what, (mark, _, _) in found(ran).items() if what != "library"}

    assert marks == {"reachable": "ok", "settings": "warning", "latency": "ok", "clock": "warning", "scripts": "wrong"}
    assert "secret" not in ran.out + ran.err


def test_doctor_says_what_to_write(run: Run, start_redis: StartRedis) -> None:
    """A wrong password, database or scheme is in the details, and the fix is what to write instead."""
    server, encrypted = start_redis(password="secret"), start_redis(tls=True)
    url = f"redis://:secret@127.0.0.1:{server.port}"
    fixes = {
        wrong: found(run("doctor", wrong, "--json"))["reachable"]
        for wrong in (
            f"{url}/99",
            url.replace(":secret@", ":wrong@"),
            url.replace("redis://", "rediss://"),
            encrypted.url.replace("rediss://", "redis://"),
        )
    }

    assert {mark for mark, _, _ in fixes.values()} == {"wrong"}
    assert [fix for _, _, fix in fixes.values()] == [
        "correct the number in the URL. A server has 16 by default, 0 to 15; its setting `databases` allows more "
        "(DB index is out of range)",
        "correct the password in the URL, or name its user: redis://user:password@host:6379",
        "write redis instead of rediss in the URL",
        "write rediss instead of redis in the URL",
    ]


def test_doctor_silent_server(run: Run) -> None:
    """A server that never responds is a finding within seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began_s = time.monotonic()
        ran = run("doctor", f"redis://127.0.0.1:{silent.getsockname()[1]}", "--json")

    assert ran.status == 1, ran
    assert found(ran)["reachable"][0] == "wrong", ran
    assert time.monotonic() - began_s < 10, ran


def test_doctor_unreachable(run: Run) -> None:
    """A server that is down is a finding; a malformed URL is an error without its password."""
    gone, none = run("doctor", "redis://:hidden@127.0.0.1:1"), run("doctor", "mysql://u:hidden@h")

    assert gone.status == 1
    assert "127.0.0.1:1" in gone.out
    assert "start it" in gone.out
    assert none.status == 2
    assert none.err.count("\n") == 1
    assert "hidden" not in gone.out + gone.err + none.out + none.err
