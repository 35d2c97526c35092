"""What waits to be sent to a server: claims, and leases to release, to renew and to enter."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from awx_ratelimit.backends.validation import check_joint_claim
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.joint_claim import MAX_BUDGETS, Charge, JointClaim, Shape, Share
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_cache import CostCache
from awx_ratelimit.errors import BackendUnavailable

OfRecord = TypeVar("OfRecord", bound=tuple[Any, ...])
#: In the place of a lease id: the claim gets one when it is sent, together with the others of its batch.
NEW_ID: Final = -1
#: Subject, plan, cost, lease id. The lease id 0 marks a peek; other claims have an id even without slots.
PlainClaim: TypeAlias = tuple[Record, Plan, int, int]


class PendingJoint(NamedTuple):
    """A JointClaim, whose first record is `record`. `lease_id` is as in a PlainClaim.

    `later_ms` is as in Moments. `is_plain`: its Decision is that of a plain claim. `is_part`: its lease is opened when
    all parts of the claim are allowed.
    """

    record: Record
    claim: JointClaim
    later_ms: tuple[int, ...]
    lease_id: int
    is_plain: bool = False
    is_part: bool = False


PendingClaim: TypeAlias = PlainClaim | PendingJoint
#: A lease to release: record, lease id.
ReleasedLease: TypeAlias = tuple[Record, int]
#: A lease to renew: record, plan, lease id, time of the grant.
HeldLease: TypeAlias = tuple[Record, Plan, int, int]
#: What a fallback decided for a record: record, plan, the debt of each rate, and each open lease with its grant time.
HealEntry: TypeAlias = tuple[Record, Plan, Sequence[int], Sequence[tuple[int, int]]]


class OtherPeriod(NamedTuple):
    """A call did nothing, because it lacks the calendar period that contains the server's time.

    With an `at_ms` that is later than `now_ms`, it lacks the period of this stored time. A settlement says of which
    `calendar`, because it drains each debt by the rate that it was charged by.
    """

    now_ms: int
    at_ms: int
    calendar: bytes = b""


#: Tries of a call that lacks a calendar period: for the server's clock, for each stored time, and some again.
MAX_PERIOD_TRIES: Final = 6


def period_error(what: str, server: str) -> BackendUnavailable:
    """The error of a call that was sent MAX_PERIOD_TRIES times."""
    return BackendUnavailable(f"{server}: its clock has left each calendar period that a {what} was sent with")


#: By the id of the plan, which the Shape keeps, and the cost.
_plain_shapes: CostCache[Shape] = CostCache()


def plain_as_joint(subject: Record, plan: Plan, cost: int, lease_id: int) -> PendingJoint:
    """A plain claim of a plan that a plain call cannot carry: with other measures, or calendar periods."""
    shape = _plain_shapes.get((id(plan), cost))
    if shape is None:
        share = Share(0, range(len(plan.rates)))
        shape = Shape((plan,), (None,), cost, (Charge(plan, cost, None),), (share,), bool(plan.slot_bit))
        _plain_shapes.keep((id(plan), cost), shape, cost)
    return PendingJoint(subject, JointClaim((subject,), shape, False), (), lease_id, True)


def checked_joint(claim: JointClaim) -> JointClaim:
    """Return `claim`. Raises TypeError for anything else, and ValueError for too many budgets."""
    check_joint_claim(claim)
    if len(claim.records) > MAX_BUDGETS:
        raise ValueError(f"claim: expected at most {MAX_BUDGETS} records, got {len(claim.records)}")
    return claim


def with_id(claim: PendingClaim, lease_id: int) -> PendingClaim:
    """`claim` with its lease id."""
    if isinstance(claim, PendingJoint):
        return claim._replace(lease_id=lease_id)
    record, plan, cost, _ = claim
    return record, plan, cost, lease_id


def records_of(claim: PendingClaim) -> Sequence[Record]:
    """The records of a claim."""
    return claim.claim.records if isinstance(claim, PendingJoint) else claim[:1]


def plans_of(claim: PendingClaim) -> Iterable[tuple[Record, Plan]]:
    """The records of a claim with their plans."""
    if not isinstance(claim, PendingJoint):
        return (claim[:2],)
    plans = [charge.plan for charge in claim.claim.shape.charges]
    return zip(claim.claim.records, plans, strict=True)


def by_record(items: Iterable[OfRecord]) -> dict[Record, list[OfRecord]]:
    """Group `items`, which begin with their records."""
    groups: dict[Record, list[OfRecord]] = {}
    for item in items:
        groups.setdefault(item[0], []).append(item)
    return groups
