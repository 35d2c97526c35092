import copy
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.processor_time import cpu_ratio

from awx_ratelimit import STARTER, Caller, Concurrency, InvalidLimit, Plan, PlanTable, Rate

PLANS = {"starter": {"per_minute": 60}}


@pytest.mark.parametrize(
    ("mapping", "place", "says"),
    [
        ([], "t", "expected a table"),
        ({}, "t: plans", "the table has no plan"),
        ({"plan": PLANS}, "t: plan", "unknown key; allowed are default, plans, service, overrides"),
        ({"plans": {"a": 5}}, "t: plans.a", "expected a table"),
        ({"plans": {"a": {}}}, "t: plans.a", "has no limit"),
        ({"plans": {"": {"per_minute": 1}}}, "t: plans.", "name: expected a non-empty string, got ''"),
        ({"plans": {"a": {"per_minut": 1}}}, "t: plans.a.per_minut", "refusal; did you mean 'per_minute'?"),
        ({"plans": PLANS, "overides": {}}, "t: overides", "did you mean 'overrides'?"),
        ({"plans": PLANS, "default": "startr"}, "t: default", "did you mean 'starter'?"),
        ({"plans": {"a": {"per_fortnight": 1}}}, "t: plans.a.per_fortnight", "unknown key; allowed are per_second"),
        ({"plans": {"a": {"per_minute": 0}}}, "t: plans.a.per_minute", "expected an integer >= 1"),
        ({"plans": {"a": {"per_minute": -5}}}, "t: plans.a.per_minute", "expected an integer >= 1"),
        ({"plans": {"a": {"per_minute": "60"}}}, "t: plans.a.per_minute", "expected an integer"),
        ({"plans": {"a": {"per_minute": True}}}, "t: plans.a.per_minute", "expected an integer"),
        ({"plans": {"a": {"per_minute": {"burst": 5}}}}, "t: plans.a.per_minute", "the limit is missing"),
        ({"plans": {"a": {"per_minute": {"limit": 5, "bust": 5}}}}, "t: plans.a.per_minute.bust", "unknown key"),
        ({"plans": {"a": {"per_day": {"limit": 5, "refill": "x"}}}}, "t: plans.a.per_day", "'calendar'"),
        ({"plans": {"a": {"per_day": {"limit": 10**15 + 1}}}}, "t: plans.a.per_day", "cannot be counted exactly"),
        ({"plans": {"a": {"concurrent": 0}}}, "t: plans.a.concurrent", "expected an integer >= 1"),
        ({"plans": {"a": {"concurrent": {"ttl_seconds": 30}}}}, "t: plans.a.concurrent", "the slots are missing"),
        ({"plans": {"a": {"concurrent": {"slots": 1, "ttl_seconds": "x"}}}}, "t: plans.a.concurrent.ttl", "sec"),
        ({"plans": {"a": {"concurrent": {"slots": 1, "ttl_seconds": float("nan")}}}}, "t: plans.a.concurrent", "sec"),
        ({"plans": {"a": {"concurrent": {"slots": 1, "ttl_seconds": 0.5}}}}, "t: plans.a.concurrent", "1000"),
        ({"plans": {"a": {"rates": "60/minute"}}}, "t: plans.a.rates", "expected a list"),
        ({"plans": {"a": {"rates": ["60/0 minutes"]}}}, "t: plans.a.rates[0]", "expected one rate"),
        ({"plans": {"a": {"per_day": 10**5000}}}, "t: plans.a.per_day", "too large to show"),
        ({"plans": PLANS, "overrides": {"x": {"plan": None}}}, "t: overrides.x.plan", "there is no plan"),
        ({"plans": {"a": {"rates": ["60/minute", "x"]}}}, "t: plans.a.rates[1]", "expected one rate"),
        ({"plans": {"a": {"rates": ["60/minute"], "per_minute": 5}}}, "t: plans.a.rates[0]", "two limits are named"),
        ({"plans": {"a": {"per_minute": 5, "shadow": "yes"}}}, "t: plans.a.shadow", "expected true or false"),
        ({"plans": PLANS, "default": "gold"}, "t: default", "there is no plan 'gold'; allowed are starter"),
        ({"plans": PLANS, "default": 5}, "t: default", "there is no plan 5"),
        ({"plans": PLANS, "overrides": {"x": {"plan": "gold"}}}, "t: overrides.x.plan", "there is no plan 'gold'"),
        ({"plans": PLANS, "overrides": {"x": 5}}, "t: overrides.x", "expected a table"),
        ({"plans": PLANS, "overrides": {"x": {"per_minute": 0}}}, "t: overrides.x.per_minute", "expected an integer"),
        ({"plans": PLANS, "overrides": {"x": {"per_weak": 1}}}, "t: overrides.x.per_weak", "unknown key"),
    ],
)  # fmt: skip
def test_mistake_names_its_place(mapping: Any, place: str, says: str) -> None:
    """A mistake is an InvalidLimit with the source, the path and what is allowed."""
    with pytest.raises(InvalidLimit, match=f"^{re.escape(place)}.*{re.escape(says)}"):
        PlanTable.from_mapping(mapping, source="t")


