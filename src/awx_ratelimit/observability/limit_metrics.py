"""`LimitMetrics`: counts what limiters do. The exporters for Prometheus and OpenTelemetry are built on it.

A decision costs one call, and so does a release. Counts are kept here and read by the exporters; histograms are those
of the exporter's library. Labels are bounded: a family has at most `MAX_SERIES` label sets, and all further plans share
one, ``other plans``.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol
from weakref import WeakSet

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Cost, cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import charges
from awx_ratelimit.observability import families
from awx_ratelimit.observability.counters import EventCounter
from awx_ratelimit.observability.decision_counts import MAX_SERIES, DecisionCounts
from awx_ratelimit.observability.families import Family
from awx_ratelimit.observability.listeners import OTHER_PLANS, Listener
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.runtime.forks import ForkSafeLock, register_after_fork

Labels = tuple[str, ...]
_ACCEPTED: Final = "accepted"
COUNTERS: Final = tuple(family for family in families.FAMILIES if family.kind == "counter")
GAUGES: Final = tuple(family for family in families.FAMILIES if family.kind == "gauge")
_OF_GUARDS: Final = {
    families.OUTAGES: "outages",
    families.LOCAL_DECISIONS: "decisions",
    families.OPEN_BREAKERS: "open_breakers",
}


class Observes(Protocol):
    """One label set of a histogram."""

    def observe(self, amount: float) -> None:
        """Add an observation, in the unit of the family."""


class LimitMetrics(Observer):
    """A listener for the limiters of a process. Thread-safe. A child process starts at zero.

    `histogram` returns the histogram of a family for a label set.
    """

    def __init__(self, histogram: Callable[[Family, Labels], Observes]) -> None:
        self._histogram = histogram
        self._lock = ForkSafeLock()
        self._limiters: WeakSet[Any] = WeakSet()
        self._accepted = EventCounter()
        #: A faster ``verified("accepted")``.
        self.add_accepted = self._accepted.add_one
        self.decisions = DecisionCounts()
        self.released = self.decisions.released  # type: ignore[method-assign,assignment]
        self._renew()
        register_after_fork(self._renew)

    def _renew(self) -> None:
        self.decisions.clear()
        self._accepted_before = self._accepted.value
        self._series: dict[Family, dict[Labels, Any]] = {family: {} for family in families.FAMILIES}
        self._waits_begun, self._waits_ended = EventCounter(), EventCounter()
        #: Durations that are not in their histograms yet: of leases, whose release may come from a finalizer.
        self._ended: deque[tuple[Plan, float]] = deque()

    def __call__(self, decision: Decision) -> None:
        self.reporter(self.released)(decision)

    def reporter(self, release: Listener) -> Listener:
        """A faster `__call__` for one limiter. If it is interrupted, it calls `release`, because no caller will."""
        return self.decisions.reporter(release)

    def held(self, plan: Plan, seconds: float) -> None:
        self._ended.append((plan, seconds))

    def unavailable(self, plan: Plan) -> None:
        self._counter(families.REQUESTS, (plan.name, "unavailable")).add_one()

    def settled(self, decision: Decision, cost: Cost) -> None:
        direction = _direction(_claimed(decision), cost_by_measure(cost))
        self._counter(families.SETTLEMENTS, (decision.plan.name, direction)).add_one()

    def wait_began(self) -> None:
        self._waits_begun.add_one()

    def wait_ended(self, decision: Decision | None, seconds: float) -> None:
        self._waits_ended.add_one()
        if decision is not None:
            outcome = "allowed" if decision.allowed else "refused"
            self._of(families.TIME_IN_QUEUE, (decision.plan.name, outcome)).observe(seconds)

    def watch(self, limiter: Any) -> None:
        self._limiters.add(limiter)
        for backend in _backends_of(limiter):
            if hasattr(backend, "observe"):
                backend.observe(self)

    def called(self, backend: str, seconds: float) -> None:
        self._of(families.BACKEND_DURATION, (backend,)).observe(seconds)

    def verified(self, outcome: str) -> None:
        if outcome == _ACCEPTED:
            self.add_accepted()
            return
        self._counter(families.KEY_VERIFICATIONS, (outcome,)).add_one()

    def counts(self, family: Family) -> Mapping[Labels, int]:
        """The values of a counter or gauge by label set."""
        if family in _OF_GUARDS:
            return {(): sum(getattr(each, _OF_GUARDS[family]) for each in self._outages())}
        if family is families.QUEUED:
            # In this order, so that it is never negative.
            ended = self._waits_ended.value
            return {(): self._waits_begun.value - ended}
        if family is families.ACTIVE_LEASES:
            return {(plan,): count for plan, count in self.decisions.leases().items()}
        with self._lock.current:
            known = dict(self._series[family])
        counts: Counter[Labels] = Counter({labels: counter.value for labels, counter in known.items()})
        if family is families.REQUESTS:
            counts.update(self.decisions.outcomes())
        elif family is families.REFUSALS:
            counts.update(self.decisions.refusals())
        elif family is families.KEY_VERIFICATIONS:
            counts[_ACCEPTED,] = self._accepted.value - self._accepted_before
        return counts

    def observe_ended(self) -> None:
        """Put the durations of leases that have ended into their histograms."""
        with suppress(IndexError):
            while True:
                plan, seconds = self._ended.popleft()
                self._of(families.LEASE_DURATION, (plan.name,)).observe(seconds)

    def _outages(self) -> Iterator[Any]:
        """The counts of each guard among the backends of the limiters that report here."""
        backends = {id(backend): backend for limiter in self._limiters for backend in _backends_of(limiter)}
        return (backend.outage_counts() for backend in backends.values() if hasattr(backend, "outage_counts"))

    def _counter(self, family: Family, labels: Labels) -> EventCounter:
        counter: EventCounter = self._of(family, labels)
        return counter

    def _of(self, family: Family, labels: Labels) -> Any:
        series = self._series[family]
        found = series.get(labels)
        if found is not None:
            return found
        with self._lock.current:
            if len(series) >= MAX_SERIES and labels not in series:
                labels = tuple(OTHER_PLANS if name == "plan" else "" for name in family.labels)
            if labels not in series:
                series[labels] = self._histogram(family, labels) if family.bounds else EventCounter()
            return series[labels]


def _backends_of(limiter: Any) -> Iterator[Any]:
    """The backend of a limiter, and those that it wraps."""
    backend = limiter.backend
    while backend is not None:
        yield backend
        backend = getattr(backend, "backend", None)


def _claimed(decision: Decision) -> Mapping[str, int]:
    """The cost of a claim by measure, in those that only a limit names too: one that depends on a status is charged."""
    charged = {
        rate.measure: charge.tokens(number)
        for _, charge, _ in charges(decision)
        for number, rate in enumerate(charge.plan.rates)
    }
    return {**charged, **cost_by_measure(decision.cost)}


def _direction(claimed: Mapping[str, int], actual: Mapping[str, int]) -> str:
    changes = [cost - claimed.get(measure, 0) for measure, cost in actual.items()]
    if any(change > 0 for change in changes):
        return "more"
    return "less" if any(change < 0 for change in changes) else "same"
