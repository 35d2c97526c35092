"""Encodes the calls of the functions and decodes their replies: bytes only, without I/O.

The layouts of parameters and replies are documented above each function. Times are milliseconds since the epoch, at
most `MAX_TIME_MS` away from it. None means the server's own time.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from awx_ratelimit.backends.postgres.arrays import bigint, bigints, byteas, lease_encoder, texts
from awx_ratelimit.backends.postgres.joint_codec import JointCodec, failed
from awx_ratelimit.backends.postgres.keys import Keys, Place, Records
from awx_ratelimit.backends.postgres.many import MANY
from awx_ratelimit.backends.postgres.many_codec import ManyClaims
from awx_ratelimit.backends.postgres.plan_encoding import (
    MAX_TTL_MS,
    Charges,
    SingleStatements,
    check_encodable,
    checked_time,
    head_of,
)
from awx_ratelimit.backends.postgres.schema import (
    HEAL,
    RENEW,
    RESET,
    Call,
    statement,
)
from awx_ratelimit.backends.remote.dialect import OnGrant, Renewal
from awx_ratelimit.backends.remote.encoding import SEQUENCE, SEQUENCE_BITS, Moments, ends_ms
from awx_ratelimit.backends.remote.pending_claims import HealEntry, HeldLease, PlainClaim, ReleasedLease, by_record
from awx_ratelimit.core.budget import Record, subject_of
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import EXACT_MAX
from awx_ratelimit.errors import BackendUnavailable

#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__
_NO_MOMENTS = Moments(0)


class Codec:
    """Encodes and decodes for one owner of leases, which is one process. Any thread may use it.

    `place` is the ``schema.prefix`` of the tables. `owner` is 16 random bytes.
    """

    joins_plain = True

    def __init__(self, place: str, owner: bytes) -> None:
        self.place = place
        self._keys = Keys()
        self._owner = int.from_bytes(owner[:8], signed=True), int.from_bytes(owner[8:], signed=True)
        self._lease = lease_encoder(*self._owner)
        self._singles = SingleStatements(place)
        #: For joint claims and settlements.
        self.joint = JointCodec(place, self._keys, self._owner)
        #: Returns an unused lease id. A claim gets its id before it is first sent and keeps it for each retry.
        self.new_lease_id = count((int.from_bytes(owner) << SEQUENCE_BITS) + 1).__next__

    def key(self, record: Record) -> bytes:
        """The key of a record."""
        return self._keys.digest(subject_of(record))

    def slot(self, record: Record) -> int:
        """All records share a call."""
        del record
        return 0

    @staticmethod
    def is_plain(plan: Plan) -> bool:
        """Whether `acquire` takes `plan`. Raises InvalidLimit for too many rates."""
        head_of(plan)
        return plan.is_plain and not any(rate.period for rate in plan.rates)

    @staticmethod
    def check(charges: Sequence[Charge]) -> None:
        """Raise InvalidLimit for a plan with too many rates."""
        check_encodable(charges)

    def acquire(
        self, claims: Iterable[PlainClaim], released: Sequence[ReleasedLease] = (), now_ms: int | None = None
    ) -> Call:
        """Release the leases in `released`, then decide `claims`, in the given order and in one atomic step."""
        claims = list(claims)
        if len(claims) == 1 and len(released) <= 1:
            call = self._acquire_one(claims[0], released, now_ms)
            if call is not None:
                return call
        many = ManyClaims(self._keys, self._singles)
        many.add(claims, released)
        return many.call(self.place, self._owner, now_ms)

    def _acquire_one(self, claim: PlainClaim, released: Sequence[ReleasedLease], now_ms: int | None) -> Call | None:
        """`acquire` for a claim that one UPDATE can decide; None for others."""
        record, plan, cost, lease_id = claim
        singles = self._singles.of(plan, cost)
        if singles is None or not lease_id or record.__class__ is not str:
            return None
        time, rest = bigint(checked_time(now_ms)), singles.parameters() if singles.parameters else ()
        if not released:
            return Call(singles.alone, (self._keys.digest(record), self._lease(lease_id & SEQUENCE), time, *rest))
        ((gone_record, gone_id),), replacing = released, singles.replacing
        if replacing is None or gone_record != record:
            return None
        gone, sequence = self._lease(gone_id & SEQUENCE), bigint(lease_id & SEQUENCE)
        return Call(replacing, (self._keys.digest(record), gone, sequence, time, *rest))

    def parse_decisions(
        self, claims: Iterable[PlainClaim], reply: Sequence[int], hold_times: HoldTimes, on_grant: OnGrant
    ) -> list[Decision | BackendUnavailable]:
        """The decisions in the reply to `acquire`, in order; an error for a record that is corrupt or locked."""
        claims = list(claims)
        if len(claims) == 1 and reply[0] != MANY:
            return [self._decision(claims[0], reply, 0, hold_times, on_grant)[0]]
        decisions: list[Any] = [None] * len(claims)
        by_place: dict[Place, list[int]] = {}
        for number, claim in enumerate(claims):
            by_place.setdefault(self._keys.order(claim[0]), []).append(number)
        groups, at = [by_place[place] for place in sorted(by_place)], 0
        if is_tagged := bool(reply) and reply[0] == MANY:
            at = 1
        for group in groups:
            some = group
            if is_tagged:
                some, at = groups[reply[at] - 1], at + 1
            for number in some:
                decisions[number], at = self._decision(claims[number], reply, at, hold_times, on_grant)
        return decisions

    def _decision(
        self, claim: PlainClaim, reply: Sequence[int], at: int, hold_times: HoldTimes, on_grant: OnGrant
    ) -> tuple[Any, int]:
        """The decision that begins at a position of the reply, and the position after it."""
        subject, plan, cost, lease_id = claim
        if reply[at + 1]:
            return failed(reply[at + 1], self.key(subject)), at + 2
        now_ms, _, exceeded, held = reply[at : at + 4]
        end = at + 4 + 2 * len(plan.rates)
        levels, lease, holder, wait_ms = list(reply[at + 4 : end]), 0, None, 0
        slot_exceeded = exceeded & plan.slot_bit
        if slot_exceeded:
            wait_ms = hold_times.slot_wait_ms(plan)
        if lease_id and not exceeded & plan.enforced:
            lease = lease_id if plan.slot_bit and not slot_exceeded else 0
            holder = on_grant(claim, now_ms, lease)
        return _new(Decision, (subject, plan, cost, now_ms, exceeded, levels, held, lease, holder, wait_ms)), end

    def renew(self, held: Iterable[HeldLease], settled_below: int = 0, now_ms: int | None = None) -> Call:
        """Extend the leases in `held` by their ttl. A lost lease is taken again if a slot is free.

        The function also ends this owner's leases on the same records that are not in `held` and have an id below
        `settled_below`: their release was lost. It must not exceed the id of a claim in flight; 0 ends none.
        """
        records, numbers, groups = Records(self._keys), list[int](), by_record(held)
        for record in groups:
            records.add(record, wanted=True)
        records.sort()
        for record in sorted(groups, key=records.number):
            for _, plan, lease_id, granted_at_ms in groups[record]:
                assert plan.concurrency is not None
                ttl_ms, slots = min(plan.concurrency.ttl_ms, MAX_TTL_MS), min(plan.slots, EXACT_MAX)
                numbers += (records.number(record), lease_id & SEQUENCE, slots, ttl_ms, ends_ms(plan, granted_at_ms))
        head = (checked_time(now_ms), *self._owner, settled_below & SEQUENCE)
        return Call(
            statement(self.place, RENEW),
            (*map(bigint, head), byteas(records.subjects), texts(records.scopes), bigints(numbers)),
        )

    def parse_renewals(self, held: Iterable[HeldLease], reply: Sequence[int]) -> list[tuple[HeldLease, Renewal]]:
        """The results in the reply to `renew`."""
        groups = by_record(held)
        ordered = [lease for record in sorted(groups, key=self._keys.order) for lease in groups[record]]
        return [(lease, Renewal(answer)) for lease, answer in zip(ordered, reply, strict=True)]

    def heal(
        self,
        entries: Sequence[HealEntry],
        heal_id: bytes,
        now_ms: int | None = None,
        moments: Moments | None = None,
    ) -> Call:
        """Add the debts in `entries`, up to each capacity, and enter their leases. Nothing is refused.

        Repeating the call with the same unique `heal_id` within an hour changes nothing. A record may appear twice.
        """
        records, charges, numbers = Records(self._keys), Charges(), list[int]()
        for record, _, _, _ in entries:
            records.add(record, wanted=True)
        records.sort()
        seen: dict[Record, int] = {}
        for record, plan, debts, leases in entries:
            place = charges.place_of(Charge(plan, 0, None), moments or _NO_MOMENTS)
            seen[record] = seen.get(record, -1) + 1
            numbers += (records.number(record), place, seen[record], len(leases))
            numbers += [debt for _, debt in zip(plan.rates, debts, strict=True)]
            for lease_id, granted_at_ms in leases:
                numbers += (lease_id & SEQUENCE, ends_ms(plan, granted_at_ms))
        head = (*map(bigint, (checked_time(now_ms), *self._owner)), heal_id)
        places = byteas(records.subjects), texts(records.scopes)
        return Call(
            statement(self.place, HEAL),
            (*head, *places, bigints(numbers), bigints(charges.numbers), texts(charges.heads)),
        )

    def parse_heal(self, entries: Sequence[HealEntry], reply: Sequence[int]) -> list[bool | BackendUnavailable]:
        """The results in the reply to `heal`, in order: True, False if it was done before, or an error."""
        return [
            failed(answer, self.key(record)) if answer < 0 else bool(answer)
            for (record, *_), answer in zip(entries, reply, strict=True)
        ]

    def reset_scope(self, record: Record, now_ms: int | None = None) -> Call:
        """Clear the debts of one record, but never its leases."""
        parameters = bigint(checked_time(now_ms)), self.key(record), self._keys.scope(record).encode()
        return Call(statement(self.place, RESET), parameters)

    def reset(self, subject: str, scopes: Sequence[bytes] = (), now_ms: int | None = None) -> Call:
        """Clear the debts of `subject` in every scope, but never its leases."""
        del scopes
        return Call(statement(self.place, RESET), (bigint(checked_time(now_ms)), self.key(subject), None))

    @staticmethod
    def reset_outcome(subject: str, reply: Sequence[int]) -> bool:
        """Whether `reset`, which clears all scopes, found a debt."""
        del subject
        return any(reply)
