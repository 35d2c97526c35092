"""What was decided without the backend, until the backend knows of it.

Per subject and rate, what is owed of it by then is added to what the backend holds, once, and open leases are entered
there. Where that fails it is tried again, with the very numbers and the same id: it is added once, whatever got lost.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from awx_ratelimit.backends.base import Owed
from awx_ratelimit.backends.memory import MemoryBackend
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
        self._open: dict[int, Decision] = {}
        self._entered: dict[int, Decision] = {}
        self._portions: list[_Portion] = []

    def decided(self, decision: Decision) -> None:
        """A claim was decided without the backend."""
        self._decided[decision.subject] = decision.plan
        if decision.lease_id:
            self._open[decision.lease_id] = decision

    def released(self, decision: Decision) -> Decision | None:
        """A local slot was given back. The lease that was entered for it in the backend, which is to end as well."""
        self._open.pop(decision.lease_id, None)
        return self._entered.pop(decision.lease_id, None)

    @property
    def is_due(self) -> bool:
        """Whether the backend does not know of everything."""
        return bool(self._decided or self._portions)

    def forget(self) -> None:
        """The backend cannot be told."""
        self._decided, self._portions = {}, []

    def heal(self, heal: Heal, end: Callable[[Decision], Any]) -> None:
        """Add everything. Raises what `heal` raises, and then goes on where it stopped when it is called again."""
        while self.is_due:
            if not self._portions:
                decided, self._decided = self._decided, {}
                self._portions = [self._portion(subjects) for subjects in _portioned(decided)]
            while self._portions:
                portion = self._portions[0]
                self._done(portion, heal(portion.owed, portion.heal_id), end)
                del self._portions[0]

    def _portion(self, subjects: "list[tuple[str, Plan]]") -> _Portion:
        opened: list[Decision] = []
        owed: list[Owed] = []
        for subject, share in subjects:
            of_subject = [decision for decision in self._open.copy().values() if decision.subject == subject]
            opened += of_subject
            owed.append(_owed(self._local.peek(subject, share, 1), [d.decided_at_ms for d in of_subject]))
            self._local.reset(subject)
        return _Portion(os.urandom(_ID_BYTES), owed, opened)

    def _done(self, portion: _Portion, entered: Sequence[Decision], end: Callable[[Decision], Any]) -> None:
        for decision, lease in zip(portion.open, entered, strict=True):
            self._entered[decision.lease_id] = lease
            if decision.lease_id not in self._open and self._entered.pop(decision.lease_id, None) is not None:
                # It was given back meanwhile.
                end(lease)


def _owed(now: Decision, granted_at_ms: list[int]) -> Owed:
    """What `now`, a look at a share, owes: in the units of the plan that it is a share of, rounded up."""
    plan = shared_plan(now.plan)
    assert plan is not None
    debts = [
        min(rate.capacity, -(-debt * rate.unit // share.unit))
        for rate, share, debt in zip(plan.rates, now.plan.rates, now.levels[::2], strict=True)
    ]
    return now.subject, plan, debts, granted_at_ms


def _portioned(decided: dict[str, Plan]) -> "Iterable[list[tuple[str, Plan]]]":
    subjects = list(decided.items())
    return (subjects[start : start + _AT_ONCE] for start in range(0, len(subjects), _AT_ONCE))
