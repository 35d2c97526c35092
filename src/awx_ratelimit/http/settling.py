"""What a request has cost in the end: by its status (`charge_on`), and by what the application says.

A budget with `charge_on` is charged before the request and given back after it, unless the response has one of the
statuses. Its rates count a separate measure, so the other limits of the claim keep their charge.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2s
from typing import Any, Final

from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.joint_claim import Cost, Shape, checked_cost, cost_by_measure
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.core.plan_cache import CostCache
from awx_ratelimit.core.rate import REQUESTS, is_counted, is_name
from awx_ratelimit.core.validation import describe, short_repr
from awx_ratelimit.errors import InvalidLimit

Statuses = frozenset[int]
_STATUSES: Final = range(100, 600)
_MAX_HEADER_BYTES: Final = 512
_MAX_DIGITS: Final = 15
_log = logging.getLogger("awx_ratelimit")
_is_logged = False
_is_measure_logged = False


class StatusMeasure(str):
    """The measure of a rate that is charged only if the response has one of `statuses`. It counts what `counted` says.

    Two that are equal count the same.
    """

    __slots__ = ("counted", "statuses")
    counted: str
    statuses: Statuses

    @classmethod
    def of(cls, counted: str, statuses: Statuses) -> "StatusMeasure":
        """The measure that counts `counted` on `statuses`."""
        text = f"{counted} {sorted(statuses)}"
        measure = cls(f"on-status-{blake2s(text.encode(), digest_size=8).hexdigest()}")
        measure.counted, measure.statuses = counted, statuses
        return measure

    def __reduce__(self) -> tuple[Any, ...]:
        return StatusMeasure.of, (self.counted, self.statuses)


def checked_statuses(charge_on: Any) -> Statuses | None:
    """`charge_on` as a set. Raises InvalidLimit unless it is None or a non-empty collection of statuses."""
    if charge_on is None:
        return None
    listed = list(charge_on) if isinstance(charge_on, Iterable) and not isinstance(charge_on, str | bytes) else []
    are_numbers = all(isinstance(status, int) and not isinstance(status, bool) for status in listed)
    if not listed or not are_numbers or not all(status in _STATUSES for status in listed):
        got = short_repr(charge_on) if isinstance(charge_on, Iterable) else describe(charge_on)
        raise InvalidLimit(f"charge_on: expected statuses from 100 to 599 such as {{401, 403}}, got {got}")
    return frozenset(map(int, listed))


@lru_cache(MAX_CACHED_PLANS)
def charged_on(plan: Plan, statuses: Statuses | None) -> Plan:
    """`plan` with rates that are charged only on `statuses`; None: always."""
    if statuses is None:
        return plan
    rates = tuple(replace(rate, measure=StatusMeasure.of(rate.measure, statuses)) for rate in plan.rates)
    return replace(plan, rates=rates, account=None)


def with_statuses(cost: Cost, plans: Iterable[Plan]) -> Cost:
    """`cost` in the measures of `plans` too: what counts on some statuses is charged until the status is known."""
    costs = dict(cost_by_measure(cost))
    for measure in {rate.measure for plan in plans for rate in plan.rates}:
        if isinstance(measure, StatusMeasure) and costs.get(measure.counted):
            costs[measure] = costs[measure.counted]
    return cost if len(costs) == len(cost_by_measure(cost)) else costs


def shown_measure(measure: str) -> str:
    """The measure that clients see."""
    return measure.counted if isinstance(measure, StatusMeasure) else measure


def check_measures(cost: Cost) -> None:
    """Log a measure of `cost` that no limit of this process counts, once: it charges nothing, and may be misspelt."""
    global _is_measure_logged  # noqa: PLW0603  # once in a process
    if isinstance(cost, int) or _is_measure_logged:
        return
    for measure in cost:
        if not is_counted(measure):
            _is_measure_logged = True
            _log.warning("cost: expected measures that a limit counts, got %r, which charges nothing", measure)


def is_declared(decision: Decision | None) -> bool:
    """Whether the claim of `decision` must be settled when its request has ended."""
    return isinstance(decision, JointDecision) and decision.joint_claim.declared


def actual_cost(decision: Decision, status: int | None, noted: Mapping[str, int]) -> Mapping[str, int]:
    """What a request has cost, by measure. `noted` is what the application says.

    Without a `status` what depends on it keeps its charge.
    """
    cost = cost_by_measure(decision.cost)
    actual = {**cost, **noted}
    if status is not None and isinstance(decision, JointDecision):
        for measure in _status_measures(decision.joint_claim.shape):
            actual[measure] = actual.get(measure.counted, 0) if status in measure.statuses else 0
    return actual


#: By the id of the shape, which an entry keeps, so that no other gets its id.
_measures: Final[CostCache[tuple[tuple[StatusMeasure, ...], Shape]]] = CostCache()


def _status_measures(shape: Shape) -> tuple[StatusMeasure, ...]:
    cached = _measures.get(id(shape))
    if cached is not None:
        return cached[0]
    measures = {rate.measure for charge in shape.charges for rate in charge.plan.rates}
    found = tuple(measure for measure in measures if isinstance(measure, StatusMeasure))
    return _measures.keep(id(shape), (found, shape), shape.cost)[0]


def checked_noted(cost: Any) -> dict[str, int]:
    """What an application says that its request has cost, by measure. Raises ValueError for a wrong cost."""
    return dict(cost_by_measure(checked_cost(cost)))


def depends_on_status(decision: Decision) -> bool:
    """Whether a part of the charge of `decision` depends on the status of the response."""
    return isinstance(decision, JointDecision) and bool(_status_measures(decision.joint_claim.shape))


def cost_in(values: Iterable[bytes]) -> dict[str, int]:
    """The cost in the lines of a header ``RateLimit-Cost: tokens=523, requests=2``.

    A malformed header is logged, once in a process, and ignored.
    """
    global _is_logged  # noqa: PLW0603  # once in a process
    cost = _parsed_cost(b",".join(values))
    if cost is not None:
        return cost
    if not _is_logged:
        _is_logged = True
        _log.warning("a malformed RateLimit-Cost is ignored: expected measures with integers, such as tokens=523")
    return {}


def _parsed_cost(value: bytes) -> dict[str, int] | None:
    if len(value) > _MAX_HEADER_BYTES:
        return None
    costs: dict[str, int] = {}
    for item in value.decode("latin-1").split(","):
        measure, _, tokens = item.strip(" \t").partition("=")
        if not is_name(measure) or not (tokens.isascii() and tokens.isdigit()) or len(tokens) > _MAX_DIGITS:
            return None
        costs[measure] = int(tokens)
    return costs


def names_more_than_requests(cost: Cost) -> bool:
    """Whether a cost names another measure than requests, which an application may settle."""
    return any(measure != REQUESTS for measure in cost_by_measure(cost))
