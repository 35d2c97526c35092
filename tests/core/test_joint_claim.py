"""Claims of several budgets: which are refused when they are made, merged records, and the cache of shapes."""

import gc
from typing import Any

import pytest

from awx_ratelimit import STARTER, Budget, ImpossibleClaim, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.core import joint_claim as module
from awx_ratelimit.core import plan_cache
from awx_ratelimit.core.joint_claim import acquired_jointly, checked_cost, joint_claim
from awx_ratelimit.testing import ManualClock

DAY = Plan.of("day", per_day=5)
TOKENS = Plan("tokens", (Rate("minute", 10, 60_000), Rate("tokens", 1_000, 60_000, measure="tokens")))


@pytest.mark.parametrize("also", [5, "acme", Budget("acme", STARTER, "x"), ["acme"], [STARTER], [None]])
def test_wrong_also(also: Any) -> None:
    """Anything but budgets is a TypeError that says what to write."""
    with pytest.raises(TypeError, match="also: expected a list of Budgets"):
        acquired_jointly("key", STARTER, 1, None, also)


@pytest.mark.parametrize("settle", [1, 0, "yes", None])
def test_wrong_settle(settle: Any) -> None:
    """`settle` is True or False, also for a claim whose shape is known."""
    also = [Budget("acme", STARTER, "account")]
    acquired_jointly("key", STARTER, 1, None, also, True)
    with pytest.raises(ValueError, match="settle: expected true or false"):
        acquired_jointly("key", STARTER, 1, None, also, settle)


@pytest.mark.parametrize("cost", [0, -1, True, 1.0, "1", None, 2**53 + 1])
def test_wrong_cost(cost: Any) -> None:
    """A plain cost of a joint claim is checked as that of a plain one, also if its shape is known for the cost 1."""
    also = [Budget("acme", STARTER, "account")]
    acquired_jointly("key", STARTER, 1, None, also)
    with pytest.raises((ValueError, ImpossibleClaim)):
        acquired_jointly("key", STARTER, cost, None, also)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("made", [list, tuple, iter])
def test_any_iterable_of_budgets(number: int, made: Any) -> None:
    """`also` may be any iterable, and the claim is the same, whether its shape is known or not."""
    also = [Budget(f"s{at}", STARTER, f"scope{at}") for at in range(number)]
    claims = [acquired_jointly("key", DAY, 2, None, made(also)) for _ in range(3)]

    assert [claim.budgets for claim in claims] == [[Budget("key", DAY), *also]] * 3


def test_too_many_budgets() -> None:
    """A claim has at most 32 budgets, with any backend."""
    also = [Budget("acme", STARTER, f"scope{number}") for number in range(32)]

    assert len(acquired_jointly("key", DAY, 1, None, also[:31]).records) == 32
    with pytest.raises(ValueError, match="also: expected at most 31 budgets, got 32"):
        acquired_jointly("key", DAY, 1, None, also)


def test_equal_shapes_are_one_object() -> None:
    """Claims that differ only in their subjects share a shape; another plan, scope or cost has another one."""

    def claim(subject: str, cost: int = 1, scope: str = "account", plan: Plan = STARTER) -> Any:
        return acquired_jointly(subject, plan, cost, None, [Budget(f"of {subject}", DAY, scope)]).shape

    assert claim("a") is claim("b")
    assert claim("a", 2) is not claim("a")
    assert claim("a", scope="x") is not claim("a")
    assert claim("a", plan=Plan.of("starter", per_hour=9)) is not claim("a")


def test_known_shape_with_one_record() -> None:
    """Budgets without a scope that have one subject are merged, also after the same plans had two subjects."""
    limiter = Limiter(MemoryBackend())
    hour = Plan.of("hour", per_hour=50)
    for subject in ("other", "key"):
        decision = limiter.acquire("key", DAY, also=[Budget(subject, hour)])
        assert [usage.limit for usage in decision.usages] == ["day", "hour"]

    assert acquired_jointly("key", DAY, 1, None, [Budget("key", hour)]).records == ("key",)
    assert limiter.peek("key", hour).usages[0].remaining == 49
    assert limiter.peek("key", DAY).usages[0].remaining == 3


