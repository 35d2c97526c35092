"""The calls that carry a batch of claims to one server, with the leases to release there."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from awx_ratelimit.backends.remote.dialect import Codec
from awx_ratelimit.backends.remote.pending_claims import (
    OfRecord,
    PendingClaim,
    PendingJoint,
    ReleasedLease,
    by_record,
    plain_as_joint,
    records_of,
)
from awx_ratelimit.backends.remote.pending_releases import Home, PendingReleases
from awx_ratelimit.backends.remote.present import Present
from awx_ratelimit.backends.remote.replies import Call
from awx_ratelimit.backends.remote.routing import Route, Server

#: The most leases that one call releases in addition to its claims.
MAX_RELEASES = 256


class BatchCall(NamedTuple):
    """One call of a batch, the leases that it releases first, and the positions of its claims in the batch."""

    numbers: Sequence[int]
    released: list[ReleasedLease]
    call: Call


class BatchCalls:
    """See the module. `only_server` is None on a cluster."""

    def __init__(
        self, route: Route, only_server: Server | None, codec: Codec, present: Present, pending: PendingReleases
    ) -> None:
        self._route = route
        self._only_server = only_server
        self._codec = codec
        self._present = present
        self._pending = pending
        self._generation = 0

    def alike(self, batch: Sequence[PendingClaim]) -> Sequence[PendingClaim]:
        """`batch`, with its plain claims as joint ones if that makes it one call."""
        if not self._codec.joins_plain or len(batch) == 1 or len({*map(type, batch)}) == 1:
            return batch
        return [claim if isinstance(claim, PendingJoint) else plain_as_joint(*claim) for claim in batch]

    def of(self, batch: Sequence[PendingClaim], server: Server) -> list[BatchCall]:
        """The calls that decide `batch` on `server`. They release leases there first."""
        if server is self._only_server:
            released = self._pending.next(MAX_RELEASES, server, batch)
            if PendingJoint not in {*map(type, batch)}:
                return [BatchCall((), released, self._acquire_call(batch, released))]
            if self._codec.joins_plain:
                return [self._joint_call(batch, range(len(batch)), released)]
            return self._calls(batch, range(len(batch)), released)
        return self._calls_by_key(batch, self.leases_to_release(server.home, batch), releases_alone=not server.asking)

    def _calls_by_key(
        self, batch: Sequence[PendingClaim], released: list[ReleasedLease], *, releases_alone: bool
    ) -> list[BatchCall]:
        """Calls for a cluster: one for the plain claims of each record, and for the joint claims of each slot.

        While a slot moves, a call of several keys is refused if one of them is missing. With `releases_alone`, the
        leases of other records are released too, in a call for each record.
        """
        groups: dict[object, list[int]] = {}
        for number, claim in enumerate(batch):
            joint = claim.__class__ is PendingJoint
            groups.setdefault(self._codec.slot(claim[0]) if joint else claim[0], []).append(number)
        releases, calls = by_record(released), list[BatchCall]()
        for numbers in groups.values():
            records = {record for number in numbers for record in records_of(batch[number])}
            calls += self._calls(batch, numbers, [lease for record in records for lease in releases.pop(record, ())])
        if releases_alone:
            calls += [BatchCall((), leases, self._acquire_call((), leases)) for leases in releases.values()]
        return calls

    def _calls(
        self, batch: Sequence[PendingClaim], numbers: Sequence[int], released: list[ReleasedLease]
    ) -> list[BatchCall]:
        """One call for the plain claims with these numbers, and one for the others; each releases first."""
        joint = [number for number in numbers if batch[number].__class__ is PendingJoint]
        plain = [number for number in numbers if batch[number].__class__ is not PendingJoint]
        later: list[ReleasedLease] = []
        if joint:
            first = {batch[number][0] for number in plain}
            records = {record for number in joint for record in records_of(batch[number])} - first
            later = [lease for lease in released if lease[0] in records]
            released = [lease for lease in released if lease[0] not in records]
        calls = []
        if plain or released:
            calls.append(BatchCall(plain, released, self._acquire_call([batch[n] for n in plain], released)))
        if joint:
            calls.append(self._joint_call(batch, joint, later))
        return calls

    def _joint_call(
        self, batch: Sequence[PendingClaim], numbers: Sequence[int], released: list[ReleasedLease]
    ) -> BatchCall:
        claims: list[Any] = [batch[number] for number in numbers]
        call = self._codec.joint.acquire(claims, released, self._present.call_time_ms(), self._present.ms())
        return BatchCall(numbers, released, call)

    def _acquire_call(self, claims: Sequence[Any], released: list[ReleasedLease]) -> Call:
        return self._codec.acquire(claims, released, self._present.call_time_ms())

    def _by_slot(self, items: Sequence[OfRecord]) -> dict[int, list[OfRecord]]:
        """Group `items`, which begin with their records, by the slot of a cluster."""
        groups: dict[int, list[OfRecord]] = {}
        for item in items:
            groups.setdefault(self._codec.slot(item[0]), []).append(item)
        return groups

    def split(self, items: Sequence[OfRecord]) -> list[list[OfRecord]]:
        """Group `items`, which begin with their records, by the call that they may share."""
        if self._route.multi_key:
            return [list(items)] if items else []
        return list(self._by_slot(items).values())

    def leases_to_release(self, home: Home, batch: Sequence[PendingClaim] = ()) -> list[ReleasedLease]:
        """The leases to release on a server, those of the records in `batch` first."""
        if self._generation != self._route.generation:
            self._generation = self._route.generation
            self._pending.regroup()
        return self._pending.next(MAX_RELEASES, home, batch)
