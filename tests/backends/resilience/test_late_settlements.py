"""Settlements during an outage: the backend gets each of them once, as soon as it answers again."""

import asyncio
from typing import Any

import pytest
from tests.backends.resilience.healing import Healing
from tests.backends.resilience.test_joint_outages import EVERYBODY, KEY, claimed, left, reconciled

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Decision, Limiter, MemoryBackend
from awx_ratelimit.backends.resilience import late_settlements
from awx_ratelimit.backends.resilience.circuit_breaker import MAX_CONSECUTIVE_FAILURES
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.core.settlement import ActualCost
from awx_ratelimit.errors import StateDamaged


@pytest.fixture
def backend() -> Healing:
    return Healing()


def outage(backend: Healing, limiter: Limiter) -> None:
    """Let the backend be gone, and the guard know it."""
    backend.fails = EVERYBODY
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        limiter.release(limiter.acquire("another", KEY))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("declared", [False, True])
def test_kept_and_settled_once(backend: Healing, seconds: list[float], *, known: bool, declared: bool) -> None:
    """More, less and nothing reach every budget after the outage; later settlements and other outages add nothing."""
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    more, less, nothing = (claimed(limiter, settle=declared) for _ in range(3))
    backend.fails = EVERYBODY
    if known:
        outage(backend, limiter)
    limiter.settle(more, {"requests": 3, "tokens": 35})
    limiter.settle(less, {"tokens": 4})
    limiter.refund(nothing)
    reconciled(guard, backend, seconds)
    limiter.settle(more, {"tokens": 300})
    outage(backend, limiter)
    limiter.settle(less, {"tokens": 300})
    reconciled(guard, backend, seconds)

    assert left(backend)[::3] == [96, 361]
    assert left(backend)[2] == 36
    assert limiter.health()["lost_settlements"] == 0


