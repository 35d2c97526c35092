"""`DecisionCounts`: counts decisions by plan, outcome and exceeded limits, and knows the open leases.

Decisions of one kind (the same plan and the same exceeded limits) share a counter, so the hot path increases one.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Shape
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.observability.counters import EventCounter
from awx_ratelimit.observability.listeners import OTHER_PLANS, Listener
from awx_ratelimit.runtime.forks import ForkSafeLock

#: Beyond this number of kinds, further plans share one.
MAX_SERIES: Final = 1_000


class Kind(NamedTuple):
    """Decisions that are counted together. `limits` has the scope, the name and the outcome of each exceeded limit."""

    plan: str
    outcome: str
    limits: tuple[tuple[str, str, str], ...]


class DecisionCounts:
    """Thread-safe. It stores no subjects but those of open leases."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        #: The decisions whose slots are in use.
        self._leases: set[Decision] = set()
        #: By the id of a plan or a shape and the exceeded limits: what counts such decisions.
        self._by_id: dict[int, dict[Any, Callable[[], Any]]] = {}
        #: Called when a lease is released. The method of a set needs no frame.
        self.released: Listener = self._leases.discard
        self.clear()

    def clear(self) -> None:
        """Start at zero, in a child process."""
        self._leases.clear()
        self._by_id.clear()
        #: What the ids belong to: an object that is kept does not give its id to another.
        self._kept: list[Any] = []
        self._kinds: dict[Kind, EventCounter] = {}
        #: The plans whose open leases are reported, even if there are none.
        self._had_leases: set[str] = set()

    def reporter(self, release: Listener) -> Listener:
        """A function that counts a decision. If it is interrupted, it calls `release`, because no caller will."""
        by_id, leases, learn = self._by_id, self._leases, self._learn

        def report(decision: Any) -> None:
            try:
                owner = decision[1]
                exceeded = decision[4]
                if decision.__class__ is not Decision:
                    exceeded = 0
                    # Faster than any().
                    for state in decision[11]:
                        if state[0]:
                            # Shapes may be made for each claim, so they identify refusals only.
                            owner, exceeded = decision[10][1], tuple([state[0] for state in decision[11]])
                            break
                try:
                    by_id[id(owner)][exceeded]()
                except KeyError:
                    learn(owner, exceeded, decision)
                if decision[7]:
                    leases.add(decision)
            except BaseException:
                release(decision)
                raise

        return report

    def outcomes(self) -> Mapping[tuple[str, ...], int]:
        """The number of decisions by plan and outcome."""
        counts: Counter[tuple[str, ...]] = Counter()
        for kind, number in self._numbers():
            counts[kind.plan, kind.outcome] += number
        return counts

    def refusals(self) -> Mapping[tuple[str, ...], int]:
        """How often each limit was exceeded, by plan, scope, limit and outcome (refused or shadow)."""
        counts: Counter[tuple[str, ...]] = Counter()
        for kind, number in self._numbers():
            counts.update({(kind.plan, *limit): number for limit in kind.limits})
        return counts

    def leases(self) -> Mapping[str, int]:
        """The number of open leases by plan."""
        active = Counter(decision.plan.name for decision in _copied(self._leases))
        counts = {plan: active.pop(plan, 0) for plan in [*self._had_leases]}
        return {**counts, OTHER_PLANS: active.total()} if active else counts

    def _numbers(self) -> list[tuple[Kind, int]]:
        with self._lock.current:
            kinds = dict(self._kinds)
        return [(kind, counter.value) for kind, counter in kinds.items()]

    def _learn(self, owner: Plan | Shape, exceeded: Any, decision: Decision) -> None:
        """Count a decision of a new kind. `owner` and `exceeded` identify the kind."""
        kind = _kind_of(decision)
        with self._lock.current:
            if len(self._kinds) >= MAX_SERIES and kind not in self._kinds:
                kind = Kind(OTHER_PLANS, kind.outcome, ())
            counter = self._kinds.setdefault(kind, EventCounter())
            if decision.lease_id and len(self._had_leases) < MAX_SERIES:
                self._had_leases.add(decision.plan.name)
            if len(self._kept) >= MAX_SERIES:
                self._by_id.clear()
                self._kept.clear()
            self._kept.append(owner)
            self._by_id.setdefault(id(owner), {})[exceeded] = counter.add_one
        counter.add_one()


def _kind_of(decision: Decision) -> Kind:
    exceeded = [usage for usage in decision.usages if usage.refused]
    # A share of a guard knows the whole plan.
    outcome = "fallback" if hasattr(decision.plan, "whole") else "allowed"
    if exceeded:
        outcome = "shadow" if decision.allowed else "refused"
    limits = [
        (usage.scope or "", usage.limit.rpartition(".")[2], "shadow" if usage.shadow else "refused")
        for usage in exceeded
    ]
    return Kind(decision.plan.name, outcome, tuple(limits))


def _copied(leases: set[Decision]) -> list[Decision]:
    while True:
        try:
            return list(leases)
        except RuntimeError:
            # Another thread has changed it meanwhile.
            continue
