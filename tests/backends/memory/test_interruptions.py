"""Signal handlers that raise while claims are decided, released and settled in memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.backends.memory.claims import CLAIMS, PAIR, acquire, acquire_joint, joint, owed
from tests.interruptions import every_interruption

from awx_ratelimit import Decision, MemoryBackend
from awx_ratelimit.backends.base import Backend
from awx_ratelimit.testing import ManualClock


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("is_known", [False, True], ids=["new subjects", "known subjects"])
def test_interrupted_claim(claim: Callable[[Backend], Decision], is_known: bool) -> None:
    """An exception anywhere in a claim leaves nothing charged, no slot taken and no lock, or the claim is decided."""
    for interruption in every_interruption(at_instructions=True):
        backend = MemoryBackend(clock=ManualClock(1_000))
        if is_known:
            for plan in (acquire(PAIR), acquire_joint(joint(4))):
                backend.release(plan(backend))
        before = owed(backend)
        decisions: list[Decision] = []
        with interruption.raising():
            decisions.append(claim(backend))
        for decision in decisions:
            backend.release(decision)
            backend.refund(decision)

        assert backend.health()["leases"] == 0, interruption.number
        assert owed(backend) == before, interruption.number
        assert not any(state.open for shard in backend._shards for state in shard.states.values())
        assert not any(shard.lock.locked() for shard in backend._shards)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_interrupted_release(claim: Callable[[Backend], Decision]) -> None:
    """An exception in a release leaves all slots of the lease free, or all taken; the next release frees them."""
    for interruption in every_interruption(at_instructions=True):
        backend = MemoryBackend(clock=ManualClock(1_000))
        decision = claim(backend)
        taken = backend.health()["leases"]
        with interruption.raising():
            backend.release(decision)

        assert backend.health()["leases"] in (0, taken), interruption.number
        backend.release(decision)
        assert backend.health()["leases"] == 0


@pytest.mark.parametrize("actual", [0, 5])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_interrupted_settlement(claim: Callable[[Backend], Decision], actual: int) -> None:
    """An exception in a settlement leaves all budgets settled or none, and then it can be repeated."""
    settled = None
    for interruption in every_interruption(at_instructions=True):
        backend = MemoryBackend(clock=ManualClock(1_000))
        decision = claim(backend)
        before = owed(backend)
        if settled is None:
            whole = MemoryBackend(clock=ManualClock(1_000))
            whole.settle(claim(whole), {"requests": actual, "tokens": actual})
            settled = owed(whole)
        with interruption.raising():
            backend.settle(decision, {"requests": actual, "tokens": actual})

        assert owed(backend) in (before, settled), interruption.number
        backend.settle(decision, {"requests": actual, "tokens": actual})
        assert owed(backend) == settled, interruption.number


def test_alarms() -> None:
    """After exceptions from real signal handlers in claims, releases and refunds, nothing is taken or charged."""
    command = [sys.executable, "-m", "tests.backends.memory.alarmed"]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr
    left = json.loads(ended.stdout)
    assert [name for name, remains in left.items() if remains != [0, 0]] == []
    assert set(left) > set(CLAIMS)
