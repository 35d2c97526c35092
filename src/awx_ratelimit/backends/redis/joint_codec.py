"""Encodes joint claims and settlements, and decodes their replies. See joint.lua and settle.lua for the layouts."""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

from awx_ratelimit.backends.redis.damage import damaged
from awx_ratelimit.backends.redis.keys import Keys
from awx_ratelimit.backends.redis.plan_encoding import Arguments, encode_limit, encode_time, encoded_plan
from awx_ratelimit.backends.redis.scripts import JOINT, SETTLE, Call
from awx_ratelimit.backends.remote.dialect import OnJointGrant, Settlement
from awx_ratelimit.backends.remote.encoding import SEQUENCE, Moments, bounds, decode_calendar
from awx_ratelimit.backends.remote.pending_claims import OtherPeriod, PendingJoint, ReleasedLease
from awx_ratelimit.backends.remote.replies import Redirect
from awx_ratelimit.core.budget import Record, ScopedSubject
from awx_ratelimit.core.decision import Decision, joint_decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import Correction
from awx_ratelimit.core.usage import RecordState
from awx_ratelimit.errors import BackendUnavailable

OWNER_BYTES: Final = 16
_HEAD = Struct(f"<d{OWNER_BYTES}sH")
_CLAIM = Struct("<QBB")
_RECORD = Struct("<HH")
_SEQUENCE = Struct("<Q")
_SETTLE_HEAD = Struct(f"<d{OWNER_BYTES + 6}sBBd")
_CHANGE = Struct("<dd")
_BOUNDS = Struct("<dd")
_ANSWER = Struct("<qqq")
_TIME = Struct("<q")
_OTHER_PERIOD = -4
_SLOT_MOVES = -5
_CORRUPT = -3
_MOVING = "redis cluster: the slot of a key is being moved, and the key has not moved in time"


class JointCodec:
    """See Codec."""

    def __init__(self, keys: Keys, owner: bytes) -> None:
        self._keys = keys
        self._owner = owner

    def acquire(
        self, claims: Sequence[PendingJoint], released: Sequence[ReleasedLease], now_ms: int | None, present_ms: int
    ) -> Call:
        """Decide `claims` in the given order and in one atomic step, and release the leases in `released` before.

        Every lease is one of a record in `claims`. `present_ms` chooses the periods of calendar rates.
        """
        freed: dict[Record, list[bytes]] = {}
        for record, lease_id in released:
            freed.setdefault(record, []).append(_SEQUENCE.pack(lease_id & SEQUENCE))
        keys: list[bytes] = []
        arguments = Arguments()
        parts = [_HEAD.pack(encode_time(now_ms), self._owner, len(claims))]
        for _, (records, shape, declared), later_ms, lease_id, _, _ in claims:
            moments = Moments(present_ms, later_ms)
            parts.append(_CLAIM.pack(lease_id & SEQUENCE, len(records), bool(declared)))
            for record, charge in zip(records, shape.charges, strict=True):
                self._add_keys(keys, record)
                leases = freed.pop(record, ()) if freed else ()
                parts += (_RECORD.pack(arguments.index_of_charge(charge, moments), len(leases)), scope_bytes(record))
                parts += leases
        arguments.values[0] = b"".join(parts)
        return Call(JOINT, keys, arguments.values)

    def parse_decisions(
        self, claims: Iterable[PendingJoint], reply: bytes, hold_times: HoldTimes, on_grant: OnJointGrant
    ) -> list[Decision | BackendUnavailable | OtherPeriod | Redirect]:
        """The decisions in the reply to `acquire`, in the order of `claims`; for one that failed, the reason."""
        decisions: list[Decision | BackendUnavailable | OtherPeriod | Redirect] = []
        at = 0
        for pending in claims:
            end = (
                at
                + _TIME.size
                + sum([encoded_plan(charge.plan).levels_bytes for charge in pending.claim.shape.charges])
            )
            now_ms, code, ms = _ANSWER.unpack_from(reply, at)
            if code == _OTHER_PERIOD:
                decisions.append(OtherPeriod(now_ms, ms))
            elif code == _SLOT_MOVES:
                decisions.append(Redirect(None, BackendUnavailable(_MOVING)))
            elif code < 0:
                decisions.append(damaged(self._keys.key(pending.record), code))
            else:
                decisions.append(_decision(pending, now_ms, reply, at + _TIME.size, hold_times, on_grant))
            at = end
        return decisions

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
        """Correct the charges of a claim. `claim_id` is its lease id if it was `declared`, else an id for this alone.

        With an id, repeating the call changes nothing; 0 is none. `again` says that the claim was declared, and that
        such a call was sent before. The call knows the periods of these calendars that contain these times.
        """
        keys: list[bytes] = []
        sequence = claim_id & SEQUENCE
        once = self._owner + sequence.to_bytes(6, "little")
        parts = [_SETTLE_HEAD.pack(encode_time(now_ms), once, again, declared, decided_at_ms)]
        for record, changes in settlements:
            key = self._keys.key(record)
            keys += (key, b"%b::%b" % (key, once))
            if isinstance(record, ScopedSubject):
                keys.append(self._keys.index(record.subject))
            parts += (bytes([len(changes)]), scope_bytes(record))
            parts += [_encoded_change(change, decided_at_ms) for change in changes]
        periods = [_BOUNDS.pack(*bounds(decode_calendar(name), at_ms)) + name for name, at_ms in calendars]
        return Call(SETTLE, keys, [b"".join(parts), *periods])

    def parse_settled(self, settlements: Sequence[Settlement], reply: bytes) -> int | OtherPeriod:
        """The tokens beyond the largest debts. Raises StateDamaged if a record could not be settled."""
        if _TIME.unpack_from(reply)[0] == _OTHER_PERIOD:
            _, now_ms, at_ms = _ANSWER.unpack_from(reply)
            calendar = reply[_ANSWER.size :]
            try:
                decode_calendar(calendar)
            except ValueError:
                raise damaged(self._keys.key(settlements[0][0]), _CORRUPT) from None
            return OtherPeriod(now_ms, at_ms, calendar)
        cut_off = 0
        for (record, _), (answer,) in zip(settlements, _TIME.iter_unpack(reply), strict=True):
            if answer < 0:
                raise damaged(self._keys.key(record), answer)
            cut_off += answer
        return cut_off

    def _add_keys(self, keys: list[bytes], record: Record) -> None:
        keys.append(self._keys.key(record))
        if isinstance(record, ScopedSubject):
            keys.append(self._keys.index(record.subject))