def test_closing_in_an_outage(backend: Healing, seconds: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """A guard that closes with settlements that it still keeps logs and counts them, once."""
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    decision = claimed(limiter)
    outage(backend, limiter)
    limiter.settle(decision, {"tokens": 35})
    caplog.clear()
    for _ in range(2):
        guard.close()

    assert caplog.messages == ["the guard was closed during an outage: 1 settlements were lost"]
    assert guard.health()["lost_settlements"] == 1


def test_a_kept_settlement_counts_once(backend: Healing, seconds: list[float]) -> None:
    """The first settlement of a decision counts, though an outage keeps it; later ones do not, then or afterwards."""
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    decision = claimed(limiter)
    outage(backend, limiter)
    local = limiter.acquire("local", KEY)
    actual = {"tokens": 20}

    assert [guard.settle(decision, actual), guard.settle(decision, actual), guard.refund(decision)] == [
        True,
        False,
        False,
    ]
    assert [guard.settle(local, actual), guard.settle(local, actual)] == [True, False]
    reconciled(guard, backend, seconds)
    assert guard.settle(decision, actual) is False


def test_settled_before_the_outage(backend: Healing, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the backend knows what it has settled, an outage keeps no second settlement of that."""
    settled: list[Decision] = []
    monkeypatch.setattr(backend, "can_settle", lambda decision: decision not in settled, raising=False)
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    decision = claimed(limiter)
    assert guard.settle(decision, {"tokens": 20})
    settled.append(decision)
    outage(backend, limiter)

    assert guard.settle(decision, {"tokens": 20}) is False
    assert len(guard._fallback.late) == 0


def test_settlements_do_not_wait_in_an_outage(backend: Healing, seconds: list[float]) -> None:
    """While the circuit breaker is open, a settlement costs no call, and its success would not close it."""
    limiter = Limiter(GuardedBackend(backend))
    decision = claimed(limiter)
    outage(backend, limiter)
    seconds[0] += 1
    calls = backend.calls
    limiter.settle(decision, {"tokens": 20})

    assert backend.calls == calls
    assert limiter.health()["state"] == "outage: limits are local"


def test_failed_settlements_begin_an_outage(backend: Healing) -> None:
    """Settlements that fail open the circuit breaker, so that the next one does not wait."""
    limiter = Limiter(GuardedBackend(backend))
    decisions = [claimed(limiter) for _ in range(MAX_CONSECUTIVE_FAILURES + 1)]
    backend.fails = EVERYBODY
    calls = backend.calls
    for decision in decisions:
        limiter.settle(decision, {"tokens": 20})

    assert backend.calls == calls + MAX_CONSECUTIVE_FAILURES


def test_one_server_does_not_delay_the_others(backend: Healing) -> None:
    """What is kept for a server that is still gone stays, and the settlements of other servers are done."""
    backend.homes = {"a": "first", "b": "second"}
    limiter = Limiter(backend)
    late = late_settlements.LateSettlements(backend.home)
    for subject in "abab":
        late.add(limiter.acquire(subject, KEY, 1), {"requests": 5})
    backend.fails = ["a"]
    calls = backend.calls
    with pytest.raises(BackendUnavailable):
        late.run(backend.settle)
    tried = backend.calls - calls
    backend.fails = ()

    assert len(late) == 2
    assert tried == 3
    late.run(backend.settle)
    assert [limiter.peek(subject, KEY).usages[0].remaining for subject in "ab"] == [90, 90]


def test_what_is_lost_is_counted(backend: Healing, monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    """Beyond the bound, and where a settlement fails for good, the claim keeps its charge, and `health` counts it."""
    monkeypatch.setattr(late_settlements, "MAX_KEPT", 2)
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    decisions = [claimed(limiter) for _ in range(4)]
    outage(backend, limiter)
    for decision in decisions[:3]:
        limiter.settle(decision, {"tokens": 20})
    failures = [StateDamaged("damaged"), ValueError("no")]
    monkeypatch.setattr(backend, "settle", lambda *_: _raise(failures.pop()))
    reconciled(guard, backend, seconds)
    failures.append(StateDamaged("damaged"))
    limiter.settle(decisions[3], {"tokens": 20})

    assert limiter.health()["lost_settlements"] == 4
    assert len(guard._fallback.late) == 0


def _raise(error: Exception) -> None:
    raise error


def test_wrong_settlements_are_not_kept(backend: Healing, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not an outage is the caller's, and nothing is kept."""
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    decision = claimed(limiter)
    monkeypatch.setattr(backend, "settle", lambda *_: _raise(ValueError("wrong")))
    with pytest.raises(ValueError, match="wrong"):
        limiter.settle(decision, {"tokens": 20})

    assert len(guard._fallback.late) == 0


def test_refusals_are_not_kept(backend: Healing) -> None:
    """A refusal and a peek have nothing to settle after an outage."""
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    claimed(limiter)
    refused, looked = limiter.acquire("key", KEY, 100), limiter.peek("key", KEY)
    outage(backend, limiter)
    limiter.settle(refused, 3)
    limiter.settle(looked, 3)

    assert refused.allowed is False
    assert len(guard._fallback.late) == 0


class Hanging(MemoryBackend):
    """An async backend whose settlements do not end."""

    async def acquire(self, *claim: Any) -> Decision:  # type: ignore[override]
        return super().acquire(*claim)

    async def settle(self, decision: Decision, actual: ActualCost) -> bool:  # type: ignore[override]
        await asyncio.sleep(3_600)
        return True


def test_cancelled_settlement_is_kept() -> None:
    """A settlement whose caller is cancelled is sent again later: it may not have arrived."""
    hanging: Any = Hanging()
    guard = AsyncGuardedBackend(hanging, budget_ms=3_600_000)

    async def cancelled() -> None:
        limiter = AsyncLimiter(guard)
        task = asyncio.ensure_future(limiter.settle(await limiter.acquire("s", KEY), 3))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancelled())

    assert len(guard._fallback.late) == 1


def test_backend_that_no_thread_can_settle_in() -> None:
    """An async backend without `settle_late` loses what is kept; the log says which method it lacks."""
    settle = late_settlements.settlement_by_thread(Hanging())

    with pytest.raises(TypeError, match="Hanging: expected a method settle_late"):
        settle(Limiter(MemoryBackend()).acquire("s", KEY), None)