def test_documented_table(tmp_path: Path) -> None:
    """The documented plans.toml gives the documented plans."""
    path = tmp_path / "plans.toml"
    path.write_text(
        """
        default = "starter"
        [plans.starter]
        per_minute = 60
        per_day = 10_000
        concurrent = 5
        [plans.growth]
        per_minute = { limit = 300, burst = 100 }
        per_day = { limit = 100_000, refill = "calendar" }
        concurrent = { slots = 25, ttl_seconds = 30 }
        [plans.enterprise]
        rates = ["50/second", "3000/minute", "5000000/day"]
        concurrent = 250
        [overrides.acct_acme]
        plan = "enterprise"
        per_minute = 12_000
        """
    )

    table = PlanTable.from_toml(path)

    growth = (Rate("minute", 300, 60_000, burst=100), Rate("day", 100_000, 86_400_000, refill="calendar"))
    acme = table.resolve(Caller("key_1", "starter", account="acct_acme"))
    assert table.resolve(Caller("key_2")) == STARTER
    assert table.resolve(Caller("key_2", "growth")) == Plan("growth", growth, Concurrency(25))
    assert {rate.name: rate.tokens for rate in acme.rates} == {"second": 50, "minute": 12_000, "day": 5_000_000}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"plans = ", "is not TOML"),
        (b"\xff", "is not TOML"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (b"a = " + b"[" * 9000, "is not TOML"),
        (b"", "plans: the table has no plan"),
        (None, "cannot be read"),
    ],
)
def test_invalid_file(tmp_path: Path, content: bytes | None, says: str) -> None:
    """A missing, broken or empty file is an InvalidLimit that begins with its path."""
    path = tmp_path / "plans.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidLimit, match=f"^{re.escape(str(path))}: .*{says}"):
        PlanTable.from_toml(path)


def test_override_precedence() -> None:
    """Overrides apply in this order: the caller's own, its subject's, its account's, its plan."""
    table = PlanTable.from_mapping(
        {
            "default": "a",
            "plans": {"a": {"per_minute": 1, "concurrent": 9}},
            "overrides": {"acct": {"per_minute": 2}, "key": {"per_minute": 3}},
        }
    )
    callers = [
        Caller("other"),
        Caller("other", account="acct"),
        Caller("key", account="acct"),
        Caller("key", account="acct", overrides={"per_minute": 4}),
    ]

    plans = [table.resolve(caller) for caller in callers]
    assert [(plan.rates[0].tokens, plan.slots) for plan in plans] == [(1, 9), (2, 9), (3, 9), (4, 9)]


def test_unknown_plan() -> None:
    """An unknown plan is an error and never another plan."""
    with pytest.raises(InvalidLimit, match=r"caller: plan: there is no plan 'gold'; allowed are starter, growth"):
        PlanTable.default().resolve(Caller("key_1", "gold"))


def test_no_default() -> None:
    """Without a default plan, a caller without a plan is an error, which says what to write."""
    with pytest.raises(InvalidLimit, match=r"the table has no default; allowed are starter; write default='starter'$"):
        PlanTable([STARTER]).resolve(Caller("key_1"))


def test_equal_overrides_share_a_plan() -> None:
    """Equal overrides give the same Plan object, so that caches by plan stay small."""
    table = PlanTable([STARTER], default="starter", overrides={"key": {"per_minute": 3}})

    assert table.resolve(Caller("key")) is table.resolve(Caller("key"))


