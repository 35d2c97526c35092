"""What was decided without the backend, until the backend knows of it.

Per subject and rate, what is owed of it by then is added to what the backend holds, once, and open leases are entered
there. Where that fails it is tried again, with the very numbers and the same id: it is added once, whatever got lost.
Locally it stays owed until it has drained, so that many outages in a row let no more through than one.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from awx_ratelimit.backends.base import Owed
from awx_ratelimit.backends.memory import MemoryBackend
from awx_ratelimit.core.charge import uncharged
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.wrappers._local import shared_plan

_AT_ONCE = 64
_ID_BYTES = 8
#: Adds what is owed, and returns the lease that was entered for each that is open. Raises BackendUnavailable.
Heal = Callable[[Sequence[Owed], bytes], Sequence[Decision]]


class _Portion(NamedTuple):
    """What is added in one call, and the local decisions whose leases are in it, in order."""

    heal_id: bytes
    owed: list[Owed]
    open: list[Decision]


class Healing:
    """Used by any thread for what was decided, and by one at a time for `heal`."""

    def __init__(self, local: MemoryBackend) -> None:
        self._local = local
        self._decided: dict[str, Plan] = {}
        #: What was owed locally when the backend was told of it last.
        self._told: dict[str, Decision] = {}
        self._open: dict[int, Decision] = {}
        self._entered: dict[int, Decision] = {}
        self._portions: list[_Portion] = []

    def acquire(self, subject: str, share: Plan, cost: int) -> Decision:
        """Decide a claim without the backend."""
        decision = self._local.acquire(subject, share, cost)
        if decision.lease_id:
            self._open[decision.lease_id] = decision
        # At last: whoever takes it from there finds what was charged.
        self._decided[subject] = share
        return decision

    def released(self, decision: Decision) -> Decision | None:
        """A local slot was given back. The lease that was entered for it in the backend, which is to end as well."""
        self._open.pop(decision.lease_id, None)
        return self._entered.pop(decision.lease_id, None)

    def reset(self, subject: str) -> None:
        """Forget what `subject` owes locally."""
        self._local.reset(subject)
        self._told.pop(subject, None)

    def _forget_drained(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        for subject, told in self._told.copy().items():
            if not any(_left(told, now_ms)):
                self._told.pop(subject, None)

    @property
    def is_due(self) -> bool:
        """Whether the backend does not know of everything."""
        return bool(self._decided or self._portions)

    def forget(self) -> None:
        """The backend cannot be told."""
        self._decided.clear()
        self._portions = []

    def heal(self, heal: Heal, end: Callable[[Decision], Any]) -> None:
        """Add everything. Raises what `heal` raises, and then goes on where it stopped when it is called again."""
        self._forget_drained()
        while self.is_due:
            if not self._portions:
                self._portions = [self._portion(subjects) for subjects in _portioned(self._taken())]
            while self._portions:
                portion = self._portions[0]
                self._done(portion, heal(portion.owed, portion.heal_id), end)
                del self._portions[0]

    def _taken(self) -> "list[tuple[str, Plan]]":
        """What was decided since: no step in between loses what is decided meanwhile."""
        taken = []
        with suppress(KeyError):
            while True:
                taken.append(self._decided.popitem())
        return taken

    def _portion(self, subjects: "list[tuple[str, Plan]]") -> _Portion:
        opened: list[Decision] = []
        owed: list[Owed] = []
        open_now = list(self._open.copy().items())
        for subject, share in subjects:
            of_subject = [d for key, d in open_now if d.subject == subject and key not in self._entered]
            opened += of_subject
            now, told = self._local.peek(subject, share, 1), self._told.get(subject)
            owed.append(_owed(now, told, [d.decided_at_ms for d in of_subject]))
            self._told[subject] = now
        return _Portion(os.urandom(_ID_BYTES), owed, opened)

    def _done(self, portion: _Portion, entered: Sequence[Decision], end: Callable[[Decision], Any]) -> None:
        for decision, lease in zip(portion.open, entered, strict=True):
            self._entered[decision.lease_id] = lease
            if decision.lease_id not in self._open and self._entered.pop(decision.lease_id, None) is not None:
                # It was given back meanwhile.
                end(lease)


def _left(told: Decision, now_ms: int) -> Sequence[int]:
    """What is still owed of what the backend was told of."""
    _, levels = uncharged(told.plan, told.levels, told.held, 1, now_ms)
    return levels[::2]


def _owed(now: Decision, told: Decision | None, granted_at_ms: list[int]) -> Owed:
    """What `now`, a look at a share, owes that the backend was not told of: in units of the plan shared, rounded up."""
    plan = shared_plan(now.plan)
    assert plan is not None
    known = _left(told, now.decided_at_ms) if told is not None and told.plan is now.plan else [0] * len(plan.rates)
    debts = [
        min(rate.capacity, -(-max(0, debt - left) * rate.unit // share.unit))
        for rate, share, debt, left in zip(plan.rates, now.plan.rates, now.levels[::2], known, strict=True)
    ]
    return now.subject, plan, debts, granted_at_ms


def _portioned(subjects: "list[tuple[str, Plan]]") -> "Iterable[list[tuple[str, Plan]]]":
    return (subjects[start : start + _AT_ONCE] for start in range(0, len(subjects), _AT_ONCE))
