import copy
import pickle
from typing import Any

import pytest

from awx_ratelimit import Claim, Concurrency, Decision, Limiter, MemoryBackend, Plan, Rate, Usage
from awx_ratelimit.testing import ManualClock

PLAN = Plan("p", (Rate("minute", 2, 60_000), Rate("day", 5, 86_400_000, shadow=True)), Concurrency(1))


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(MemoryBackend(clock=ManualClock(500)))


def test_a_decision_says_how_each_limit_stands(limiter: Limiter) -> None:
    """Usages are in the order of the plan, the slots last, in tokens, slots and milliseconds."""
    decision = limiter.acquire("s", PLAN)

    assert decision.usages == (
        Usage("minute", 2, 1, 0, 30_000, refused=False, shadow=False),
        Usage("day", 5, 4, 0, 17_280_000, refused=False, shadow=True),
        Usage("concurrent", 1, 0, 0, 0, refused=False, shadow=False),
    )


def test_a_decision_says_what_was_asked_and_when(limiter: Limiter) -> None:
    """The claim, the plan and the time of the decision are part of it."""
    decision = limiter.acquire("s", PLAN, 2)

    assert decision.claim == Claim("s", PLAN, 2)
    assert decision.plan == PLAN
    assert decision.decided_at_ms == 500


def test_a_decision_is_true_exactly_when_it_is_allowed(limiter: Limiter) -> None:
    """A condition on a decision never lets a refused claim through."""
    decisions = [limiter.acquire("s", PLAN) for _ in range(2)]

    assert [bool(decision) for decision in decisions] == [decision.allowed for decision in decisions] == [True, False]


@pytest.mark.parametrize("field", ["allowed", "retry_after_ms", "usages", "lease", "plan", "decided_at_ms", "subject"])
def test_a_decision_cannot_be_changed(limiter: Limiter, field: str) -> None:
    """What was decided cannot be overwritten."""
    with pytest.raises(AttributeError):
        setattr(limiter.acquire("s", PLAN), field, None)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_decision_cannot_be_copied(limiter: Limiter, copied: Any) -> None:
    """A copy would give the slot back a second time; it is an error that says so."""
    with pytest.raises(TypeError, match="release its slot twice"):
        copied(limiter.acquire("s", PLAN))


def test_a_later_decision_does_not_change_an_earlier_one(limiter: Limiter) -> None:
    """What a decision says stays what it was, whatever is decided and released afterwards."""
    first = limiter.acquire("s", PLAN)
    before = first.usages
    limiter.release(first)
    limiter.acquire("s", PLAN)

    assert first.usages == before


def test_a_decision_prints_its_answer(limiter: Limiter) -> None:
    """The text of a decision names the answer, the cost, the subject and the plan."""
    decisions: list[Decision] = [limiter.acquire("s", PLAN), limiter.acquire("s", PLAN)]

    assert [str(decision) for decision in decisions] == [
        "<Decision allowed: 1 for 's' under 'p'>",
        "<Decision refused, retry_after_ms=1000: 1 for 's' under 'p'>",
    ]
