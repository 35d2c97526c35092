"""Encodes the calls of the scripts and decodes their replies: bytes only, without I/O.

The layouts of arguments and replies are documented at the top of each script. Times are milliseconds since the epoch,
at most `MAX_TIME_MS` away from it. None means the server's own time.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count
from struct import Struct

from awx_ratelimit.backends.redis.damage import damaged
from awx_ratelimit.backends.redis.joint_codec import OWNER_BYTES, JointCodec, scope_bytes
from awx_ratelimit.backends.redis.keys import Keys
from awx_ratelimit.backends.redis.plan_encoding import (
    Arguments,
    check_encodable,
    encode_lease,
    encode_time,
    encoded_plan,
)
from awx_ratelimit.backends.redis.scripts import ACQUIRE, HEAL, RELEASE, RENEW, RESET, Call
from awx_ratelimit.backends.remote.dialect import OnGrant, Renewal
from awx_ratelimit.backends.remote.encoding import SEQUENCE, SEQUENCE_BITS, Moments, ends_ms
from awx_ratelimit.backends.remote.pending_claims import HealEntry, HeldLease, PlainClaim, ReleasedLease, by_record
from awx_ratelimit.core.budget import Record, ScopedSubject, subject_of
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable

_HEAD = Struct(f"<d{OWNER_BYTES}sH")
_RELEASE = Struct("<Q")
_CLAIM = Struct("<QdHH")
_RENEW_HEAD = Struct(f"<d{OWNER_BYTES}sQ")
_LEASES = Struct("<H")
_HEAL_HEAD = Struct(f"<d{OWNER_BYTES}sd")
_HEALED = Struct("<HH")
_DEBT = Struct("<d")
_HEALED_LEASE = Struct("<Qd")
_RESET = Struct(f"<d{OWNER_BYTES}sB")
_HEALED_ONCE_IN_MS = 3_600_000
#: The index of the first plan of a call, see Arguments.
_FIRST_PLAN = 2
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__


class Codec:
    """Encodes and decodes for one owner of leases, which is one process. Any thread may use it.

    `prefix` begins every key. `owner` is 16 random bytes. Raises TypeError or ValueError for a wrong prefix or owner.
    """

    joins_plain = False

    def __init__(self, prefix: str, owner: bytes) -> None:
        self.keys = Keys(prefix)
        #: The key of a record.
        self.key = self.keys.key
        if len(owner) != OWNER_BYTES:
            raise ValueError(f"owner: expected {OWNER_BYTES} bytes, got {len(owner)}")
        self._owner = owner
        #: For joint claims and settlements.
        self.joint = JointCodec(self.keys, owner)
        self.slot = self.keys.slot
        #: Returns an unused lease id. A claim gets its id before it is first sent and keeps it for each retry.
        self.new_lease_id = count((int.from_bytes(owner) << SEQUENCE_BITS) + 1).__next__

    @staticmethod
    def is_plain(plan: Plan) -> bool:
        """Whether acquire.lua knows `plan`. Raises InvalidLimit for more than `MAX_RATES` rates."""
        return encoded_plan(plan).is_plain

    @staticmethod
    def check(charges: Sequence[Charge]) -> None:
        """Raise InvalidLimit for a plan with more than `MAX_RATES` rates."""
        check_encodable(charges)

    def acquire(
        self, claims: Sequence[PlainClaim], released: Sequence[ReleasedLease] = (), now_ms: int | None = None
    ) -> Call:
        """Release the leases in `released`, then decide `claims`, in the given order and in one atomic step.

        A lease travels with the first claim of its record, so that the script reads and writes the record once.
        """
        if len(claims) == 1:
            return self._acquire_one(claims[0], released, now_ms)
        return self._acquire_many(claims, released, now_ms)

    def _acquire_many(
        self, claims: Sequence[PlainClaim], released: Sequence[ReleasedLease], now_ms: int | None
    ) -> Call:
        freed: dict[Record, list[bytes]] = {}
        for record, lease_id in released:
            freed.setdefault(record, []).append(_RELEASE.pack(lease_id & SEQUENCE))
        keys: list[bytes] = []
        parts: list[bytes] = []
        arguments = Arguments()
        pack, known, key = _CLAIM.pack, self.keys.known.get, self.key
        last, index = None, 0
        for record, plan, cost, lease_id in claims:
            if plan is not last:
                last, index = plan, arguments.index_of_plan(plan)
            keys.append(known(record) or key(record))
            leases = freed.pop(record, None) if freed else None
            if leases is None:
                parts.append(pack(lease_id & SEQUENCE, cost, index, 0))
            else:
                parts += (pack(lease_id & SEQUENCE, cost, index, len(leases)), *leases)
        alone = [(self.key(record), lease) for record, leases in freed.items() for lease in leases]
        head = _HEAD.pack(encode_time(now_ms), self._owner, len(alone))
        arguments.values[0] = b"".join([head, *(lease for _, lease in alone), *parts])
        return Call(ACQUIRE if parts else RELEASE, [*(key for key, _ in alone), *keys], arguments.values)

    def _acquire_one(self, claim: PlainClaim, released: Sequence[ReleasedLease], now_ms: int | None) -> Call:
        """`acquire` for one claim, in half of the steps: a caller that is alone waits for each of them."""
        record, plan, cost, lease_id = claim
        own, others, keys = [], [], []
        for other, released_id in released:
            if other == record:
                own.append(_RELEASE.pack(released_id & SEQUENCE))
            else:
                others.append(_RELEASE.pack(released_id & SEQUENCE))
                keys.append(self.key(other))
        keys.append(self.key(record))
        head = _HEAD.pack(encode_time(now_ms), self._owner, len(others))
        asked = _CLAIM.pack(lease_id & SEQUENCE, cost, _FIRST_PLAN, len(own))
        return Call(ACQUIRE, keys, [b"".join((head, *others, asked, *own)), encoded_plan(plan).argument])

    def parse_decisions(
        self, claims: Iterable[PlainClaim], reply: bytes, hold_times: HoldTimes, on_grant: OnGrant
    ) -> list[Decision | BackendUnavailable]:
        """The decisions in the reply to `acquire`, in the order of `claims`; an error for a record that is corrupt.

        The holder of an admitted Decision is what `on_grant` returns. Refusals and peeks have the holder None: there is
        nothing to settle.
        """
        decisions: list[Decision | BackendUnavailable] = []
        at, last = 0, None
        for claim in claims:
            subject, plan, cost, lease_id = claim
            if plan is not last:
                last, (_, _, _, _, answer_bytes, unpack_answer, _, _) = plan, encoded_plan(plan)
            decided_at_ms, exceeded, held, *levels = unpack_answer(reply, at)
            at += answer_bytes
            lease, holder, wait_ms = 0, None, 0
            if exceeded:
                if exceeded < 0:
                    decisions.append(damaged(self.key(subject), exceeded))
                    continue
                if exceeded & plan.slot_bit:
                    wait_ms = hold_times.slot_wait_ms(plan)
            if lease_id and not exceeded & plan.enforced:
                lease = lease_id if plan.slot_bit and not exceeded & plan.slot_bit else 0
                holder = on_grant(claim, decided_at_ms, lease)
            answer = (subject, plan, cost, decided_at_ms, exceeded, levels, held, lease, holder, wait_ms)
            decisions.append(_new(Decision, answer))
        return decisions

    def renew(self, held: Iterable[HeldLease], settled_below: int = 0, now_ms: int | None = None) -> Call:
        """Extend the leases in `held` by their ttl. A lost lease is taken again if a slot is free.

        The script also ends this owner's leases on the same records that are not in `held` and have an id below
        `settled_below`: their release was lost. It must not exceed the id of a claim in flight; 0 ends none.
        """
        keys: list[bytes] = []
        parts = [_RENEW_HEAD.pack(encode_time(now_ms), self._owner, settled_below & SEQUENCE)]
        for record, leases in by_record(held).items():
            keys.append(self.key(record))
            parts.append(_LEASES.pack(len(leases)))
            parts += [encode_lease(plan, lease_id, granted_at_ms) for _, plan, lease_id, granted_at_ms in leases]
        return Call(RENEW, keys, [b"".join(parts)])

    @staticmethod
    def parse_renewals(held: Iterable[HeldLease], reply: bytes) -> list[tuple[HeldLease, Renewal]]:
        """The results in the reply to `renew`."""
        ordered = [lease for leases in by_record(held).values() for lease in leases]
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
        The lease ids come from `new_lease_id`. `moments` choose the calendar periods, if the plans have any.
        """
        keys: list[bytes] = []
        parts = [_HEAL_HEAD.pack(encode_time(now_ms), self._owner, _HEALED_ONCE_IN_MS)]
        arguments = Arguments()
        seen: Counter[Record] = Counter()
        for record, plan, debts, leases in entries:
            # Numbered per record, not per call: when slots of a cluster move, a retry groups the entries differently.
            keys += (self.key(record), b"%b::%b%d" % (self.key(record), heal_id, seen[record]))
            if isinstance(record, ScopedSubject):
                keys.append(self.keys.index(record.subject))
            seen[record] += 1
            parts += (_HEALED.pack(arguments.index_of_plan(plan, moments), len(leases)), scope_bytes(record))
            parts += [_DEBT.pack(debt) for _, debt in zip(plan.rates, debts, strict=True)]
            parts += [_HEALED_LEASE.pack(lease_id & SEQUENCE, ends_ms(plan, at_ms)) for lease_id, at_ms in leases]
        arguments.values[0] = b"".join(parts)
        return Call(HEAL, keys, arguments.values)

    def parse_heal(self, entries: Sequence[HealEntry], reply: bytes) -> list[bool | BackendUnavailable]:
        """The results in the reply to `heal`, in order: True, False if it was done before, or an error."""
        answers = Struct(f"<{len(entries)}q").unpack(reply)
        return [
            damaged(self.key(record), answer) if answer < 0 else bool(answer)
            for (record, *_), answer in zip(entries, answers, strict=True)
        ]

    def reset_scope(self, record: Record, now_ms: int | None = None) -> Call:
        """Clear the debts of one record, but never its leases."""
        keys = [self.keys.index(subject_of(record)), self.key(record)]
        return Call(RESET, keys, [_RESET.pack(encode_time(now_ms), self._owner, False)])

    def reset(self, subject: str, scopes: Sequence[bytes] = (), now_ms: int | None = None) -> Call:
        """Clear the debts of `subject` without a scope and in these `scopes`, but never its leases.

        The reply is all scopes of the subject, with commas, and nothing is done, if one of them is not in `scopes`.
        """
        key = self.key(subject)
        keys = [self.keys.index(subject), key, *(b"%b:%b" % (key, scope) for scope in scopes)]
        return Call(RESET, keys, [_RESET.pack(encode_time(now_ms), self._owner, True), *scopes])

    def reset_outcome(self, subject: str, reply: bytes | int) -> list[bytes] | bool:
        """The scopes that `reset` must name too; once it is done, if it found a debt. Raises BackendUnavailable."""
        if isinstance(reply, bytes):
            return [scope for scope in reply.split(b",") if scope]
        if reply < 0:
            raise damaged(self.key(subject), reply)
        return reply > 0
