"""What each subject has used, on a server or in a process, and what was admitted."""

from collections.abc import Iterable

from awx_ratelimit.core.bucket import drained
from awx_ratelimit.core.rate import Rate


class Buckets:
    """The debt of each subject under one rate, by the arithmetic of the core."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self.states: dict[int, tuple[int, int]] = {}

    def charge(self, subject: int, now_s: float) -> int:
        """Charge a claim and return 0, or return how many milliseconds it has to wait."""
        rate, now_ms = self._rate, int(now_s * 1000)
        debt = self.debt(subject, now_ms)
        excess = debt + rate.unit - rate.capacity
        if excess > 0:
            return -(-excess // rate.drain)
        self.states[subject] = debt + rate.unit, now_ms
        return 0

    def debt(self, subject: int, now_ms: int) -> int:
        """What the subject owes now."""
        state = self.states.get(subject)
        return drained(self._rate, *state, now_ms)[0] if state else 0

    def add(self, owed: Iterable[tuple[int, int]], now_s: float) -> None:
        """Add debts of an outage. No subject owes more than the capacity."""
        now_ms = int(now_s * 1000)
        for subject, debt in owed:
            self.states[subject] = min(self._rate.capacity, self.debt(subject, now_ms) + debt), now_ms


class Admitted:
    """The times at which claims of the `watched` subjects were admitted."""

    def __init__(self, watched: frozenset[int]) -> None:
        self._times_s: dict[int, list[float]] = {subject: [] for subject in watched}

    def note(self, subject: int, now_s: float) -> None:
        """A claim of `subject` was admitted."""
        if subject in self._times_s:
            self._times_s[subject].append(now_s)

    def over(self, subject: int, rate: Rate) -> float:
        """By how many claims the worst interval exceeds the burst and what refills in that interval; 0 if none does."""
        worst, debt, before_s = 0.0, 0.0, 0.0
        a_second = rate.tokens * 1000 / rate.period_ms
        for now_s in sorted(self._times_s[subject]):
            # The debt of a bucket without a bottom: its largest value belongs to the worst interval.
            debt = max(0.0, debt - (now_s - before_s) * a_second) + 1
            worst, before_s = max(worst, debt - rate.burst), now_s
        return worst

    def number(self, subject: int) -> int:
        """How many were admitted."""
        return len(self._times_s[subject])
