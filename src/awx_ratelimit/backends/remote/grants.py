"""What this process was granted: the holders of allowed decisions, and the leases that it has open or lets lapse."""

from typing import TypeAlias
from weakref import ref

from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.plan import Plan

#: The slots of a lease: records and their plans.
Slots: TypeAlias = tuple[tuple[Record, Plan], ...]


class Grant:
    """The holder of an admitted Decision: which Leases granted it, and since when its lease is held."""

    __slots__ = ("__weakref__", "counted", "declared_id", "granted_by", "settle_id", "settled", "since_ms", "was_sent")

    def __init__(self, granted_by: object, since_ms: int | None, declared_id: int = 0) -> None:
        self.granted_by = granted_by
        self.settled = False
        #: Whether a caller was told that its settlement counts.
        self.counted = False
        #: The id of its settlement; 0 before the first try.
        self.settle_id = 0
        #: Whether a settlement was sent that may not have been done.
        self.was_sent = False
        #: None if the hold time is not measured.
        self.since_ms = since_ms
        #: The lease id of a declared claim; 0 for all others.
        self.declared_id = declared_id


class PartGrant(Grant):
    """The holder of a part of a claim: see `parts`. `slots` are those that it has taken."""

    __slots__ = ("slots",)

    def __init__(self, granted_by: object, declared_id: int, slots: Slots) -> None:
        super().__init__(granted_by, None, declared_id)
        self.slots = slots


class OpenLease(ref[Grant]):
    """An open lease, until its grant is collected."""

    __slots__ = ("granted_at_ms", "lease_id", "slots")

    lease_id: int
    slots: Slots
    granted_at_ms: int


class LapsingLease:
    """A lease without a known holder."""

    __slots__ = ("lapses_at_ms", "slots", "ttl_ms")

    def __init__(self, slots: Slots, ttl_ms: int) -> None:
        self.slots = slots
        self.ttl_ms = ttl_ms
        self.lapses_at_ms: int | None = None
