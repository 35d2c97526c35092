"""`WaitingLines`: who waits for which limits of a backend, in this process. Thread-safe.

A claim waits in the line of one bucket: the one that refused it for the longest time, or one in which others are ahead
of it. Lines are in the order of arrival. A claim is decided only if no earlier claim waits for any of its buckets.

`wake` is called by releases, from finalizers and signal handlers too, so it takes no lock. The other methods take a
reentrant one, because a finalizer can end a wait while its own thread is in one of them.
"""

import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from itertools import count
from operator import attrgetter
from typing import Any, Final
from weakref import WeakKeyDictionary

from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.rate import CONCURRENT
from awx_ratelimit.core.waits import Bucket
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

#: The largest number of claims that wait for one backend in a process. More are refused at once.
MAX_WAITING: Final = 10_000
#: A claim that is late, and was woken this long ago, does not run: those behind it go on without it.
TURN_MS: Final = 50
#: A claim whose time has come may be this late. CPython switches threads every 5 ms.
_SWITCH_MS: Final = 10
#: No claim looks at more of those ahead of it, so that a long line costs little.
_MAX_SEEN: Final = 1_000
_number = attrgetter("number")
_next_number = count().__next__


class Queue:
    """A bound for claims that wait together, such as the requests of a rule."""

    __slots__ = ("max_waiting",)

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting


class Place:
    """A claim that waits or may wait: `sleep` is how, `owner` its limiter. `buckets` are those that can refuse it."""

    __slots__ = ("bucket", "buckets", "due_ms", "is_claiming", "number", "owner", "poked_ms", "queues", "sleep")

    def __init__(self, buckets: dict[Bucket, int], sleep: Any, owner: Any, queues: Sequence[Queue]) -> None:
        self.buckets = buckets
        self.sleep = sleep
        self.owner = owner
        self.queues = queues
        #: The order of arrival, in this process.
        self.number = _next_number()
        #: In whose line it stands.
        self.bucket: Bucket | None = None
        #: When it acts next, unless its thread or event loop does not run.
        self.due_ms = 0
        #: When another found it late, and woke it. None: it has acted since.
        self.poked_ms: int | None = None
        self.is_claiming = False

    def is_late(self, now_ms: int, seen_by: "Place") -> bool:
        """Whether it should have acted by now. Not so in the event loop of `seen_by`, which runs."""
        return now_ms > self.due_ms + _SWITCH_MS and (
            self.sleep.loop is None or self.sleep.loop is not seen_by.sleep.loop
        )

    def is_stalled(self, now_ms: int, seen_by: "Place") -> bool:
        """Whether it is late and did not act when it was woken."""
        return self.poked_ms is not None and now_ms >= self.poked_ms + TURN_MS and self.is_late(now_ms, seen_by)

    def give_turn(self) -> None:
        """Wake it: it may have room now."""
        if not self.is_claiming:
            self.due_ms = self.sleep.now_ms()
        self.sleep.wake()


class WaitingLines:
    """All lines for one backend."""

    def __init__(self) -> None:
        #: It stays the same object, and is empty while nobody waits.
        self.by_bucket: dict[Bucket, list[Place]] = {}
        self._renew()
        register_after_fork(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._places: set[Place] = set()
        self._queues: dict[Queue, set[Place]] = {}
        self.by_bucket.clear()

    def ahead_of(self, place: Place, now_ms: int) -> dict[Bucket, list[Place]]:
        """Those who came before `place`, wait for its buckets, and run. Those whose event loop has ended leave."""
        if not self.by_bucket:
            return {}
        renew_if_forked()
        ahead: dict[Bucket, list[Place]] = {}
        with self._lock:
            for bucket in place.buckets:
                line = self.by_bucket.get(bucket, [])
                first = line[: min(bisect_left(line, place.number, key=_number), _MAX_SEEN)]
                others = [
                    each
                    for each in first
                    if not each.sleep.has_ended and (each.poked_ms is None or not each.is_stalled(now_ms, place))
                ]
                if len(others) < len(first):
                    for ended in [each for each in first if each.sleep.has_ended]:
                        self.leave(ended)
                if others:
                    ahead[bucket] = others
        return ahead

    def stand(self, place: Place, bucket: Bucket) -> bool:
        """Let `place` stand in the line of `bucket` only. False, and nothing changes, if too many wait already."""
        renew_if_forked()
        with self._lock:
            if place.bucket == bucket:
                return True
            if place.bucket is None and not self._has_room(place):
                return False
            self._step_out(place)
            self._places.add(place)
            for queue in place.queues:
                self._queues.setdefault(queue, set()).add(place)
            place.bucket = bucket
            line = self.by_bucket.get(bucket, [])
            insort(line, place, key=_number)
            self.by_bucket[bucket] = line
            return True

    def _has_room(self, place: Place) -> bool:
        full = any(len(self._queues.get(queue, ())) >= queue.max_waiting for queue in place.queues)
        return not full and len(self._places) < MAX_WAITING

    def leave(self, place: Place) -> None:
        """Give up a place, and wake the next one. Nothing happens if it stands nowhere."""
        with self._lock:
            self._step_out(place)
            self._places.discard(place)
            for queue in place.queues:
                members = self._queues.get(queue, set())
                members.discard(place)
                if not members:
                    self._queues.pop(queue, None)

    def _step_out(self, place: Place) -> None:
        bucket = place.bucket
        if bucket is None:
            return
        line = self.by_bucket.get(bucket, [])
        at = bisect_left(line, place.number, key=_number)
        was_there = line[at : at + 1] == [place]
        if was_there:
            del line[at]
        if not line:
            self.by_bucket.pop(bucket, None)
        # Last, so that a step that is interrupted can be done again.
        place.bucket = None
        if was_there and at < len(line):
            line[at].give_turn()

    def poke(self, places: Iterable[Place], now_ms: int) -> None:
        """Wake those that are late. One whose event loop has ended loses its place."""
        for place in places:
            if place.poked_ms is None:
                place.poked_ms = now_ms
                place.sleep.wake()
            if place.sleep.has_ended:
                self.leave(place)

    def wake(self, decision: Decision) -> None:
        """`decision` has given its slots back: wake the first that waits for one of them, and the one to watch it."""
        records = decision.joint_claim.records if isinstance(decision, JointDecision) else (decision.subject,)
        for record in records:
            has_turn = False
            for place in [*self.by_bucket.get((record, CONCURRENT), ())]:
                if has_turn:
                    place.sleep.wake()
                    break
                place.give_turn()
                has_turn = place.poked_ms is None and not place.sleep.has_ended

    def wake_all_of(self, owner: Any) -> None:
        """Wake all claims of a limiter, which has closed."""
        with self._lock:
            places = [place for place in self._places if place.owner is owner]
        for place in places:
            place.sleep.wake()

    def __len__(self) -> int:
        return len(self._places)


_LINES: "WeakKeyDictionary[Any, WaitingLines]" = WeakKeyDictionary()
_lock = threading.Lock()


def lines_of(backend: Any) -> WaitingLines:
    """The lines of a backend, which all its limiters share."""
    with _lock:
        try:
            lines = _LINES.get(backend)
            if lines is None:
                lines = _LINES[backend] = WaitingLines()
        except TypeError:
            # It can be neither hashed nor referenced weakly.
            lines = WaitingLines()
        return lines
