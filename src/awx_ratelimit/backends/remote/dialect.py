"""What a kind of server must know, so that everything else of its backend is the same: calls, and connections."""

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, TypeAlias

from awx_ratelimit.backends.remote.encoding import Moments
from awx_ratelimit.backends.remote.pending_claims import (
    HealEntry,
    HeldLease,
    OtherPeriod,
    PendingJoint,
    PlainClaim,
    ReleasedLease,
)
from awx_ratelimit.backends.remote.replies import Call, Redirect, Reply
from awx_ratelimit.backends.remote.routing import Connection, Route, Server
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import Correction
from awx_ratelimit.errors import BackendUnavailable

#: Called for each admitted claim with the claim, the time of the decision, and the lease id (0 if it took no slot).
#: Returns the holder of the Decision.
OnGrant: TypeAlias = Callable[[PlainClaim, int, int], object]
#: Called for each admitted claim with the claim, the time of the decision, the lease id (0 if it took no slot), and the
#: records in which it took slots with their plans. Returns the holder of the Decision.
OnJointGrant: TypeAlias = Callable[[PendingJoint, int, int, tuple[tuple[Record, Plan], ...]], object]
#: What a settlement changes: the record, and the limits whose charges change.
Settlement: TypeAlias = tuple[Record, Sequence[Correction]]


class Renewal(IntEnum):
    """The result of renewing a lease. A lost lease is taken again if a slot is free; `max_hold_ms` ends a lease.

    A lease whose record is busy was not renewed, and is renewed next time.
    """

    LOST = 0
    RENEWED = 1
    TAKEN_AGAIN = 2
    ENDED = 3
    BUSY = 4


class Codec(Protocol):
    """Encodes and decodes for one owner of leases, which is one process. Any thread may use it."""

    #: Returns an unused lease id. A claim gets its id before it is first sent and keeps it for each retry.
    new_lease_id: Callable[[], int]
    #: Whether `joint.acquire` also takes plain claims that were made joint ones, so that a mixed batch is one call.
    joins_plain: bool

    @property
    def joint(self) -> "JointCodec":
        """For joint claims and settlements."""

    def key(self, record: Record) -> bytes:
        """The key of a record. Raises ValueError for a record that cannot have one."""

    def slot(self, record: Record) -> int:
        """Records with the same slot can share a call."""

    def is_plain(self, plan: Plan) -> bool:
        """Whether `acquire` takes claims of `plan`. Raises InvalidLimit for a plan that this server cannot decide."""

    def check(self, charges: Sequence[Charge]) -> None:
        """Raise InvalidLimit for a charge that this server cannot decide."""

    def acquire(
        self, claims: Sequence[PlainClaim], released: Sequence[ReleasedLease] = (), now_ms: int | None = None
    ) -> Call:
        """Release the leases in `released`, then decide `claims`, in the given order and in one atomic step."""

    def parse_decisions(
        self, claims: Iterable[PlainClaim], reply: Any, hold_times: HoldTimes, on_grant: OnGrant
    ) -> list[Decision | BackendUnavailable]:
        """The decisions in the reply to `acquire`, in order; an error for a record that is corrupt."""

    def renew(self, held: Iterable[HeldLease], settled_below: int = 0, now_ms: int | None = None) -> Call:
        """Extend the leases in `held`, and end leases of this owner that are not in it and below `settled_below`."""

    def parse_renewals(self, held: Iterable[HeldLease], reply: Any) -> list[tuple[HeldLease, Renewal]]:
        """The results in the reply to `renew`."""

    def heal(
        self,
        entries: Sequence[HealEntry],
        heal_id: bytes,
        now_ms: int | None = None,
        moments: Moments | None = None,
    ) -> Call:
        """Add the debts in `entries`, up to each capacity, and enter their leases, once for each `heal_id`."""

    def parse_heal(self, entries: Sequence[HealEntry], reply: Any) -> list[bool | BackendUnavailable]:
        """The results in the reply to `heal`, in order: True, False if it was done before, or an error."""

    def reset_scope(self, record: Record, now_ms: int | None = None) -> Call:
        """Clear the debts of one record, but never its leases."""

    def reset(self, subject: str, scopes: Sequence[bytes] = (), now_ms: int | None = None) -> Call:
        """Clear the debts of `subject` without a scope and in these `scopes`, but never its leases."""

    def reset_outcome(self, subject: str, reply: Any) -> list[bytes] | bool:
        """The scopes that `reset` must name too; once it is done, if it found a debt. Raises BackendUnavailable."""


class JointCodec(Protocol):
    """The part of a Codec for joint claims and settlements."""

    def acquire(
        self, claims: Sequence[PendingJoint], released: Sequence[ReleasedLease], now_ms: int | None, present_ms: int
    ) -> Call:
        """Decide `claims` in order and in one atomic step, and release the leases in `released` before."""

    def parse_decisions(
        self, claims: Iterable[PendingJoint], reply: Any, hold_times: HoldTimes, on_grant: OnJointGrant
    ) -> list[Decision | BackendUnavailable | OtherPeriod | Redirect]:
        """The decisions in the reply to `acquire`, in the order of `claims`; for one that failed, the reason."""

    def settle(
        self,
        settlements: Sequence[Settlement],
        decided_at_ms: int,
        claim_id: int,
        now_ms: int | None,
        calendars: Iterable[tuple[bytes, int]],
        *,
        declared: bool = True,
        again: bool = False,
    ) -> Call:
        """Correct the charges of a claim, once for each `claim_id` that is not 0."""

    def parse_settled(self, settlements: Sequence[Settlement], reply: Any) -> int | OtherPeriod:
        """The tokens beyond the largest debts. Raises StateDamaged if a record could not be settled."""


class Dialect(NamedTuple):
    """A kind of server. `name` is its name in messages.

    `codec` makes the codec for a prefix and an owner. `connection` and `async_connection` make a connection that opens
    on first use. `self_test_calls` are subjects and calls that test everything a decision needs, on every server.
    """

    name: str
    backend: str
    codec: Callable[[str, bytes], Codec]
    connection: Callable[[Server], Connection]
    async_connection: Callable[[Server], Any]
    self_test_calls: Callable[[Route, Any, int | None], list[tuple[str, Call]]]
    is_reply: Callable[[Reply], bool]
