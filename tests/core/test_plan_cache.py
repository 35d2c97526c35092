"""What is cache from plans: once for each, beside its user, and never more than a bound."""

import gc
from dataclasses import fields, replace
from weakref import WeakSet

import pytest

from awx_ratelimit import STARTER, Caller, Claim, Concurrency, Plan, Rate
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, PlanCache


class Weighed:
    """Something cache that can be counted while it lives."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens


def test_it_is_derived_once_for_each_plan() -> None:
    """The same plan has the same, an equal one its own."""
    cache = PlanCache(lambda plan: [plan.name])

    assert cache.get(STARTER) is cache.get(STARTER)
    assert cache.get(STARTER) is not cache.get(replace(STARTER))


def test_two_users_of_one_plan_share_nothing() -> None:
    """Each user of a plan has its own."""
    first, second = PlanCache(lambda _: [1]), PlanCache(lambda _: [2])

    assert first.get(STARTER) == [1]
    assert second.get(STARTER) == [2]


def test_plans_that_are_made_for_each_request_are_forgotten() -> None:
    """Of any number of plans a bounded number is remembered, and each has what was cache from it alone."""
    alive: WeakSet[Weighed] = WeakSet()

    def derive(plan: Plan) -> Weighed:
        weighed = Weighed(plan.rates[0].tokens)
        alive.add(weighed)
        return weighed

    cache = PlanCache(derive)
    for tokens in range(1, 2 * MAX_CACHED_PLANS + 10):
        assert cache.get(Plan.of("p", per_minute=tokens)).tokens == tokens
    gc.collect()

    assert len(alive) <= MAX_CACHED_PLANS


def test_what_cannot_be_derived_is_not_remembered() -> None:
    """An error is raised each time, and keeps nothing."""
    cache = PlanCache(lambda plan: plan.rates[9])
    for _ in range(2):
        with pytest.raises(IndexError):
            cache.get(STARTER)

    assert cache.entries == {}


@pytest.mark.parametrize(
    "value", [STARTER, STARTER.rates[0], Concurrency(5), Caller("s", "starter"), Claim("s", STARTER), Rate("x", 1, 1)]
)
def test_values_carry_nothing_that_can_change(value: object) -> None:
    """No field of a value is a container that somebody could write to."""
    held = [getattr(value, field.name) for field in fields(value)]  # type: ignore[arg-type]  # a dataclass each

    assert [each for each in held if isinstance(each, dict | list | set | bytearray)] == []
