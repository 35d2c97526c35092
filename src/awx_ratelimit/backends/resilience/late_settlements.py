"""Keeps settlements that a backend did not take during an outage, and settles these decisions afterwards.

Only decisions of the backend are kept here: local ones are settled locally. A settlement that was sent may have arrived
all the same. The backend settles each decision once, so it can be sent again.
"""

import logging
from collections.abc import Callable, Hashable
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

from awx_ratelimit.backends.base import SettlesLate
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.settlement import ActualCost, charges
from awx_ratelimit.errors import BackendUnavailable, StateDamaged

_log = logging.getLogger("awx_ratelimit")
#: These are the claims that were in flight when an outage began.
MAX_KEPT = 10_000
#: Settles a decision, from a thread. Raises BackendUnavailable.
Settle: TypeAlias = Callable[[Decision, ActualCost], object]


class LateSettlements:
    """Any thread may call `add`; one thread at a time may call `run`. `home` is as in Reconciliation."""

    def __init__(
        self, home: Callable[[Record], Hashable], can_settle: Callable[[Decision], bool] | None = None
    ) -> None:
        self._home = home
        self._can_settle = can_settle or _has_holder
        #: By the id of the decision, which it keeps.
        self._kept: dict[int, tuple[Decision, ActualCost]] = {}
        #: The number of decisions that keep their charge because their settlement was lost.
        self.lost = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, decision: Decision) -> bool:
        return id(decision) in self._kept

    def add(self, decision: Decision, actual: ActualCost, damaged: StateDamaged | None = None) -> bool:
        """Keep a settlement; count it as lost if its record is `damaged`, or if there are too many.

        Returns whether it is kept. The first settlement of a decision is, and later ones are not.
        """
        if damaged:
            self._lose(damaged)
        elif not self._can_settle(decision):
            return False
        elif len(self._kept) >= MAX_KEPT:
            self.lost += 1
        else:
            kept = decision, actual
            return self._kept.setdefault(id(decision), kept) is kept
        return False

    def run(self, settle: Settle) -> None:
        """Settle everything that was kept.

        What fails stays for the next run. Raises BackendUnavailable after the other parts of the backend were tried.
        """
        failed: dict[Hashable, BackendUnavailable] = {}
        # It stays here until it is done: a later settlement of the decision does not count.
        for key, kept in self._kept.copy().items():
            homes = {self._home(record) for record, _, _ in charges(kept[0])}
            error = next((failed[home] for home in homes if home in failed), None) or self._try(settle, *kept)
            if error is not None:
                failed.update(dict.fromkeys(homes, error))
            else:
                self._kept.pop(key, None)
        if failed:
            raise failed.popitem()[1]

    def drop(self) -> None:
        """Count what is still kept as lost: the guard closes."""
        number = len(self._kept)
        if number:
            self._kept.clear()
            self.lost += number
            _log.error("the guard was closed during an outage: %d settlements were lost", number)

    def _try(self, settle: Settle, decision: Decision, actual: ActualCost) -> BackendUnavailable | None:
        try:
            settle(decision, actual)
        except BackendUnavailable as error:
            if not isinstance(error, StateDamaged):
                # Its traceback would hold this frame, which holds the error.
                return error.with_traceback(None)
            self._lose(error)
        except Exception as error:
            self._lose(error)
        return None

    def _lose(self, error: Exception) -> None:
        self.lost += 1
        _log.error("a claim keeps its charge, because it cannot be settled: %s", error)


def _has_holder(decision: Decision) -> bool:
    """Whether the backend may have granted `decision`."""
    return decision.holder is not None


def settlement_by_thread(backend: Any) -> Settle:
    """How a thread settles decisions in `backend`."""
    if isinstance(backend, SettlesLate):
        return backend.settle_late
    if not iscoroutinefunction(backend.settle):
        return backend.settle  # type: ignore[no-any-return]

    def refuse(_: Decision, __: ActualCost) -> None:
        raise TypeError(f"{type(backend).__name__}: expected a method settle_late, as in backends.base.SettlesLate")

    return refuse
