"""Encodes joint claims and settlements, and decodes their replies. See acquire.sql and settle.sql for the layouts."""

from collections.abc import Iterable, Sequence

from awx_ratelimit.backends.postgres.arrays import bigint, bigints, boolean, booleans, byteas, texts
from awx_ratelimit.backends.postgres.keys import Keys, Records
from awx_ratelimit.backends.postgres.plan_encoding import Charges, checked_time, limit_line
from awx_ratelimit.backends.postgres.schema import ACQUIRE, ACQUIRE_JOINTLY, SETTLE, Call, statement
from awx_ratelimit.backends.remote.dialect import OnJointGrant, Settlement
from awx_ratelimit.backends.remote.encoding import SEQUENCE, Moments, bounds, decode_calendar
from awx_ratelimit.backends.remote.pending_claims import OtherPeriod, PendingJoint, ReleasedLease
from awx_ratelimit.backends.remote.replies import Redirect, locked_error
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision, joint_decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.usage import RecordState
from awx_ratelimit.errors import BackendUnavailable, StateDamaged

_OTHER_PERIOD, _BUSY = -4, -5


def failed(code: int, *keys: bytes) -> BackendUnavailable:
    """The error for a claim of these keys, one of which has a record that is corrupt or locked, as `code` says."""
    which = " or ".join(rf"\x{key.hex()}" for key in keys)
    if code == _BUSY:
        return locked_error(f"postgresql: the record of subject {which}")
    return StateDamaged(
        f"postgresql: the record of subject {which} is corrupt; reset the subject, or delete the record"
    )


class JointCodec:
    """See Codec."""

    def __init__(self, place: str, keys: Keys, owner: tuple[int, int]) -> None:
        self._place = place
        self._keys = keys
        self._owner = owner

    def acquire(
        self, claims: Sequence[PendingJoint], released: Sequence[ReleasedLease], now_ms: int | None, present_ms: int
    ) -> Call:
        """Decide `claims` in the given order and in one atomic step, and release the leases in `released` before.

        `present_ms` chooses the periods of calendar rates.
        """
        records, charges, numbers = Records(self._keys), Charges(), list[int]()
        for pending in claims:
            for record in pending.claim.records:
                records.add(record, wanted=pending.lease_id != 0)
        for record, _ in released:
            records.add(record, wanted=False)
        records.sort()
        for _, (names, shape, declared), later_ms, lease_id, _, _ in claims:
            moments = Moments(present_ms, later_ms)
            numbers += (lease_id & SEQUENCE, int(declared), len(names))
            for record, charge in zip(names, shape.charges, strict=True):
                numbers += (records.number(record), charges.place_of(charge, moments))
        gone = [number for record, lease_id in released for number in (records.number(record), lease_id & SEQUENCE)]
        # Claims that are alone need no protection from others.
        function = ACQUIRE if len(claims) == 1 and not released else ACQUIRE_JOINTLY
        places = byteas(records.subjects), texts(records.scopes), booleans(records.wanted)
        asked = bigints(gone), bigints(numbers), bigints(charges.numbers), texts(charges.heads)
        head = map(bigint, (checked_time(now_ms), *self._owner))
        return Call(statement(self._place, function), (*head, *places, *asked))

    def parse_decisions(
        self, claims: Iterable[PendingJoint], reply: Sequence[int], hold_times: HoldTimes, on_grant: OnJointGrant
    ) -> list[Decision | BackendUnavailable | OtherPeriod | Redirect]:
        """The decisions in the reply to `acquire`, in the order of `claims`; for one that failed, the reason."""
        decisions: list[Decision | BackendUnavailable | OtherPeriod | Redirect] = []
        now_ms, at = reply[0], 1
        for pending in claims:
            code, ms = reply[at : at + 2]
            at += 2
            if code == _OTHER_PERIOD:
                decisions.append(OtherPeriod(now_ms, ms))
            elif code:
                keys = {self._keys.order(record)[0]: None for record in pending.claim.records}
                decisions.append(failed(code, *keys))
            else:
                end = at + sum([2 + 2 * len(charge.plan.rates) for charge in pending.claim.shape.charges])
                decisions.append(_decision(pending, now_ms, reply[at:end], hold_times, on_grant))
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
        records, lines, numbers = Records(self._keys), list[str](), list[int]()
        for record, _ in settlements:
            records.add(record, wanted=True)
        records.sort()
        for record, changes in settlements:
            for rate, tokens in changes:
                lines.append(limit_line(rate))
                end_ms = bounds(rate.periods, decided_at_ms)[1] if rate.calendar else 0
                numbers += (records.number(record), tokens, end_ms)
        known = [(name, bounds(decode_calendar(name), at_ms)) for name, at_ms in calendars]
        head = map(bigint, (checked_time(now_ms), *self._owner, claim_id & SEQUENCE))
        marks = boolean(again), boolean(declared), bigint(decided_at_ms)
        places = byteas(records.subjects), texts(records.scopes), texts(lines), bigints(numbers)
        periods = texts([name.decode() for name, _ in known]), bigints([ms for _, both in known for ms in both])
        return Call(statement(self._place, SETTLE), (*head, *marks, *places, *periods))

    def parse_settled(self, settlements: Sequence[Settlement], reply: Sequence[int]) -> int | OtherPeriod:
        """The tokens beyond the largest debts. Raises StateDamaged if a record could not be settled."""
        if reply and reply[0] == _OTHER_PERIOD:
            _, now_ms, at_ms, *calendar = reply
            return OtherPeriod(now_ms, at_ms, bytes(calendar))
        keys = sorted(self._keys.order(record) for record, _ in settlements)
        for (key, _), answer in zip(keys, reply, strict=True):
            if answer < 0:
                raise failed(answer, key)
        return sum(reply)


def _decision(
    pending: PendingJoint, now_ms: int, reply: Sequence[int], hold_times: HoldTimes, on_grant: OnJointGrant
) -> Decision:
    states: list[RecordState] = []
    slots: list[tuple[Record, Plan]] = []
    refused, at = False, 0
    for record, (plan, _, _) in zip(pending.claim.records, pending.claim.shape.charges, strict=True):
        end = at + 2 + 2 * len(plan.rates)
        exceeded, held, levels = reply[at], reply[at + 1], list(reply[at + 2 : end])
        at = end
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
        ((exceeded, of_plan, held, wait_ms),), (charge,) = states, pending.claim.shape.charges
        subject = pending.claim.records[0]
        assert isinstance(subject, str)
        return Decision(subject, charge.plan, charge.cost, now_ms, exceeded, of_plan, held, lease_id, holder, wait_ms)
    return joint_decision(pending.claim, now_ms, states, lease_id, holder)