def test_merged_records_keep_their_shadow() -> None:
    """A plan in shadow refuses nothing after it is merged with another plan of its subject."""
    limiter = Limiter(MemoryBackend())
    shadow = Plan.of("shadow", per_hour=1, shadow=True)
    decisions = [limiter.acquire("key", DAY, also=[Budget("key", shadow)]) for _ in range(3)]

    assert [decision.allowed for decision in decisions] == [True] * 3
    assert [(usage.limit, usage.refused, usage.shadow) for usage in decisions[-1].usages] == [
        ("day", False, False), ("hour", True, True),
    ]  # fmt: skip
    assert limiter.health()["shadow_refusals"] == {"day": {"hour": 2}}


def test_merged_records_with_slots() -> None:
    """A plan with slots and one without can be merged, in either order."""
    limiter = Limiter(MemoryBackend())
    one = Plan.of("one", concurrent=1)
    for first, second in ((DAY, one), (one, Plan.of("hour", per_hour=9))):
        held = limiter.acquire("key", first, also=[Budget("key", second)])
        assert limiter.acquire("key", first, also=[Budget("key", second)]).allowed is False
        limiter.release(held)


def test_unlimited_plans() -> None:
    """An unlimited plan adds no usage, alone and merged."""
    limiter, free = Limiter(MemoryBackend()), Plan.unlimited("free")
    apart = limiter.acquire("key", free, also=[Budget("acme", DAY, "account")])
    merged = limiter.acquire("key", free, also=[Budget("key", DAY)])
    alone = limiter.acquire("key", free, settle=True)

    assert [usage.limit for usage in apart.usages] == ["account.day"]
    assert [usage.limit for usage in merged.usages] == ["day"]
    assert (alone.allowed, alone.usages) == (True, ())


def test_equal_names_name_the_limit() -> None:
    """Two limits with one name are a ValueError that names it and says what to write."""
    with pytest.raises(ValueError, match=r"got two named 'account\.day'; write Budget\(\.\.\., scope=\.\.\.\)"):
        joint_claim((Budget("a", DAY, "account"), Budget("b", DAY, "account")), 1)


def test_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans that are made for each claim are kept only up to a bound."""
    monkeypatch.setattr(plan_cache, "MAX_CACHED_PLANS", 20)
    module._shapes.clear()
    limiter = Limiter(MemoryBackend())
    for number in range(100):
        plan = Plan.of("p", per_hour=number + 1)
        assert limiter.acquire("key", plan, also=[Budget("acme", DAY, f"s{number}")]).allowed
        assert len(module._shapes) <= 20


def test_shapes_do_not_know_subjects() -> None:
    """The cache of shapes does not grow with the number of subjects."""
    module._shapes.clear()
    for number in range(1_000):
        acquired_jointly(f"key{number}", STARTER, 1, None, [Budget(f"acme{number}", DAY, "account")])

    gc.collect()
    assert len(module._shapes) == 1


@pytest.mark.parametrize("cost", [{"requests": 1, "tokens": 800}, {"tokens": 0}, 0, 2**53])
def test_right_costs(cost: Any) -> None:
    """A cost is an int from 0 to 2**53, or one for each measure."""
    assert checked_cost(cost) == cost


def test_cost_of_a_measure_is_a_snapshot() -> None:
    """A mapping that changes later does not change the claim."""
    cost = {"requests": 1, "tokens": 800}
    claim = acquired_jointly("key", TOKENS, cost, None, ())
    cost["tokens"] = 1

    assert claim.shape.cost == {"requests": 1, "tokens": 800}


@pytest.mark.parametrize("costs", [{"requests": 1}, {"tokens": 300}, {"requests": 2, "tokens": 7}])
def test_settled_measures_of_every_budget(costs: dict[str, int]) -> None:
    """A cost by measure charges each budget the measures that its rates have, and a refund gives all of it back."""
    limiter = Limiter(MemoryBackend(clock=ManualClock(1_000)))
    also = [Budget("acme", DAY, "account"), Budget("all", TOKENS, "service")]
    decision = limiter.acquire("key", TOKENS, costs, also=also, settle=True)
    used = [usage.capacity - usage.remaining for usage in decision.usages]
    limiter.refund(decision)

    requests, tokens = costs.get("requests", 0), costs.get("tokens", 0)
    assert used == [requests, tokens, requests, requests, tokens]
    assert [usage.capacity - usage.remaining for usage in limiter.peek("key", TOKENS, also=also).usages] == [0] * 5
