"""What a claim finds behind others."""

import pytest

from awx_ratelimit import Concurrency, Decision, Plan, Rate
from awx_ratelimit.core.budget import Budget, ScopedSubject
from awx_ratelimit.core.decision import joint_decision
from awx_ratelimit.core.joint_claim import joint_claim
from awx_ratelimit.core.waits import behind, enforced_buckets, longest_wait

TEN = Plan.of("ten", per_second=10)
NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000


def peek(plan: Plan, levels: list[int], held: int = 0) -> Decision:
    return Decision("s", plan, 1, NOW_MS, 0, levels, held, 0, None, 0)


@pytest.mark.parametrize(("ahead", "wait_ms"), [([9], 0), ([10], 100), ([10, 5, 5], 1_100)])
@pytest.mark.parametrize("since_ms", [0, NOW_MS])
def test_wait_behind_others(ahead: list[int], wait_ms: int, since_ms: int) -> None:
    """The wait ends when all that are ahead and this claim fit, however old the state of the bucket is."""
    found = behind(peek(TEN, [0, since_ms]), {("s", "second"): ahead}, 10_000)

    assert found.retry_after_ms == wait_ms
    assert found.allowed is (wait_ms == 0)


@pytest.mark.parametrize(("ahead", "days"), [([3], 0), ([4], 1), ([4, 3], 1), ([4, 4], 2), ([3, 2, 4], 3)])
def test_wait_behind_others_of_a_calendar_rate(ahead: list[int], days: int) -> None:
    """Each period has room for those ahead, in their order; the claim waits for the first with room for it."""
    plan = Plan("day", (Rate("day", 4, period="day"),))
    found = behind(peek(plan, [0, 0]), {("s", "day"): ahead}, 10**12)

    assert found.retry_after_ms == (days and days * DAY_MS - NOW_MS % DAY_MS)


@pytest.mark.parametrize(("held", "ahead", "allowed"), [(0, 1, True), (1, 1, False), (0, 2, False)])
def test_slots_for_others(held: int, ahead: int, allowed: bool) -> None:
    """Free slots are reserved for those ahead, one for each."""
    plan = Plan("slots", (), Concurrency(2))
    found = behind(peek(plan, [], held), {("s", "concurrent"): [1] * ahead}, 10_000)

    assert found.allowed is allowed
    assert found.retry_after_ms == (0 if allowed else 1_000)


def test_buckets_of_a_claim() -> None:
    """A claim can be refused by the enforced limits that it names, and the longest wait says by which one."""
    shadow = Rate("hour", 9, 3_600_000, shadow=True)
    tokens = Plan("t", (Rate("second", 1, 1_000), Rate("tokens", 9, 60_000, measure="tokens"), shadow), Concurrency(1))
    claim = joint_claim((Budget("s", tokens), Budget("acme", TEN, "account")), 1)
    account = ScopedSubject("acme", "account")
    states = [(0b1001, [1_000, NOW_MS, 0, 0, 0, 0], 1, 1_500), (0b1, [20_000, NOW_MS], 0, 0)]

    assert enforced_buckets(claim.records, claim.shape.charges) == {
        ("s", "second"): 1,
        ("s", "concurrent"): 1,
        (account, "second"): 1,
    }
    assert longest_wait(joint_decision(claim, NOW_MS, states, 0, None)) == ("s", "concurrent")
