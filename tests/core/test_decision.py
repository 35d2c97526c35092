import copy
import json
import pickle
from dataclasses import asdict
from typing import Any

import pytest

from awx_ratelimit import Budget, Claim, Concurrency, Decision, Limiter, MemoryBackend, Plan, Rate, Usage
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.plan import MAX_CACHED_PLANS
from awx_ratelimit.testing import ManualClock

PLAN = Plan("p", (Rate("minute", 2, 60_000), Rate("day", 5, 86_400_000, shadow=True)), Concurrency(1))


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(MemoryBackend(clock=ManualClock(500)))


def test_usages(limiter: Limiter) -> None:
    """Usages are in the order of the plan, the slots last, in tokens, slots and milliseconds."""
    decision = limiter.acquire("s", PLAN)

    assert decision.usages == (
        Usage("minute", 2, 1, 0, 30_000, refused=False, shadow=False),
        Usage("day", 5, 4, 0, 17_280_000, refused=False, shadow=True),
        Usage("concurrent", 1, 0, 0, 0, refused=False, shadow=False),
    )


def test_rates(limiter: Limiter) -> None:
    """A decision has the rate of each limit by its name, also those of the other budgets of a claim."""
    account = Plan.of("acme", per_hour=100)

    alone = limiter.peek("s", PLAN)
    joint = limiter.peek("s", PLAN, also=[Budget("acme", account, scope="account")])

    assert list(alone.rates.values()) == [*PLAN.rates]
    assert joint.rates == {"minute": PLAN.rates[0], "day": PLAN.rates[1], "account.hour": account.rates[0]}
    assert [usage.limit for usage in joint.usages if usage.limit not in joint.rates] == ["concurrent"]


def test_usages_as_json(limiter: Limiter) -> None:
    """A usage has only fields that JSON knows, so an app can return it."""
    usage = limiter.acquire("s", PLAN).usages[0]

    assert json.loads(json.dumps(asdict(usage))) == asdict(usage)


def test_claim_and_time(limiter: Limiter) -> None:
    """A decision contains its claim, its plan and its time."""
    decision = limiter.acquire("s", PLAN, 2)

    assert decision.claim == Claim("s", PLAN, 2)
    assert decision.plan == PLAN
    assert decision.decided_at_ms == 500


def test_truth(limiter: Limiter) -> None:
    """A decision is true in a condition only if it is allowed."""
    decisions = [limiter.acquire("s", PLAN) for _ in range(2)]

    assert [bool(decision) for decision in decisions] == [decision.allowed for decision in decisions] == [True, False]


@pytest.mark.parametrize("field", ["allowed", "retry_after_ms", "usages", "lease", "plan", "decided_at_ms", "subject"])
def test_immutable(limiter: Limiter, field: str) -> None:
    """The fields of a decision cannot be set."""
    with pytest.raises(AttributeError):
        setattr(limiter.acquire("s", PLAN), field, None)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_no_copy(limiter: Limiter, copied: Any) -> None:
    """Copying a decision is an error, because a copy would release the slot twice."""
    with pytest.raises(TypeError, match="release its slot twice"):
        copied(limiter.acquire("s", PLAN))


def test_snapshot(limiter: Limiter) -> None:
    """Later decisions and releases do not change a decision."""
    first = limiter.acquire("s", PLAN)
    before = first.usages
    limiter.release(first)
    limiter.acquire("s", PLAN)

    assert first.usages == before


def test_repr(limiter: Limiter) -> None:
    """The repr names the result, the cost, the subject and the plan."""
    decisions: list[Decision] = [limiter.acquire("s", PLAN), limiter.acquire("s", PLAN)]

    assert [str(decision) for decision in decisions] == [
        "<Decision allowed: 1 for 's' under 'p'>",
        "<Decision refused, retry_after_ms=1000: 1 for 's' under 'p'>",
    ]


def test_hold_times_are_bounded() -> None:
    """Hold times are kept for the last plans, whatever number of plans clients cause."""
    times = HoldTimes()
    for number in range(MAX_CACHED_PLANS + 5):
        times.record(Plan(f"p{number}", (), Concurrency(1)), 5_000)

    assert len(times._held_ms) == MAX_CACHED_PLANS
    assert times.slot_wait_ms(Plan("p0", (), Concurrency(1))) == 1_000
    assert times.slot_wait_ms(Plan(f"p{MAX_CACHED_PLANS}", (), Concurrency(1))) == 5_000
