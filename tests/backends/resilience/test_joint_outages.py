"""Outages in which claims of several budgets are made: every budget stays bounded, and is reconciled."""

from typing import Any

import pytest
from tests.backends.resilience.healing import Healing
from tests.machine import eventually

from awx_ratelimit import BackendUnavailable, Budget, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.resilience.circuit_breaker import MAX_CONSECUTIVE_FAILURES
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.backends.resilience.local_share import Shares
from awx_ratelimit.core.joint_claim import joint_claim
from awx_ratelimit.errors import StateDamaged

#: A limit that refills so slowly that the tests see no part of it.
KEY = Plan("key", (Rate("decade", 100, 315_360_000_000),), Concurrency(10))
ACCOUNT = Plan(
    "account",
    (Rate("decade", 40, 315_360_000_000), Rate("year", 400, period="year", timezone="Asia/Tokyo", measure="tokens")),
    Concurrency(8),
)
COST = {"requests": 1, "tokens": 10}
EVERYBODY = [None]


@pytest.fixture
def backend() -> Healing:
    return Healing()


def claimed(limiter: Limiter, key: str = "key", **options: Any) -> Decision:
    return limiter.acquire(key, KEY, COST, also=[Budget("acme", ACCOUNT, "account")], **options)


def left(backend: Any, key: str = "key") -> list[int]:
    """What is left of each limit: the key's decade and slots, the account's decade, year and slots."""
    claim = joint_claim((Budget(key, KEY), Budget("acme", ACCOUNT, "account")), 1)
    return [usage.remaining for usage in backend.peek_joint(claim).usages]


def reconciled(guard: GuardedBackend, backend: Healing, seconds: list[float]) -> None:
    """End the outage, and wait until the backend has been told everything."""
    backend.fails = ()
    seconds[0] += 10
    guard.acquire("another", KEY, 1)
    reconciliation = guard._fallback.reconciliation
    assert (
        eventually(lambda: reconciliation.is_pending or guard._fallback._reconciling.is_busy, expected=False) is False
    )


def test_every_budget_has_its_share(backend: Healing) -> None:
    """One of four workers admits a quarter of the smallest budget; the refusal charges no other budget."""
    backend.fails = EVERYBODY
    limiter = Limiter(GuardedBackend(backend, expected_workers=4))

    decisions = [claimed(limiter, f"key-{number % 2}") for number in range(12)]
    for decision in decisions:
        limiter.release(decision)
    decisions += [claimed(limiter, f"key-{number % 2}") for number in range(4)]

    assert [decision.allowed for decision in decisions] == [True, True] + [False] * 10 + [True, True, False, False]
    assert [usage.limit for usage in decisions[5].usages if usage.refused] == ["account.concurrent"]
    assert [usage.remaining for usage in decisions[-1].usages] == [23, 1, 6, 60, 0]


def test_the_outage_is_reconciled_in_every_budget(backend: Healing, seconds: list[float]) -> None:
    """Afterwards the backend knows what every budget was charged, and the slots that are still held in each."""
    before = Limiter(backend)
    claimed(before)
    backend.fails = EVERYBODY
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    held = [claimed(limiter) for _ in range(3)]
    claimed(limiter, "other")
    limiter.release(held[0])
    reconciled(guard, backend, seconds)
    during = left(backend)
    for decision in held:
        limiter.release(decision)

    assert {decision.allowed for decision in held} == {True}
    assert during == [96, 7, 35, 350, 4]
    assert left(backend, "other") == [99, 9, 35, 350, 6]
    assert left(backend) == [96, 9, 35, 350, 6]


@pytest.mark.parametrize("outages", [1, 5])
def test_no_budget_is_exceeded(backend: Healing, seconds: list[float], outages: int) -> None:
    """Over several outages of two workers, no budget admits more than what is published, and none is charged twice."""
    guards = [GuardedBackend(backend, expected_workers=2) for _ in range(2)]
    limiters = [Limiter(guard) for guard in guards]
    allowed = 0
    for _ in range(outages):
        backend.fails = EVERYBODY
        for number in range(100):
            decision = claimed(limiters[number % 2], f"key-{number % 5}")
            limiters[number % 2].release(decision)
            allowed += decision.allowed
        for guard in guards:
            reconciled(guard, backend, seconds)

    assert allowed == 40
    assert left(backend)[2:4] == [0, 0]
    assert sum(100 - left(backend, f"key-{number}")[0] for number in range(5)) == 40
    assert claimed(limiters[0], "new").allowed is False


def test_settlements_are_reconciled(backend: Healing, seconds: list[float]) -> None:
    """Local claims are settled locally, before and after their reconciliation, and the backend hears what they cost."""
    backend.fails = EVERYBODY
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    early, late, free = (claimed(limiter, settle=True) for _ in range(3))
    limiter.settle(early, {"tokens": 4})
    limiter.refund(free)
    reconciled(guard, backend, seconds)
    during = left(backend)[::3]
    for _twice in range(2):
        limiter.settle(late, {"tokens": 35})
        limiter.settle(early, {"tokens": 300})
    reconciled(guard, backend, seconds)

    assert during == [98, 386]
    assert left(backend)[::3] == [98, 361]


