"""`Decision`: the result of a claim, with its `Usage` for each limit and its `Lease`.

A Decision keeps the raw integers of its moment. Values for people (remaining, waits) are computed from them on demand,
by the same functions for every backend.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from awx_ratelimit.core.budget import Budget, scoped_name
from awx_ratelimit.core.claim import Claim
from awx_ratelimit.core.joint_claim import Charge, JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.usage import RecordState, Usage, usages_of

_log = logging.getLogger("awx_ratelimit")
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__


class Lease(NamedTuple):
    """One slot in use. `id` is unique in its backend. `granted_at_ms` is the time of the backend's clock."""

    id: int
    subject: str
    granted_at_ms: int


class _Decided(NamedTuple):
    subject: str
    plan: Plan
    cost: Any
    decided_at_ms: int
    exceeded: int
    levels: Sequence[int]
    held: int
    lease_id: int
    holder: Any
    slot_wait_ms: int


class Decision(_Decided):
    """The result of one claim. It is true in a condition if the claim is allowed.

    `subject`, `plan` and `cost` belong to the claim. `decided_at_ms` is the time of the decision by the backend's
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
    def has_exceeded(self) -> bool:
        """Whether a limit is exceeded, in shadow or not."""
        return self.exceeded != 0

    @property
    def claim(self) -> Claim:
        """The claim of the first budget."""
        return Claim(self.subject, self.plan, self.cost)

    @property
    def record_plans(self) -> Sequence[Plan]:
        """The plan of each record."""
        return (self.plan,)

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
        state = (self.exceeded, self.levels, self.held, self.slot_wait_ms)
        budget, charge = Budget(self.subject, self.plan), Charge(self.plan, self.cost, None)
        return tuple(usages_of(budget, range(len(self.plan.rates)), charge, state, self.decided_at_ms))

    @property
    def rates(self) -> Mapping[str, Rate]:
        """The Rate of each limit by its name, such as ``account.minute``. Slots have none."""
        return {rate.name: rate for rate in self.plan.rates}

    def __bool__(self) -> bool:
        return self.allowed

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Decision cannot be copied or pickled: a copy would release its slot twice")

    def __repr__(self) -> str:
        answer = "allowed" if self.allowed else f"refused, retry_after_ms={self.retry_after_ms}"
        return f"<Decision {answer}: {self.cost} for {self.subject!r} under {self.plan.name!r}>"


class JointDecision(Decision):
    """The Decision of a JointClaim.

    The fields of a Decision are those of its first budget. Two more follow: the claim, and the state of each record.
    """

    __slots__ = ()

    @property
    def joint_claim(self) -> JointClaim:
        """The claim that was decided."""
        return self[10]  # type: ignore[misc,no-any-return]

    @property
    def states(self) -> Sequence[RecordState]:
        """What the decision found in each record of the claim."""
        return self[11]  # type: ignore[misc,no-any-return]

    @property
    def record_plans(self) -> Sequence[Plan]:
        return [charge.plan for charge in self.joint_claim.shape.charges]

    @property
    def allowed(self) -> bool:
        """Whether every enforced limit of every budget had room."""
        # Every request of several budgets reads it. A loop is faster than any().
        for charge, state in zip(self.joint_claim.shape.charges, self.states, strict=True):
            if state[0] and state[0] & charge.plan.enforced:
                return False
        return True

    @property
    def has_exceeded(self) -> bool:
        return any(state[0] for state in self.states)

    @property
    def usages(self) -> tuple[Usage, ...]:
        """The state of each limit, in the order of the budgets and their plans, the slots of each budget last."""
        claim, usages = self.joint_claim, list[Usage]()
        charges = claim.shape.charges
        for budget, share in zip(claim.budgets, claim.shape.shares, strict=True):
            usages += usages_of(
                budget, share.rates, charges[share.record], self.states[share.record], self.decided_at_ms
            )
        return tuple(usages)

    @property
    def rates(self) -> Mapping[str, Rate]:
        """The Rate of each limit of all budgets by its name, such as ``account.minute``. Slots have none."""
        budgets = self.joint_claim.budgets
        return {scoped_name(each.scope, rate.name): rate for each in budgets for rate in each.plan.rates}


def joint_decision(
    claim: JointClaim, decided_at_ms: int, states: Sequence[RecordState], lease_id: int, holder: Any
) -> JointDecision:
    """The decision of `claim`. For `lease_id` and `holder` see Decision."""
    records, shape, _ = claim
    subject, (exceeded, levels, held, slot_wait_ms) = records[0], states[0]
    if subject.__class__ is not str:
        subject = subject[0]
    return _new(
        JointDecision,
        (
            subject, shape.plans[0], shape.cost, decided_at_ms, exceeded, levels, held, lease_id, holder, slot_wait_ms,
            claim, states,
        ),
    )  # fmt: skip
