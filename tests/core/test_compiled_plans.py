"""What is derived from plans: once for each, beside its user, and never more than a bound."""

import gc
from dataclasses import fields, replace
from weakref import WeakSet

import pytest

from awx_ratelimit import STARTER, Caller, Claim, Concurrency, Plan, Rate
from awx_ratelimit.core.compiled_plans import MOST_PLANS, Derived


class Weighed:
    """Something derived that can be counted while it lives."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens


def test_it_is_derived_once_for_each_plan() -> None:
    """The same plan has the same, an equal one its own."""
    derived = Derived(lambda plan: [plan.name])

    assert derived.of(STARTER) is derived.of(STARTER)
    assert derived.of(STARTER) is not derived.of(replace(STARTER))


def test_two_users_of_one_plan_share_nothing() -> None:
    """Each user of a plan has its own."""
    first, second = Derived(lambda _: [1]), Derived(lambda _: [2])

    assert first.of(STARTER) == [1]
    assert second.of(STARTER) == [2]


def test_plans_that_are_made_for_each_request_are_forgotten() -> None:
    """Of any number of plans a bounded number is remembered, and each has what was derived from it alone."""
    alive: WeakSet[Weighed] = WeakSet()

    def derive(plan: Plan) -> Weighed:
        weighed = Weighed(plan.rates[0].tokens)
        alive.add(weighed)
        return weighed

    derived = Derived(derive)
    for tokens in range(1, 2 * MOST_PLANS + 10):
        assert derived.of(Plan.of("p", per_minute=tokens)).tokens == tokens
    gc.collect()

    assert len(alive) <= MOST_PLANS


def test_what_cannot_be_derived_is_not_remembered() -> None:
    """An error is raised each time, and keeps nothing."""
    derived = Derived(lambda plan: plan.rates[9])
    for _ in range(2):
        with pytest.raises(IndexError):
            derived.of(STARTER)

    assert derived.known == {}


@pytest.mark.parametrize(
    "value", [STARTER, STARTER.rates[0], Concurrency(5), Caller("s", "starter"), Claim("s", STARTER), Rate("x", 1, 1)]
)
def test_values_carry_nothing_that_can_change(value: object) -> None:
    """No field of a value is a container that somebody could write to."""
    held = [getattr(value, field.name) for field in fields(value)]  # type: ignore[arg-type]  # a dataclass each

    assert [each for each in held if isinstance(each, dict | list | set | bytearray)] == []