def scope_bytes(record: Record) -> bytes:
    """The scope of a record with its length before it."""
    return bytes([len(record.scope)]) + record.scope.encode() if isinstance(record, ScopedSubject) else b"\0"


def _decision(
    pending: PendingJoint, now_ms: int, reply: bytes, at: int, hold_times: HoldTimes, on_grant: OnJointGrant
) -> Decision:
    states: list[RecordState] = []
    slots: list[tuple[Record, Plan]] = []
    refused = False
    for record, (plan, _, _) in zip(pending.claim.records, pending.claim.shape.charges, strict=True):
        encoded = encoded_plan(plan)
        exceeded, held, *levels = encoded.unpack_levels(reply, at)
        at += encoded.levels_bytes
        slot_exceeded = exceeded & plan.slot_bit
        states.append((exceeded, levels, held, hold_times.slot_wait_ms(plan) if slot_exceeded else 0))
        if exceeded & plan.enforced:
            refused = True
        elif plan.slot_bit and not slot_exceeded:
            slots.append((record, plan))
    lease_id, holder = 0, None
    if pending.lease_id and not refused:
        lease_id = pending.lease_id if slots else 0
        holder = on_grant(pending, now_ms, lease_id, tuple(slots))
    if pending.is_plain:
        ((exceeded, levels, held, wait_ms),), (charge,) = states, pending.claim.shape.charges
        subject = pending.claim.records[0]
        assert isinstance(subject, str)
        return Decision(subject, charge.plan, charge.cost, now_ms, exceeded, levels, held, lease_id, holder, wait_ms)
    return joint_decision(pending.claim, now_ms, states, lease_id, holder)


def _encoded_change(change: Correction, decided_at_ms: int) -> bytes:
    rate = change.rate
    end_ms = bounds(rate.periods, decided_at_ms)[1] if rate.calendar else 0
    limit = encode_limit(rate)
    return bytes([len(limit)]) + limit + _CHANGE.pack(change.tokens, end_ms)
