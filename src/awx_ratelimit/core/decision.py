"""What is asked and what is answered: `Claim`, and `Decision` with its `Usage` and `Lease`.

A Decision keeps the raw integers of the moment it was made. What a person asks of it (remaining, waits) is derived
when asked, by the same functions for every backend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from awx_ratelimit.core.bucket import time_to_drain_ms, wait_ms
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, Rate, whole_number
from awx_ratelimit.core.validation import check_asked


@dataclass(frozen=True, slots=True)
class Claim:
    """A subject asks for `cost` tokens of every rate of `plan`, and for one slot.

    A cost of 0 asks for the slot alone. Raises TypeError for a subject that is not a non-empty string and for a plan
    that is not a Plan, and InvalidLimit for a cost that is not a whole number.
    """

    subject: str
    plan: Plan
    cost: int = 1

    def __post_init__(self) -> None:
        check_asked(self.subject, self.plan)
        whole_number(self.cost, "cost", least=0)


class Usage(NamedTuple):
    """How one limit stands after the decision; tokens for a rate, slots for ``concurrent``.

    `retry_after_ms` is 0 where the limit did not refuse, and where no waiting would help a cost (a limit in shadow may
    be asked for more than its burst). It is exact for rates and an estimate for slots.
    `reset_after_ms` is when nothing is owed any more; 0 for slots, whose end no clock knows.
    """

    limit: str
    capacity: int
    remaining: int
    retry_after_ms: int
    reset_after_ms: int
    refused: bool
    shadow: bool


class Lease(NamedTuple):
    """One slot in use. `id` is unique among the leases of its backend, `granted_at_ms` that backend's time."""

    id: int
    subject: str
    granted_at_ms: int


class _Decided(NamedTuple):
    subject: str
    plan: Plan
    cost: int
    decided_at_ms: int
    over: int
    levels: Sequence[int]
    held: int
    lease_id: int
    holder: Any
    slot_wait_ms: int


class Decision(_Decided):
    """The answer to one claim. True in a condition exactly when the claim is allowed.

    `subject`, `plan` and `cost` are what was asked, `decided_at_ms` is when, by the backend's clock. The other fields
    are for backends: the limits that would not have held the claim (`over`) and the state of the rates afterwards
    (`levels`; see `core.charge` for both), the slots then in use, the lease, and `holder`, by which a backend knows
    what it may still take back: the slot, and once a refund.

    It is a tuple because nothing else that cannot be changed is made as fast; two decisions are equal only if they
    are the same.
    """

    __slots__ = ()
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    @property
    def allowed(self) -> bool:
        """Whether every limit that is enforced had room."""
        return not self.over & self.plan.enforced

    @property
    def claim(self) -> Claim:
        """What was asked."""
        return Claim(self.subject, self.plan, self.cost)

    @property
    def lease(self) -> Lease | None:
        """The slot that came with it; None where it was refused, the plan has no slots, or it was only a peek."""
        return Lease(self.lease_id, self.subject, self.decided_at_ms) if self.lease_id else None

    @property
    def retry_after_ms(self) -> int:
        """How long to wait before the same claim is allowed; 0 when it was. The longest wait of all that refused."""
        if self.allowed:
            return 0
        return max(usage.retry_after_ms for usage in self.usages if not usage.shadow)

    @property
    def usages(self) -> tuple[Usage, ...]:
        """How each limit stands, in the order of the plan; the slots last."""
        rates = tuple(self._rate_usage(index, rate) for index, rate in enumerate(self.plan.rates))
        return rates if self.plan.concurrency is None else (*rates, self._slot_usage())

    def _rate_usage(self, index: int, rate: Rate) -> Usage:
        debt, since_ms = self.levels[2 * index], self.levels[2 * index + 1]
        refused = bool(self.over >> index & 1)
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
        refused = bool(self.over >> len(plan.rates) & 1)
        free = max(0, plan.concurrency.slots - self.held)
        shadow = plan.concurrency.shadow or plan.shadow
        return Usage(CONCURRENT, plan.concurrency.slots, free, self.slot_wait_ms if refused else 0, 0, refused, shadow)

    def __bool__(self) -> bool:
        return self.allowed

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Decision is one grant; a copy of it would give its slot back twice")

    def __repr__(self) -> str:
        answer = "allowed" if self.allowed else f"refused, retry_after_ms={self.retry_after_ms}"
        return f"<Decision {answer}: {self.cost} for {self.subject!r} under {self.plan.name!r}>"
