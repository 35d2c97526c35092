"""Plan tables: limits of accounts and of the service, periods of the calendar, and measures."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from awx_ratelimit import Caller, Concurrency, InvalidLimit, Plan, PlanTable, Rate

TABLE: dict[str, Any] = {
    "default": "growth",
    "plans": {
        "growth": {"per_minute": 300, "account": {"per_minute": 1_000, "concurrent": 50}},
        "starter": {"per_minute": 60},
    },
    "service": {"per_second": 5_000, "concurrent": 2_000},
}


def account_plan(table: PlanTable, caller: Caller) -> Plan:
    """The plan of the account of `caller`."""
    plan = table.resolve(caller).account
    assert plan is not None
    return plan


def limits(plan: Plan) -> dict[str, int]:
    """The tokens of each rate."""
    return {rate.name: rate.tokens for rate in plan.rates}


def test_account() -> None:
    """The table `account` of a plan is the plan that all keys of an account share."""
    table = PlanTable.from_mapping(TABLE)

    account = account_plan(table, Caller("key_1"))
    assert account == Plan("growth.account", (Rate.parse("1000/minute"),), Concurrency(50))
    assert table.resolve(Caller("key_1", "starter")).account is None


def test_service() -> None:
    """The table `service` is the plan that all callers share, also in a copy of the table."""
    table = PlanTable.from_mapping(TABLE)

    assert table.service == Plan.of("service", per_second=5_000, concurrent=2_000)
    assert pickle.loads(pickle.dumps(table)).service == table.service
    assert PlanTable.default().service is None
    assert PlanTable([], service=table.service).service is table.service


def test_watched_service(tmp_path: Path) -> None:
    """A watched table has the service of its file."""
    path = tmp_path / "plans.toml"
    path.write_text("[plans.a]\nper_day = 1\n[service]\nper_day = 2\n")

    assert PlanTable.watch(path).service == Plan.of("service", per_day=2)


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ({"per_week": 7}, Rate("week", 7, period="week")),
        ({"per_month": 7}, Rate("month", 7, period="month")),
        ({"per_year": 7}, Rate("year", 7, period="year")),
        (
            {"per_month": {"limit": 7, "anchor_day": 15, "timezone": "Europe/Berlin"}},
            Rate("month", 7, period="month", anchor_day=15, timezone="Europe/Berlin"),
        ),
        (
            {"per_year": {"limit": 7, "anchor_day": 6, "anchor_month": 4}},
            Rate("year", 7, period="year", anchor_day=6, anchor_month=4),
        ),
        ({"per_day": {"limit": 7, "timezone": "Asia/Tokyo"}}, Rate("day", 7, period="day", timezone="Asia/Tokyo")),
        ({"per_day": {"limit": 7, "refill": "calendar"}}, Rate("day", 7, 86_400_000, refill="calendar")),
        ({"per_minute": {"limit": 7, "name": "m"}}, Rate("m", 7, 60_000)),
        ({"per_minute": {"limit": 7, "measure": "tokens"}}, Rate("tokens-minute", 7, 60_000, measure="tokens")),
        ({"rates": ["7/month"]}, Rate("month", 7, period="month")),
        ({"rates": [{"limit": 7, "per": "minute"}]}, Rate("minute", 7, 60_000)),
        ({"rates": [{"limit": 7, "per": "2 hours", "burst": 3}]}, Rate("2hour", 7, 7_200_000, burst=3)),
        ({"rates": [{"limit": 7, "per": "week", "anchor_day": 7}]}, Rate("week", 7, period="week", anchor_day=7)),
        (
            {"rates": [{"limit": 7, "per": "day", "measure": "tokens", "shadow": True}]},
            Rate("tokens-day", 7, 86_400_000, measure="tokens", shadow=True),
        ),
        (
            {"rates": [{"limit": 7, "per": "day", "measure": "tokens", "name": "daily"}]},
            Rate("daily", 7, 86_400_000, measure="tokens"),
        ),
    ],
)
def test_rate(written: dict[str, Any], rate: Rate) -> None:
    """Each way to write a rate gives the Rate that it describes."""
    (plan,) = PlanTable.from_mapping({"plans": {"a": written}}).plans

    assert plan.rates == (rate,)


def of(**plan: Any) -> dict[str, Any]:
    """A table of one plan."""
    return {"plans": {"a": plan}}


def shared(**tables: Any) -> dict[str, Any]:
    """A table of one plan with other tables beside it."""
    return {**of(per_day=1), **tables}


def listed(**fields: Any) -> dict[str, Any]:
    """A table of one plan with one rate in `rates`."""
    return of(rates=[fields])


@pytest.mark.parametrize(
    ("written", "place", "says"),
    [
        (of(per_week={"limit": 1, "anchor_month": 2}), "plans.a.per_week.anchor_month", "unknown key"),
        (of(per_minute={"limit": 1, "timezone": "UTC"}), "plans.a.per_minute.timezone", "unknown key"),
        (of(per_week={"limit": 1, "anchor_day": 8}), "plans.a.per_week", "anchor_day"),
        (of(per_month={"limit": 1, "timezone": "Nowhere"}), "plans.a.per_month", "timezone"),
        (of(per_month={"limit": 1, "refill": "continuous"}), "plans.a.per_month.refill", "expected 'calendar'"),
        (of(per_month={"limit": 9, "burst": 8}), "plans.a.per_month", "burst: expected 9"),
        (of(per_day={"limit": 9, "measure": "A"}), "plans.a.per_day", "measure: expected 1 to 32"),
        (of(per_day={"limit": 9, "measure": 5}), "plans.a.per_day", "measure: expected 1 to 32"),
        (of(per_day={"limit": 9, "name": "a.b"}), "plans.a.per_day", "name: expected 1 to 32"),
        (of(per_day=1, per_hour={"limit": 1, "name": "day"}), "plans.a.per_day", "two limits are named 'day'"),
        (listed(limit=9), "plans.a.rates[0]", "the period is missing; write { limit = 60, per = 'minute' }"),
        (listed(per="day"), "plans.a.rates[0]", "the limit is missing"),
        (listed(limit=9, per=5), "plans.a.rates[0].per", "expected second, minute"),
        (listed(limit=9, per="eon"), "plans.a.rates[0].per", "expected second, minute"),
        (listed(limit=9, per="0 hours"), "plans.a.rates[0].per", "expected second, minute"),
        (listed(limit=9, per="day; 1/day"), "plans.a.rates[0].per", "expected second, minute"),
        (listed(limit=9, per="2 weeks"), "plans.a.rates[0].per: '2 weeks'", "of 14 days write '14 days'"),
        (listed(limit=9, per="2 days", timezone="UTC"), "plans.a.rates[0].timezone", "unknown key"),
        (listed(limit=9, per="hour", timezone="UTC"), "plans.a.rates[0].timezone", "unknown key"),
        (listed(limit=9, per="day", x=1), "plans.a.rates[0].x", "unknown key; allowed are limit, per, burst"),
        (of(rates=[5]), "plans.a.rates[0]", "expected one rate"),
        (of(per_day=1, account={}), "plans.a.account", "the table has no limit"),
        (of(per_day=1, account=5), "plans.a.account", "expected a table"),
        (of(per_day=1, account={"per_day": 0}), "plans.a.account.per_day", "expected an integer >= 1"),
        (of(per_day=1, account={"account": {}}), "plans.a.account.account", "unknown key"),
        (of(per_day=1, account={"refusal": {}}), "plans.a.account.refusal", "unknown key"),
        (shared(service={"per_day": "x"}), "service.per_day", "expected an integer"),
        (shared(service={}), "service", "the table has no limit"),
        (shared(service={"account": {}}), "service.account", "unknown key"),
        (shared(overrides={"x": {"account": {"per_day": 0}}}), "overrides.x.account.per_day", "expected an integer"),
        (shared(overrides={"x": {"account": {"plan": "a"}}}), "overrides.x.account.plan", "unknown key"),
    ],
)
def test_mistake_names_its_place(written: Any, place: str, says: str) -> None:
    """A mistake is an InvalidLimit with the source, the path and what is allowed."""
    with pytest.raises(InvalidLimit, match=f"^t: {re.escape(place)}.*{re.escape(says)}"):
        PlanTable.from_mapping(written, source="t")


def test_measures_of_one_period() -> None:
    """Two measures of one period have different names by default."""
    written = {"per_minute": 60, "rates": [{"limit": 7, "per": "minute", "measure": "tokens"}]}

    assert limits(PlanTable.from_mapping({"plans": {"a": written}}).plans[0]) == {"minute": 60, "tokens-minute": 7}


def test_override_of_an_account() -> None:
    """An override merges its limits `account` into the plan of the account, by name."""
    table = PlanTable.from_mapping(
        TABLE | {"overrides": {"acme": {"per_minute": 400, "account": {"per_minute": 2_000, "per_day": 9}}}}
    )

    account = account_plan(table, Caller("key_1", account="acme"))
    assert limits(account) == {"minute": 2_000, "day": 9}
    assert account.slots == 50
    assert limits(table.resolve(Caller("key_1", account="acme"))) == {"minute": 400}
    assert limits(account_plan(table, Caller("key_1"))) == {"minute": 1_000}


def test_override_adds_an_account() -> None:
    """An override with limits `account` gives a plan without an account one."""
    table = PlanTable.from_mapping(TABLE | {"overrides": {"acme": {"account": {"per_day": 9}}}})

    assert account_plan(table, Caller("key_1", "starter", "acme")) == Plan.of("starter.account", per_day=9)


@pytest.mark.parametrize("own", [None, {"per_minute": 5}, {"rates": ["5/minute"]}])
def test_account_limits_and_another_override(own: dict[str, Any] | None) -> None:
    """A key's own override leaves the limits that its account's override sets for all keys."""
    overrides = {"acme": {"account": {"per_minute": 9}}, "key_1": {"per_minute": 5}}
    table = PlanTable.from_mapping(TABLE | {"overrides": overrides})

    plan = table.resolve(Caller("key_1", account="acme", overrides=own))
    assert limits(plan) == {"minute": 5}
    assert plan.account is not None
    assert limits(plan.account) == {"minute": 9}
    assert plan.account.slots == 50


def test_own_account_limits() -> None:
    """The caller's own limits `account` come before those of its account's override."""
    table = PlanTable.from_mapping(TABLE | {"overrides": {"acme": {"account": {"per_minute": 9}}}})

    caller = Caller("key_1", account="acme", overrides={"account": {"per_minute": 8}})
    assert limits(account_plan(table, caller)) == {"minute": 8}


def test_overridden_accounts() -> None:
    """`overridden` has the plans of accounts with their overrides."""
    table = PlanTable.from_mapping(TABLE | {"overrides": {"acme": {"plan": "growth", "account": {"per_minute": 9}}}})

    (plan,) = table.overridden()
    assert plan.account is not None
    assert limits(plan.account) == {"minute": 9}
