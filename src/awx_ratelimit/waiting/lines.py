"""`WaitingLines`: who waits for which limits of a backend, in this process. Thread-safe.

Equal claims (the same records, plans and cost) stand in one line. Only the first of a line claims. `wake` is called
by releases, from finalizers and signal handlers too, so it takes no lock. The other methods take a reentrant one,
because a finalizer can end a wait while its own thread is in one of them.
"""

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final
from weakref import WeakKeyDictionary

from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

#: The largest number of claims that wait for one backend in a process. More are refused at once.
MAX_WAITING: Final = 10_000


class Line:
    """Equal claims that wait, in the order of their arrival."""

    __slots__ = ("key", "places", "records", "refusal")

    def __init__(self, key: Hashable, records: Iterable[Record]) -> None:
        self.key = key
        self.records = tuple(records)
        self.places: list[Place] = []
        #: The latest refusal of the first claim.
        self.refusal: Decision | None = None

    def ahead_of(self, place: "Place") -> int:
        """How many are ahead of `place` now."""
        places = [*self.places]
        return places.index(place) if place in places else 0


class Place:
    """One claim in a line. `wake` ends its sleep; `owner` is its limiter."""

    __slots__ = ("ahead", "line", "owner", "wake", "wants_slot")

    def __init__(self, line: Line, ahead: int, wake: Callable[[], None], owner: Any) -> None:
        self.line = line
        #: How many were ahead when it came.
        self.ahead = ahead
        self.wake = wake
        self.owner = owner
        self.wants_slot = False

    @property
    def is_first(self) -> bool:
        """Whether nobody is ahead now."""
        places = self.line.places
        return not places or places[0] is self


class WaitingLines:
    """All lines for one backend."""

    def __init__(self) -> None:
        #: The lines that wait for each record. It stays the same object, and is empty while nobody waits.
        self.by_record: dict[Record, tuple[Line, ...]] = {}
        self._renew()
        register_after_fork(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._lines: dict[Hashable, Line] = {}
        self._number = 0
        self.by_record.clear()

    def join(
        self, key: Hashable, records: Iterable[Record], wake: Callable[[], None], owner: Any, max_waiting: int
    ) -> tuple[Line, Place | None]:
        """The line of a claim and its place at the end; no place if `max_waiting` claims wait there already."""
        renew_if_forked()
        with self._lock:
            line = self._lines.get(key) or Line(key, records)
            if len(line.places) >= max_waiting or self._number >= MAX_WAITING:
                return line, None
            place = Place(line, len(line.places), wake, owner)
            if not line.places:
                self._lines[key] = line
                for record in line.records:
                    self.by_record[record] = (*self.by_record.get(record, ()), line)
            line.places.append(place)
            self._number += 1
            return line, place

    def leave(self, place: Place) -> None:
        """Give up a place, and wake the next one if it was the first. A second call does nothing."""
        with self._lock:
            line = place.line
            if self._lines.get(line.key) is not line or place not in line.places:
                return
            was_first = line.places[0] is place
            line.places.remove(place)
            self._number -= 1
            if not line.places:
                self._remove(line)
            elif was_first:
                line.places[0].wake()

    def _remove(self, line: Line) -> None:
        del self._lines[line.key]
        for record in line.records:
            left = tuple(each for each in self.by_record[record] if each is not line)
            if left:
                self.by_record[record] = left
            else:
                del self.by_record[record]

    def wake(self, decision: Decision) -> None:
        """`decision` has given its slots back: wake the first of each line that waits for one of them."""
        records = decision.joint_claim.records if isinstance(decision, JointDecision) else (decision.subject,)
        for record in records:
            for line in self.by_record.get(record, ()):
                for place in line.places[:1]:
                    if place.wants_slot:
                        place.wake()

    def wake_all_of(self, owner: Any) -> None:
        """Wake all claims of a limiter, which has closed."""
        with self._lock:
            places = [place for line in self._lines.values() for place in line.places if place.owner is owner]
        for place in places:
            place.wake()

    def __len__(self) -> int:
        return self._number


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
