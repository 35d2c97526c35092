"""`UsageCounts`: counts what subjects use in each hour, until somebody takes the counts to store them.

Nearly every request adds one to a counter, which is one call of C, so that no thread can interrupt it. What is more
than that, such as a refusal, is appended to a list. The thread that fills the list counts what is in it, unless another
thread does. No request waits. Memory is bounded: `dropped` says how many requests were not counted because of that.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.joint_claim import Cost, cost_by_measure
from awx_ratelimit.observability.counters import EventCounter
from awx_ratelimit.observability.listeners import Listener
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.observability.subject_counts import (
    ExceededLimits,
    HourUsage,
    Overruled,
    Settled,
    SubjectCounts,
)
from awx_ratelimit.runtime.forks import ForkSafeLock, register_after_fork

HOUR_MS: Final = 3_600_000
#: How many subjects of an hour are kept until they are taken, and from which number on `wake` is called.
MAX_SUBJECTS: Final = 50_000
MANY_SUBJECTS: Final = 5_000
#: How many decisions may wait while another thread counts.
MAX_UNCOUNTED: Final = 50_000
#: So few that they do not set off the garbage collector, which runs every 700 new objects.
_BATCH: Final = 64
#: `is` is faster than `==`, and nearly every cost is this object.
_ONE: Final = 1
_log = logging.getLogger("awx_ratelimit")


class UsageCounts(Observer):
    """A listener for the limiters of a process. Thread-safe. A child process starts at zero.

    Counts claims whose first budget has no scope and whose subject begins with `prefix` and is one for `is_subject`.
    `start` is called by the first decision of each process, and again until it returns True, and `wake` while there
    are many subjects. Neither may wait or raise.
    """

    def __init__(
        self, prefix: str, is_subject: Callable[[str], Any], *, start: Callable[[], bool], wake: Callable[[], Any]
    ) -> None:
        self._prefix = prefix
        self._is_subject = is_subject
        self._start = start
        self._wake = wake
        self._lock = ForkSafeLock()
        self._uncounted: deque[Any] = deque()
        self._hours: dict[int, dict[str, SubjectCounts]] = {}
        #: In a list: the counts of the hour of the last decision, by subject, and its bounds.
        self._current: list[tuple[dict[str, SubjectCounts], int, int]] = [({}, 0, 0)]
        #: What `take` returns next, and what it has returned since the last `rotate`.
        self._ready: list[tuple[str, int, SubjectCounts]] = []
        self._taken: list[tuple[str, int, SubjectCounts]] = []
        self._exceeded = ExceededLimits()
        self._report = self.reporter(lambda _: None)
        self._empty()
        register_after_fork(self._empty)

    def _empty(self) -> None:
        # As good as full, so that the first decision of the process calls `start`.
        self._uncounted.clear()
        self._uncounted.extend([None] * (_BATCH - 1))
        self._is_started = False
        self._current[0] = {}, 0, 0
        self._hours = {}
        self._ready, self._taken = [], []
        self._dropped = EventCounter()
        self._size = 0

    def __call__(self, decision: Decision) -> None:
        self._report(decision)

    def reporter(self, release: Listener) -> Listener:  # noqa: C901  # see docs/hot-path.md
        """A faster `__call__` for one limiter. If it is interrupted, it calls `release`, because no caller will."""
        current, count_later = self._current, self._count_later

        def report(decision: Any) -> None:  # noqa: C901
            try:
                if decision[2] is _ONE:
                    if decision.__class__ is Decision:
                        is_other = decision[4]
                    else:
                        # Whether the first budget has a scope. Names of fields are slower, and so is any().
                        is_other = decision[10][1][1][0] is not None
                        for state in decision[11]:
                            if state[0]:
                                is_other = True
                    if not is_other:
                        counts_of, begins_ms, ends_ms = current[0]
                        if begins_ms <= (at_ms := decision[3]) < ends_ms:
                            try:
                                counts = counts_of[decision[0]]
                            except KeyError:
                                pass
                            else:
                                counts.add_one()
                                counts.last_at_ms = at_ms
                                if (held := decision[6]) > counts.peak:
                                    counts.peak = held
                                return
                count_later(decision)
            except BaseException:
                release(decision)
                raise

        return report

    def settled(self, decision: Decision, cost: Cost) -> None:
        self._count_later(Settled(decision, cost))

    def overruled(self, decision: Decision, by: Decision) -> None:
        self._count_later(Overruled(decision, by))

    @property
    def dropped(self) -> int:
        """How many requests and corrections were not counted, because there were too many subjects."""
        return self._dropped.value

    @property
    def untaken(self) -> int:
        """How many subjects have counts that were not taken."""
        return self._size + len(self._ready)

    def rotate(self) -> None:
        """Let `take` return everything that was counted until now. May wait for a thread that counts."""
        self._is_started = self._is_started or self._start()
        with self._lock.current:
            # Not until it is empty: other threads may fill it for ever.
            for _ in range(len(self._uncounted) // _BATCH + 1):
                self._count_batch()
            taken, hours = self._taken, self._hours
            self._taken, self._hours, self._size, self._current[0] = [], {}, 0, ({}, 0, 0)
        for subject, begins_ms, counts in taken:
            # A thread may have counted with them while they were taken.
            if late := counts.late():
                self._ready.append((subject, begins_ms, late))
        self._ready += [(subject, at_ms, counts) for at_ms, of in hours.items() for subject, counts in of.items()]

    def take(self, max_subjects: int) -> list[HourUsage]:
        """Return the counts of up to `max_subjects` subjects, and forget them. Only one thread may take and rotate."""
        taken = self._ready[-max_subjects:]
        del self._ready[-max_subjects:]
        self._taken += taken
        return [counts.usage(subject, begins_ms) for subject, begins_ms, counts in taken]

    def _count_later(self, event: Decision | Settled | Overruled) -> None:
        """Append to the list, and count a part of it if it is long. Never waits and never raises an Exception."""
        self._uncounted.append(event)
        if len(self._uncounted) >= _BATCH:
            self._count_some()

    def _count_some(self) -> None:
        """Count a part of the list, unless another thread does."""
        self._is_started = self._is_started or self._start()
        lock = self._lock.current
        attempts = iter(partial(lock.acquire, False), None)
        # See "Taking a lock" in docs/hot-path.md.
        for is_mine in attempts:
            try:
                if is_mine:
                    self._count_batch()
                elif len(self._uncounted) > MAX_UNCOUNTED:
                    self._uncounted.pop()
                    self._dropped.add_one()
            finally:
                if is_mine:
                    lock.release()
            break
        if self._size >= MANY_SUBJECTS:
            self._wake()

    def _count_batch(self) -> None:
        # One at a time, so that an interrupt loses one at most.
        for _ in range(2 * _BATCH):
            if not self._uncounted:
                break
            try:
                self._count(self._uncounted.popleft())
            except Exception:
                _log.exception("the usage of a request cannot be counted")
        if not self._is_started:
            # So that later decisions come here too, and it tries again.
            self._current[0] = {}, 0, 0

    def _count(self, decision: Any) -> None:
        if decision.__class__ is Settled:
            self._count_settled(*decision)
        elif decision.__class__ is Overruled:
            self._count_overruled(*decision)
        elif decision is not None:
            self._count_decision(decision)

    def _count_decision(self, decision: Decision) -> None:
        if (counts := self._counts_of(decision)) is None:
            return
        counts.last_at_ms = max(counts.last_at_ms, decision[3])
        counts.peak = max(counts.peak, decision[6])
        if decision.has_exceeded and self._exceeded.count(decision, counts):
            return
        if decision[2] is _ONE:
            counts.add_one()
        else:
            counts.others += 1
            counts.add_costs(cost_by_measure(decision[2]))

    def _count_settled(self, decision: Decision, cost: Cost) -> None:
        if not decision.allowed or (counts := self._counts_of(decision)) is None:
            return
        claimed = cost_by_measure(decision.cost)
        actual = cost_by_measure(cost).items()
        counts.add_costs({measure: amount - claimed.get(measure, 0) for measure, amount in actual})

    def _count_overruled(self, decision: Decision, by: Decision) -> None:
        if counts := self._counts_of(decision):
            counts.others -= 1
            self._exceeded.count_overruled(decision, by, counts)

    def _counts_of(self, decision: Decision) -> SubjectCounts | None:
        """The counts of the subject of `decision` in its hour; None if it is not counted."""
        subject, at_ms = decision[0], decision[3]
        if not subject.startswith(self._prefix) or not self._is_subject(subject):
            return None
        if isinstance(decision, JointDecision) and decision.joint_claim.shape.scopes[0] is not None:
            return None
        subjects, begins_ms, ends_ms = self._current[0]
        if not begins_ms <= at_ms < ends_ms:
            begins_ms = at_ms - at_ms % HOUR_MS
            subjects = self._hours.setdefault(begins_ms, {})
            self._current[0] = subjects, begins_ms, begins_ms + HOUR_MS
        counts = subjects.get(subject)
        if counts is None:
            if self._size >= MAX_SUBJECTS:
                self._dropped.add_one()
                return None
            counts = subjects[subject] = SubjectCounts()
            self._size += 1
        return counts
