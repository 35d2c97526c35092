"""Caches of data derived from plans: computed once per plan, separate for each cache, and bounded."""

import gc
from dataclasses import fields, replace
from weakref import WeakSet

import pytest

from awx_ratelimit import STARTER, Caller, Claim, Concurrency, Plan, Rate
from awx_ratelimit.core.plan import MAX_CACHED_PLANS
from awx_ratelimit.core.plan_cache import PlanCache


class Weighed:
    """Something cache that can be counted while it lives."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens


def test_computed_once_per_plan() -> None:
    """One Plan object is computed once; an equal one has its own value."""
    cache = PlanCache(lambda plan: [plan.name])

    assert cache.get(STARTER) is cache.get(STARTER)
    assert cache.get(STARTER) is not cache.get(replace(STARTER))


def test_caches_are_separate() -> None:
    """Two caches of one plan have separate values."""
    first, second = PlanCache(lambda _: [1]), PlanCache(lambda _: [2])

    assert first.get(STARTER) == [1]
    assert second.get(STARTER) == [2]


def test_bounded() -> None:
    """A cache keeps a bounded number of plans and computes each value from its own plan."""
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


def test_errors_are_not_cached() -> None:
    """An error is raised on every call and caches nothing."""
    cache = PlanCache(lambda plan: plan.rates[9])
    for _ in range(2):
        with pytest.raises(IndexError):
            cache.get(STARTER)

    assert cache.entries == {}


@pytest.mark.parametrize(
    "value", [STARTER, STARTER.rates[0], Concurrency(5), Caller("s", "starter"), Claim("s", STARTER), Rate("x", 1, 1)]
)
def test_values_have_no_mutable_fields(value: object) -> None:
    """No field of a value is a mutable container."""
    held = [getattr(value, field.name) for field in fields(value)]  # type: ignore[arg-type]  # a dataclass each

    assert [each for each in held if isinstance(each, dict | list | set | bytearray)] == []