@pytest.mark.parametrize("own", [{"per_minute": 3}, {"account": {"per_minute": 3}}, {"rates": ["3/minute"]}])
def test_equal_overrides_of_callers_share_a_plan(own: dict[str, Any]) -> None:
    """So do equal overrides that each request brings anew, nested tables included."""
    table = PlanTable([STARTER], default="starter")

    first, second = (table.resolve(Caller("key", overrides=copy.deepcopy(own))) for _ in range(2))
    assert first is second


def test_resolve_time_is_constant() -> None:
    """With 5,000 overrides a caller resolves about as fast as with one."""
    few = PlanTable([STARTER], default="starter", overrides={"k7": {"per_minute": 3}})
    many = PlanTable([STARTER], default="starter", overrides={f"k{n}": {"per_minute": n + 1} for n in range(5_000)})

    caller = Caller("k7")
    assert many.resolve(caller).rates[0].tokens == 8
    assert cpu_ratio(partial(many.resolve, caller), partial(few.resolve, caller), 5, number=200) < 5


@pytest.mark.parametrize("overrides", ['{"per_minute": 5}', [5], 5])
def test_caller_overrides_must_be_a_table(overrides: Any) -> None:
    """Wrong overrides from a key store are an InvalidLimit."""
    with pytest.raises(InvalidLimit, match=r"caller: overrides: expected a table"):
        PlanTable.default().resolve(Caller("s", "starter", overrides=overrides))


@pytest.mark.parametrize("seconds", [1.001, 1.005, 64.001, 30, 0.25 * 7])
def test_seconds_are_exact(seconds: float) -> None:
    """Seconds with up to three decimals are read exactly."""
    table = {"plans": {"p": {"concurrent": {"slots": 1, "ttl_seconds": seconds}}}}

    plan = PlanTable.from_mapping(table).plans[0]
    assert plan.concurrency is not None
    assert plan.concurrency.ttl_ms == round(seconds * 1000)


def test_unlimited_plan() -> None:
    """A plan with ``unlimited = true`` has no limits; an override may add some."""
    table = PlanTable.from_mapping(
        {"plans": {"internal": {"unlimited": True}}, "overrides": {"acme": {"plan": "internal", "per_minute": 5}}}
    )

    assert table.resolve(Caller("s", "internal")) == Plan.unlimited("internal")
    assert table.resolve(Caller("acme")) == Plan.of("internal", per_minute=5)


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        ({"unlimited": True, "per_minute": 5}, "is unlimited and has limits"),
        ({"unlimited": False}, r"has no limit; add a Rate or a Concurrency, or write Plan.unlimited\('p'\)"),
        ({"unlimited": "yes"}, "plans.p.unlimited: expected true or false, got 'yes'"),
        ({"per_minute": 5, "refusal": {}}, "plans.p.refusal.body: expected a text, got None"),
        (
            {"per_minute": 5, "refusal": {"body": "", "status": 200}},
            "status: expected a status from 400 to 599, got 200",
        ),
        ({"per_minute": 5, "refusal": {"body": "", "status": True}}, "status: expected a status from 400 to 599"),
        ({"per_minute": 5, "refusal": {"body": "", "content_type": "a\r\nb"}}, "content_type: expected a media type"),
        (
            {"per_minute": 5, "refusal": {"text": ""}},
            "refusal.text: unknown key; allowed are status, body, content_type",
        ),
        ({"per_minute": 5, "refusal": "no"}, "refusal: expected a table"),
    ],
)
def test_wrong_plan_options(plan: dict[str, Any], error: str) -> None:
    """A mistake in the other options of a plan names its place."""
    with pytest.raises(InvalidLimit, match=error):
        PlanTable.from_mapping({"plans": {"p": plan}})


def test_refusal_of_a_plan() -> None:
    """A plan's own refusal is found by its plan, also in a copy of the table."""
    table = PlanTable.from_mapping({"plans": {"p": {"per_minute": 5, "refusal": {"body": "later"}}}})
    plan = table.plans[0]

    assert table.refusal_of(plan) == (None, "later", "application/json")
    assert pickle.loads(pickle.dumps(table)).refusal_of(plan) == table.refusal_of(plan)
    assert table.refusal_of(STARTER) is None
