"""The leases of a process, under concurrent use."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

from awx_ratelimit import Concurrency, Decision, Plan
from awx_ratelimit.backends.remote.lease_ids import LeaseIds
from awx_ratelimit.backends.remote.leases import Leases
from awx_ratelimit.backends.remote.pending_claims import NEW_ID
from awx_ratelimit.backends.remote.pending_releases import PendingReleases
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.hold_times import MEASURED_FIRST, MEASURED_ONE_IN

PLAN = Plan("leases", (), Concurrency(10))
_ids = count(1)


def let_others_run() -> None:
    """Yield to other threads, which may happen anywhere."""
    time.sleep(0)


def new_id() -> int:
    lease_id = next(_ids)
    let_others_run()
    return lease_id


class SlowSlots(tuple[Any, ...]):
    """The slots of a lease, which yield to other threads when they are read."""

    __slots__ = ()

    def __iter__(self) -> Any:
        let_others_run()
        return super().__iter__()


@contextmanager
def many(act: Callable[[int], Any]) -> Iterator[Callable[[], bool]]:
    """Four threads act 100 times. The block gets a function that says whether they still run."""
    with ThreadPoolExecutor(4) as threads:
        acting = [threads.submit(lambda: [act(number) for number in range(100)]) for _ in range(4)]
        yield lambda: not all(thread.done() for thread in acting)
    for thread in acting:
        thread.result()


def test_claims_in_flight_are_not_settled() -> None:
    """At any moment, `settled_below` is at most the lowest id in flight."""
    ids = LeaseIds(new_id)
    in_flight: set[int] = set()

    def claim(_: int) -> None:
        first, sent = ids.give([("s", PLAN, 1, NEW_ID), ("s", PLAN, 1, 0), ("t", PLAN, 1, NEW_ID)])
        those = {lease_id for *_, lease_id in sent if lease_id}
        in_flight.update(those)
        let_others_run()
        in_flight.difference_update(those)
        ids.finish(first)

    wrong = []
    with many(claim) as acting:
        while acting():
            let_others_run()
            settled_below = ids.settled_below()
            wrong += [lease_id for lease_id in in_flight.copy() if lease_id < settled_below]
    assert wrong == []


def test_listed_leases_are_complete() -> None:
    """Leases are listed completely while other threads open and close leases."""
    leases = Leases(lambda: 0, lambda: None, lambda _: None)

    def grant(_: int) -> None:
        lease_id = next(_ids)
        kept = leases.grant(SlowSlots((("s", PLAN),)), 7, lease_id)
        let_others_run()
        del kept

    seen = set()
    with many(grant) as acting:
        while acting():
            let_others_run()
            seen |= {(subject, granted_at_ms) for subject, _, _, granted_at_ms in leases.held()}
    assert seen == {("s", 7)}
    assert leases.held() == []


def test_later_hold_times_are_sampled() -> None:
    """All of the first leases are measured, and one in sixteen of the later ones."""
    leases = Leases(count(1).__next__, lambda: None, lambda _: None)
    ids = count(1)
    held = []
    for _ in range(2 * MEASURED_FIRST):
        lease_id = next(ids)
        holder = leases.grant((("s", PLAN),), 0, lease_id)
        held.append(leases.release(Decision("s", PLAN, 1, 0, 0, [], 1, lease_id, holder, 0)))

    measured = [held_ms is not None for held_ms in held]
    assert sum(measured[:MEASURED_FIRST]) == MEASURED_FIRST
    assert sum(measured[MEASURED_FIRST:]) == MEASURED_FIRST // MEASURED_ONE_IN


def test_releases_follow_their_subject() -> None:
    """After subjects have moved, each release is pending for the server of its subject."""
    homes: dict[Record, str] = {"a": "one", "b": "two"}
    releases = PendingReleases(lambda: None, homes.__getitem__)
    releases.add("a", 1)
    releases.add("b", 2)
    before = releases.next(9, "one"), releases.next(9, "two")

    homes["a"] = "two"
    releases.regroup()
    after = releases.next(9, "one"), releases.next(9, "two")
    releases.remove(after[1][1:])
    assert before == ([("a", 1)], [("b", 2)])
    assert after == ([], [("b", 2), ("a", 1)])
    moved: list[tuple[Record, int]] = after[1]
    assert [lease in releases for lease in moved] == [True, False]


def test_a_repeated_release_is_sent_again() -> None:
    """A release that is repeated while the first is in flight stays pending."""
    releases = PendingReleases(lambda: None, lambda _: None)
    releases.add("s", 1)
    first = releases.next(9, None)
    releases.add("s", 1)

    releases.remove(first)

    assert releases.next(9, None) == [("s", 1)]
