"""`Decision`: the result of a claim, with its `Usage` for each limit and its `Lease`.

A Decision keeps the raw integers of its moment. Values for people (remaining, waits) are computed from them on demand,
by the same functions for every backend. The wait for a slot is an estimate from the recent hold times of the plan, by
Little's law: with `slots` in use and a mean hold time of h, a slot becomes free every ``h / slots`` (J. D. C. Little,
1961).
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from awx_ratelimit.core.bucket import time_to_drain_ms, wait_ms
from awx_ratelimit.core.claim import Claim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, Rate

_log = logging.getLogger("awx_ratelimit")
_MIN_MS = 1_000
_MAX_MS = 30_000
_RECENT = 32
#: Measure every lease below this lease id, then one in `MEASURED_ONE_IN`: reading a clock costs as much as a slot.
MEASURED_FIRST = 256
MEASURED_ONE_IN = 16


class Usage(NamedTuple):
    """The state of one limit after a decision, in tokens for a rate and in slots for ``concurrent``.

    `retry_after_ms` is exact for rates and an estimate for slots. It is 0 if the limit did not refuse, and if no wait
    can help, because the cost is above the burst of a limit in shadow.
    `reset_after_ms` is the time until the limit is full again. It is 0 for slots: their end is unknown.
    """

    limit: str
    capacity: int
    remaining: int
    retry_after_ms: int
    reset_after_ms: int
    refused: bool
    shadow: bool


class Lease(NamedTuple):
    """One slot in use. `id` is unique in its backend. `granted_at_ms` is the time of the backend's clock."""

    id: int
    subject: str
    granted_at_ms: int


class _Decided(NamedTuple):
    subject: str
    plan: Plan
    cost: int
    decided_at_ms: int
    exceeded: int
    levels: Sequence[int]
    held: int
    lease_id: int
    holder: Any
    slot_wait_ms: int


class Decision(_Decided):
    """The result of one claim. It is true in a condition if the claim is allowed.

    `subject`, `plan` and `cost` are those of the claim. `decided_at_ms` is the time of the decision by the backend's
    clock. The other fields are for backends. `exceeded` and `levels` are the result of `core.decide.decide`. `held` is
    the number of slots in use. `lease_id` is 0 without a lease. `holder` is private to the backend, which uses it for
    `release` and `refund`. `slot_wait_ms` is the estimated wait for a slot.

    A Decision is a tuple because no other immutable object is as fast to create (see docs/hot-path.md). Two decisions
    are equal only if they are the same object.
    """

    __slots__ = ()
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    @property
    def allowed(self) -> bool:
        """Whether every enforced limit had room."""
        return not self.exceeded & self.plan.enforced

    @property
    def claim(self) -> Claim:
        """The claim that was decided."""
        return Claim(self.subject, self.plan, self.cost)

    @property
    def lease(self) -> Lease | None:
        """The granted slot; None for a refusal, a peek, and a plan without slots."""
        return Lease(self.lease_id, self.subject, self.decided_at_ms) if self.lease_id else None

    @property
    def retry_after_ms(self) -> int:
        """The wait until the same claim is allowed: the longest of all limits that refused. 0 if it was allowed."""
        if self.allowed:
            return 0
        return max(usage.retry_after_ms for usage in self.usages if not usage.shadow)

    @property
    def usages(self) -> tuple[Usage, ...]:
        """The state of each limit, in the order of the plan, the slots last."""
        rates = tuple(self._rate_usage(index, rate) for index, rate in enumerate(self.plan.rates))
        return rates if self.plan.concurrency is None else (*rates, self._slot_usage())

    def _rate_usage(self, index: int, rate: Rate) -> Usage:
        debt, since_ms = self.levels[2 * index], self.levels[2 * index + 1]
        refused = bool(self.exceeded >> index & 1)
        return Usage(
            rate.name,
            rate.burst,
            (rate.capacity - debt) // rate.unit,
            wait_ms(rate, debt, since_ms, self.decided_at_ms, self.cost) if refused and self.cost <= rate.burst else 0,
            time_to_drain_ms(rate, debt, since_ms, self.decided_at_ms),
            refused,
            rate.shadow or self.plan.shadow,
        )

    def _slot_usage(self) -> Usage:
        plan = self.plan
        assert plan.concurrency is not None
        refused = bool(self.exceeded >> len(plan.rates) & 1)
        free = max(0, plan.concurrency.slots - self.held)
        shadow = plan.concurrency.shadow or plan.shadow
        return Usage(CONCURRENT, plan.concurrency.slots, free, self.slot_wait_ms if refused else 0, 0, refused, shadow)

    def __bool__(self) -> bool:
        return self.allowed

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Decision cannot be copied or pickled: a copy would release its slot twice")

    def __repr__(self) -> str:
        answer = "allowed" if self.allowed else f"refused, retry_after_ms={self.retry_after_ms}"
        return f"<Decision {answer}: {self.cost} for {self.subject!r} under {self.plan.name!r}>"


class HoldTimes:
    """How long recent leases of each plan were held. Thread-safe; a race loses at most one measurement."""

    __slots__ = ("_held_ms",)

    def __init__(self) -> None:
        self._held_ms: dict[str, deque[int]] = {}

    def record(self, plan: Plan, held_ms: int) -> None:
        """Add the hold time of one lease of `plan`."""
        recent = self._held_ms.get(plan.name)
        if recent is None:
            recent = self._held_ms.setdefault(plan.name, deque(maxlen=_RECENT))
        recent.append(max(0, held_ms))

    def measure(self, decision: Decision, lease_number: int, now_ms: Callable[[], int]) -> int:
        """Add the hold time of a lease that ends now. Returns the bits that the id of a measured lease must not have.

        Never raises, not even if the user's clock does: a release calls it.
        """
        try:
            self.record(decision.plan, now_ms() - decision.decided_at_ms)
        except Exception:
            _log.exception("the clock of a backend failed")
        return MEASURED_ONE_IN - 1 if lease_number >= MEASURED_FIRST else 0

    def slot_wait_ms(self, plan: Plan) -> int:
        """The estimated wait for a slot of `plan`, from 1 to 30 s; 1 s without any measurement."""
        recent = tuple(self._held_ms.get(plan.name, ()))
        if not recent:
            return _MIN_MS
        return min(_MAX_MS, max(_MIN_MS, sum(recent) // (len(recent) * plan.slots)))