def test_reset_clears_both(backend: Healing, seconds: list[float]) -> None:
    """A reset of one scope or of all scopes clears what was decided locally and what the backend knows."""
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    for scope in (None, "account"):
        backend.fails = EVERYBODY
        limiter.release(claimed(limiter))
        reconciled(guard, backend, seconds)
        limiter.reset("acme", scope=scope)

        assert left(backend)[2:4] == [40, 400]
        assert left(guard._fallback.local)[2:4] == [40, 400]


@pytest.mark.parametrize("on_outage", ["open", "closed"])
def test_open_and_closed(backend: Healing, on_outage: Any) -> None:
    """With ``open`` a joint claim is allowed and has nothing to release or settle; with ``closed`` it raises."""
    backend.fails = EVERYBODY
    limiter = Limiter(GuardedBackend(backend, on_outage=on_outage))
    if on_outage == "closed":
        with pytest.raises(BackendUnavailable, match="refuses claims"):
            claimed(limiter)
        return
    decision = claimed(limiter)
    limiter.release(decision)
    limiter.settle(decision, {"tokens": 90})
    backend.fails = ()

    assert decision.allowed is True
    assert [usage.limit for usage in decision.usages][2:] == ["account.decade", "account.year", "account.concurrent"]
    assert left(backend) == [100, 10, 40, 400, 8]


def test_a_claim_needs_all_its_servers(backend: Healing, seconds: list[float]) -> None:
    """While the account's server is gone, claims with the account are local and cost no call; the key's own are not."""
    backend.homes = {"acme": "second", "key": "first"}
    backend.fails = ["acme"]
    limiter = Limiter(GuardedBackend(backend))
    jointly = [claimed(limiter) for _ in range(MAX_CONSECUTIVE_FAILURES)]
    calls = backend.calls
    jointly += [claimed(limiter) for _ in range(3)]
    spared = backend.calls - calls
    seconds[0] += 0.25
    alone = [limiter.acquire("key", KEY) for _ in range(2)]
    seconds[0] += 5
    backend.fails = ()
    claimed(limiter)
    healthy = claimed(limiter)

    assert spared == 0
    assert all(decision.plan is not KEY for decision in jointly)
    assert [decision.plan for decision in alone] == [KEY, KEY]
    assert healthy.plan is KEY
    assert limiter.health()["state"] == "ok"


def test_a_probe_is_not_delayed_by_another_server(backend: Healing, seconds: list[float]) -> None:
    """Claims that also need a server without a probe that is due do not use up the probe of the other server."""
    backend.homes = {"acme": "second", "key": "first"}
    backend.fails = ["acme", "key"]
    limiter = Limiter(GuardedBackend(backend))
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        claimed(limiter)
    seconds[0] += 0.25
    # The account's server fails its probe, and so has a longer pause.
    limiter.acquire("acme", ACCOUNT, scope="account")
    backend.fails = ["acme"]
    claimed(limiter)

    assert limiter.acquire("key", KEY).plan is KEY


class Damaged(Healing):
    """The data of the account is corrupt."""

    def acquire_joint(self, claim: Any) -> Decision:
        if any(not isinstance(record, str) for record in claim.records):
            raise StateDamaged("key holds a value that is damaged")
        return super().acquire_joint(claim)


def test_a_damaged_account(seconds: list[float]) -> None:
    """Claims of a damaged account are decided locally, and are not reconciled; other claims go to the backend."""
    backend = Damaged()
    guard = GuardedBackend(backend, expected_workers=2)
    limiter = Limiter(guard)
    decisions = [claimed(limiter, settle=True) for _ in range(6)]
    limiter.settle(decisions[0], {"tokens": 50})
    recorded = guard._fallback.reconciliation.is_pending
    for decision in decisions:
        limiter.release(decision)

    assert [decision.allowed for decision in decisions] == [True] * 4 + [False] * 2
    assert limiter.acquire("key", KEY).plan is KEY
    assert recorded is False
    assert limiter.health()["state"] == "ok"


def test_shares_keep_the_kind_of_a_rate() -> None:
    """A share of a rate keeps its measure, period, anchors, time zone and shadow, and holds the largest claim."""
    month = Rate("month", 900, period="month", anchor_day=15, timezone="Europe/Berlin", measure="tokens", shadow=True)
    tokens = Rate("minute", 100, 60_000, measure="tokens")
    plan = Plan("p", (month, tokens, Rate("second", 90, 1_000)), Concurrency(9, ttl_ms=5_000, max_hold_ms=7))
    shares = Shares(30)
    claim = joint_claim((Budget("s", plan, "x"), Budget("t", Plan.unlimited("none"), "y")), {"tokens": 50, "other": 9})
    share, unlimited = shares.of_claim(claim).shape.plans

    assert share.rates[0] == Rate(
        "month", 50, period="month", anchor_day=15, timezone="Europe/Berlin", measure="tokens", shadow=True
    )
    assert share.rates[1:] == (Rate("minute", 100, 1_800_000, 50, measure="tokens"), Rate("second", 90, 30_000, 3))
    assert share.concurrency == Concurrency(1, ttl_ms=5_000, max_hold_ms=7)
    assert unlimited.is_unlimited is True
    assert shares.of_claim(claim).shape.plans[0] is share
