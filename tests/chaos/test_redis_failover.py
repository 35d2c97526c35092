"""A primary that is killed under load: decisions resume in bounded time, and lost leases are taken again.

AWX_CHAOS_SECONDS sets the duration of the load.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.chaos.load import SECONDS, TOKENS, Claim, Load, add_row, charged
from tests.machine import eventually, timed
from tests.redis_groups import HASTY_MS, Service, running_sentinel

from awx_ratelimit import BackendUnavailable, Concurrency, Plan

TIMEOUT_MS = 200
TTL_MS = 3_000
#: Leases are renewed every third of the ttl; the second is for a slow machine.
TAKEN_AGAIN_S = TTL_MS / 3000 + 1.0
HELD = Plan("held", (TOKENS,), Concurrency(10, TTL_MS))
#: The time for the sentinels to declare the primary down, agree, and promote the replica.
BACK_S = 10.0
#: How far replication may lag on a busy machine.
LAG_S = 1.0

pytestmark = pytest.mark.timeout(60 + 2 * SECONDS)


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A Sentinel service that fails over in a second or two."""
    with running_sentinel(tmp_path_factory.mktemp("sentinel"), down_after_ms=HASTY_MS) as service:
        yield service


def test_decisions_resume_after_a_failover(service: Service, open_limiters: Callable[..., dict[str, Any]]) -> None:
    """Decisions in threads and tasks resume by themselves; only claims within the replication lag are lost."""
    limiters = list(open_limiters(service.url, timeout_ms=TIMEOUT_MS).values())
    other = open_limiters(service.url)["threads"]
    load = Load(limiters, ["a", "b", "c"])

    with load.running():
        time.sleep(SECONDS / 3)
        alive_s = time.monotonic()
        os.kill(service.primary.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        resumes = eventually(lambda: _resumes(load, killed_s), expected=True, seconds=BACK_S)
        time.sleep(SECONDS / 3)

    assert resumes, load.claims[-1]
    failed = load.failed()
    outage_s = max(claim.ended_s for claim in failed) - killed_s
    granted, owed = sum(load.granted().values()), sum(charged(other, subject) for subject in "abc")
    # A thread of a busy machine may read the response of the killed primary much later.
    lately = sum(
        not claim.error and claim.began_s < killed_s and claim.ended_s > killed_s - LAG_S for claim in load.claims
    )
    add_row(
        "failover through Sentinel, bare",
        f"claims fail for {outage_s:.2f} s, {len(failed)} of {len(load.claims):,}; {granted:,} granted, "
        f"{owed:,} charged; the slowest claim took {load.slowest_ms():.0f} ms",
        "only writes that the replica did not have are lost; only unanswered claims may be charged twice",
    )
    # Claims without a response may have been charged.
    assert granted - lately <= owed <= granted + len(failed)
    assert outage_s < BACK_S
    assert [claim for claim in failed if claim.ended_s < alive_s and not _is_late(claim, failed)] == []


def _is_late(claim: Claim, failed: list[Claim]) -> bool:
    """Whether the machine was so busy that this claim, or one whose call it shared, took its whole time-out."""
    return any(
        other.took_ms >= TIMEOUT_MS and other.began_s <= claim.ended_s and claim.began_s <= other.ended_s
        for other in failed
    )


def _resumes(load: Load, killed_s: float) -> bool:
    """Whether claims failed after the kill and the last twenty did not."""
    lately = load.claims[-20:]
    return lately[0].began_s > killed_s and not any(claim.error for claim in lately) and bool(load.failed())


@pytest.mark.full
def test_lost_leases_are_taken_again(service: Service, open_limiters: Callable[..., dict[str, Any]]) -> None:
    """Leases that the failover lost are taken again within a third of their ttl; their tokens stay lost."""
    limiters = open_limiters(service.url, timeout_ms=TIMEOUT_MS)
    other = open_limiters(service.url)["threads"]
    kept = [limiter.acquire("s", HELD) for limiter in limiters.values()]
    with service.primary.client() as client:
        # Wait until the replica has everything. WAIT covers only writes of its own client, and what came before them.
        client.set("written", 1)
        client.wait(1, 10_000)

    with _cut_off(service):
        lost = [limiter.acquire("s", HELD) for limiter in limiters.values() for _ in range(3)]
        os.kill(service.primary.pid, signal.SIGKILL)
    back = eventually(lambda: _held(other) >= 0, expected=True, seconds=BACK_S)
    with timed() as watch:
        again = eventually(lambda: _held(other), expected=8, seconds=BACK_S)

    add_row(
        "a failover loses leases",
        f"6 leases of {TTL_MS} ms that the replica did not have were taken again after {watch.seconds:.2f} s",
        "taken again within a third of their ttl, plus a second if the first try fails",
    )
    assert [decision.allowed for decision in kept + lost] == [True] * 8
    assert back is True
    assert again == 8
    assert watch.seconds < watch.limit(TAKEN_AGAIN_S)
    assert charged(other, "s") == 2
    assert [limiter.health()["lost_leases"] for limiter in limiters.values()] == [0, 0]


@contextmanager
def _cut_off(service: Service) -> Iterator[None]:
    """Stop replication for the duration of a block."""
    os.kill(service.replica.pid, signal.SIGSTOP)
    try:
        with service.primary.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        yield
    finally:
        os.kill(service.replica.pid, signal.SIGCONT)


def _held(limiter: Any) -> int:
    """The slots in use; -1 while there is no primary."""
    try:
        return int(limiter.peek("s", HELD).held)
    except BackendUnavailable:
        return -1
