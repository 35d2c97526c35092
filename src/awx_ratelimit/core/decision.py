"""What is asked and what is answered: `Claim`, and `Decision` with its `Usage` and `Lease`.

A Decision keeps the raw integers of the moment it was made. What a person asks of it (remaining, waits) is derived
when asked, by the same functions for every backend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from awx_ratelimit.core.bucket import time_to_drain_ms, wait_ms
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.core.rates import CONCURRENT, Rate


@dataclass(frozen=True, slots=True)
class Claim:
    """A subject asks for `cost` tokens of every rate of `plan`, and for one slot."""

    subject: str
    plan: Plan
    cost: int = 1


class Usage(NamedTuple):
    """How one limit stands after the decision; tokens for a rate, slots for ``concurrent``.

    `retry_after_ms` is 0 where the limit did not refuse. It is exact for rates and an estimate for slots.
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


class Decision:
    """The answer to one claim. True in a condition exactly when the claim is allowed.

    Units are milliseconds, tokens and slots. It does not change after it was made, but for `holder`, which belongs
    to the backend. Backends make it from the set of limits that would not have held the claim (`over`), the state of
    the rates afterwards (`levels`; see `core.charge` for both) and the slots then in use (`held`).
    """

    __slots__ = (
        "__weakref__",
        "_allowed",
        "_cost",
        "_decided_at_ms",
        "_held",
        "_levels",
        "_over",
        "_plan",
        "_slot_wait_ms",
        "_subject",
        "holder",
        "lease_id",
    )

    def __init__(
        self,
        subject: str,
        plan: Plan,
        cost: int,
        decided_at_ms: int,
        over: int,
        levels: Sequence[int],
        held: int,
        lease_id: int = 0,
        holder: Any = None,
        slot_wait_ms: int = 0,
    ) -> None:
        self._subject = subject
        self._plan = plan
        self._cost = cost
        self._decided_at_ms = decided_at_ms
        self._over = over
        self._levels = levels
        self._held = held
        self.lease_id = lease_id
        self._slot_wait_ms = slot_wait_ms
        self._allowed = not over & plan.enforced
        #: Who takes the slot back: set while the slot is held; only the backend that decided reads and writes it.
        self.holder = holder

    @property
    def allowed(self) -> bool:
        """Whether every limit that is enforced had room."""
        return self._allowed

    @property
    def subject(self) -> str:
        """Whose budget was asked for."""
        return self._subject

    @property
    def plan(self) -> Plan:
        """The plan it was decided by."""
        return self._plan

    @property
    def cost(self) -> int:
        """The tokens that were asked of every rate."""
        return self._cost

    @property
    def claim(self) -> Claim:
        """What was asked."""
        return Claim(self._subject, self._plan, self._cost)

    @property
    def lease(self) -> Lease | None:
        """The slot that came with it; None where it was refused, the plan has no slots, or it was only a peek."""
        return Lease(self.lease_id, self._subject, self._decided_at_ms) if self.lease_id else None

    @property
    def decided_at_ms(self) -> int:
        """When, in milliseconds since the epoch by the backend's clock."""
        return self._decided_at_ms

    @property
    def retry_after_ms(self) -> int:
        """How long to wait before the same claim is allowed; 0 when it was. The longest wait of all that refused."""
        if self._allowed:
            return 0
        return max(usage.retry_after_ms for usage in self.usages if not usage.shadow)

    @property
    def usages(self) -> tuple[Usage, ...]:
        """How each limit stands, in the order of the plan; the slots last."""
        rates = tuple(self._rate_usage(index, rate) for index, rate in enumerate(self._plan.rates))
        return rates if self._plan.concurrency is None else (*rates, self._slot_usage())

    def _rate_usage(self, index: int, rate: Rate) -> Usage:
        debt, since_ms = self._levels[2 * index], self._levels[2 * index + 1]
        refused = bool(self._over >> index & 1)
        return Usage(
            rate.name,
            rate.burst,
            (rate.capacity - debt) // rate.unit,
            wait_ms(rate, debt, since_ms, self._decided_at_ms, self._cost) if refused else 0,
            time_to_drain_ms(rate, debt, since_ms, self._decided_at_ms),
            refused,
            rate.shadow or self._plan.shadow,
        )

    def _slot_usage(self) -> Usage:
        plan = self._plan
        assert plan.concurrency is not None
        refused = bool(self._over >> len(plan.rates) & 1)
        free = max(0, plan.concurrency.slots - self._held)
        shadow = plan.concurrency.shadow or plan.shadow
        return Usage(CONCURRENT, plan.concurrency.slots, free, self._slot_wait_ms if refused else 0, 0, refused, shadow)

    def __bool__(self) -> bool:
        return self._allowed

    def __copy__(self, *_: object) -> NoReturn:
        raise TypeError("a Decision is one grant; a copy of it would give its slot back twice")

    __deepcopy__ = __reduce__ = __copy__

    def __repr__(self) -> str:
        answer = "allowed" if self._allowed else f"refused, retry_after_ms={self.retry_after_ms}"
        return f"<Decision {answer}: {self._cost} for {self._subject!r} under {self._plan.name!r}>"
