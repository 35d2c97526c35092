"""What the scripts are asked and what they answer, as bytes: pure, and without a client.

A `Call` is one call of one script; on a cluster, all its keys must share a slot. The layouts of its arguments are
written at the top of each script. Times are milliseconds since the epoch, within `MAX_TIME_MS` of
it; None is the server's.
"""

from binascii import b2a_base64
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from awx_ratelimit.backends.redis.scripts import ACQUIRE, HEAL, REFUND, RELEASE, RENEW, RESET, Script
from awx_ratelimit.backends.redis.wire import SEQUENCE, SEQUENCE_BITS, ends_ms, packed, packed_lease, place_of, time_of
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import BackendUnavailable, StateDamaged

MAX_PREFIX_BYTES: Final = 64
OWNER_BYTES: Final = 16

#: A claim: subject, plan, cost, lease id; one with the lease id 0 only looks. It has one without slots too.
PendingClaim: TypeAlias = tuple[str, Plan, int, int]
#: Told of an admitted claim, when it was decided, and the id of the slot that was taken (0 is none): its holder.
OnGrant: TypeAlias = Callable[[PendingClaim, int, int], object]
#: A lease to give back: subject, lease id.
ReleasedLease: TypeAlias = tuple[str, int]
#: A lease to renew: subject, plan, lease id, when it was granted.
HeldLease: TypeAlias = tuple[str, Plan, int, int]
#: What a fallback charged and holds: subject, plan, what each rate of the plan owes by now, and open leases with the
#: times when they were granted.
HealEntry: TypeAlias = tuple[str, Plan, Sequence[int], Sequence[tuple[int, int]]]

_HEAD = Struct(f"<d{OWNER_BYTES}sH")
_RELEASE = Struct("<Q")
_CLAIM = Struct("<QdHH")
_RENEW_HEAD = Struct(f"<d{OWNER_BYTES}sQ")
_LEASES = Struct("<H")
_HEAL_HEAD = Struct(f"<d{OWNER_BYTES}sd")
_HEALED = Struct("<HH")
_DEBT = Struct("<d")
_HEALED_LEASE = Struct("<Qd")
_REFUND = Struct(f"<d{OWNER_BYTES}sddd")
_RESET = Struct(f"<d{OWNER_BYTES}s")
_HEALED_ONCE_IN_MS = 3_600_000
_SUBJECTS_CACHED = 8_192
_LONGEST_CACHED = 256
_WRONG = {
    -1: "holds another type than a string",
    -2: "holds a value that is none of ours, or of another version",
    -3: "holds a value that is damaged",
}
#: What `Decision(...)` ends in, without the call in between.
_new = tuple.__new__


class Call(NamedTuple):
    """One call: the script, the keys it touches, and its arguments."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes]


class Renewal(IntEnum):
    """What became of a lease; one that was lost is taken again where there is room, and `max_hold_ms` ends one."""

    LOST = 0
    RENEWED = 1
    TAKEN_AGAIN = 2
    ENDED = 3


class Codec:
    """Calls and answers for one owner of leases: one process, and after a fork another. Any thread may use it.

    `prefix` stands before each key; `owner` is 16 bytes that nobody else has. Raises ValueError for a prefix of more
    than 64 bytes, and for one with a brace, which would decide a key's slot on a cluster.
    """

    def __init__(self, prefix: str, owner: bytes) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix is {describe(prefix)}; use a string such as 'awx'")
        if len(prefix.encode()) > MAX_PREFIX_BYTES or "{" in prefix or "}" in prefix:
            raise ValueError(f"prefix is {prefix!r}; allowed are at most {MAX_PREFIX_BYTES} bytes without braces")
        if len(owner) != OWNER_BYTES:
            raise ValueError(f"owner has {len(owner)} bytes; allowed are {OWNER_BYTES}")
        self._owner = owner
        self._before_digest = f"{prefix}:{{".encode()
        self._recent_key = lru_cache(_SUBJECTS_CACHED)(self._made_key)
        #: A lease id that was not used before. It is made before a claim is first sent, and is the same for each try.
        self.new_lease_id = count((int.from_bytes(owner) << SEQUENCE_BITS) + 1).__next__

    def check(self, plan: Plan) -> None:
        """Raise InvalidLimit for a plan that a script cannot decide: before it is in a batch with others."""
        packed(plan)

    def key(self, subject: str) -> bytes:
        """The one key of `subject`: short whatever that is, and with a slot of its own on a cluster."""
        return self._recent_key(subject) if len(subject) <= _LONGEST_CACHED else self._made_key(subject)

    def _made_key(self, subject: str) -> bytes:
        # A lone surrogate is a subject too.
        digest = blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return self._before_digest + b2a_base64(digest, newline=False)[:22] + b"}"

    def acquire(
        self, asked: Iterable[PendingClaim], released: Sequence[ReleasedLease] = (), now_ms: int | None = None
    ) -> Call:
        """Free the leases in `released`, then decide the claims in `asked`, all in their order and in one step.

        A lease goes with the first claim of its subject, so that the subject is read and written once.
        """
        freed: dict[str, list[bytes]] = {}
        for subject, lease_id in released:
            freed.setdefault(subject, []).append(_RELEASE.pack(lease_id & SEQUENCE))
        keys: list[bytes] = []
        args = [b""]
        parts: list[bytes] = []
        places: dict[int, int] = {}
        last, place = None, 0
        for subject, plan, cost, lease_id in asked:
            if plan is not last:
                last, place = plan, place_of(plan, places, args)
            keys.append(self.key(subject))
            leases = freed.pop(subject, ()) if freed else ()
            parts.append(_CLAIM.pack(lease_id & SEQUENCE, cost, place, len(leases)))
            parts += leases
        alone = [(self.key(subject), lease) for subject, leases in freed.items() for lease in leases]
        head = _HEAD.pack(time_of(now_ms), self._owner, len(alone))
        args[0] = b"".join([head, *(lease for _, lease in alone), *parts])
        return Call(ACQUIRE if parts else RELEASE, [*(key for key, _ in alone), *keys], args)

    def decisions(
        self, asked: Iterable[PendingClaim], reply: bytes, hold_times: HoldTimes, granted: OnGrant
    ) -> list[Decision | BackendUnavailable]:
        """What the call for `asked` answered, in the same order; an error stands where there is no decision.

        The Decision of an admitted claim has what `granted` returns for it as its holder; that of a refusal and of a
        look has None: nothing to refund.
        """
        decisions: list[Decision | BackendUnavailable] = []
        at, last = 0, None
        for claim in asked:
            subject, plan, cost, lease_id = claim
            if plan is not last:
                last, (_, answer_bytes, unpack_answer) = plan, packed(plan)
            decided_at_ms, over, held, *levels = unpack_answer(reply, at)
            at += answer_bytes
            lease, holder, wait_ms = 0, None, 0
            if over:
                if over < 0:
                    decisions.append(self._wrong(subject, over))
                    continue
                if over & plan.slot_bit:
                    wait_ms = hold_times.slot_wait_ms(plan)
            if lease_id and not over & plan.enforced:
                lease = lease_id if plan.slot_bit and not over & plan.slot_bit else 0
                holder = granted(claim, decided_at_ms, lease)
            answer = (subject, plan, cost, decided_at_ms, over, levels, held, lease, holder, wait_ms)
            decisions.append(_new(Decision, answer))
        return decisions

    def renew(self, held: Iterable[HeldLease], settled_below: int = 0, now_ms: int | None = None) -> Call:
        """Let the leases in `held` live on for their ttl, and take those again that were lost where there is room.

        Leases of this owner with an id below `settled_below`, on the same subjects and not in `held`, end: what should
        have released them was lost. It must not pass the id of a claim that is in flight. 0 ends none.
        """
        keys: list[bytes] = []
        parts = [_RENEW_HEAD.pack(time_of(now_ms), self._owner, settled_below & SEQUENCE)]
        for subject, leases in _by_subject(held).items():
            keys.append(self.key(subject))
            parts.append(_LEASES.pack(len(leases)))
            parts += [packed_lease(plan, lease_id, granted_at_ms) for _, plan, lease_id, granted_at_ms in leases]
        return Call(RENEW, keys, [b"".join(parts)])

    @staticmethod
    def renewals(held: Iterable[HeldLease], reply: bytes) -> dict[int, Renewal]:
        """What the call for `held` answered, by lease id."""
        ordered = [lease_id for leases in _by_subject(held).values() for _, _, lease_id, _ in leases]
        return {lease_id: Renewal(answer) for lease_id, answer in zip(ordered, reply, strict=True)}

    def heal(self, healed: Sequence[HealEntry], heal_id: bytes, now_ms: int | None = None) -> Call:
        """Add what `healed` owe to what is owed, at most to the full, and enter their leases: nothing is refused.

        Once for each `heal_id` (a few bytes that are used for no other) within an hour, however often it is sent; a
        subject may be in it twice. A lease may be of a decision that a fallback made, with an id of `new_lease_id`.
        """
        keys: list[bytes] = []
        args = [b""]
        parts = [_HEAL_HEAD.pack(time_of(now_ms), self._owner, _HEALED_ONCE_IN_MS)]
        places: dict[int, int] = {}
        met: Counter[str] = Counter()
        for subject, plan, debts, leases in healed:
            # Not its place among all: sent again after slots of a cluster have moved, it stands beside others.
            keys += (self.key(subject), b"%b:%b%d" % (self.key(subject), heal_id, met[subject]))
            met[subject] += 1
            parts.append(_HEALED.pack(place_of(plan, places, args), len(leases)))
            parts += [_DEBT.pack(debt) for _, debt in zip(plan.rates, debts, strict=True)]
            parts += [_HEALED_LEASE.pack(lease_id & SEQUENCE, ends_ms(plan, at_ms)) for lease_id, at_ms in leases]
        args[0] = b"".join(parts)
        return Call(HEAL, keys, args)

    def heals(self, healed: Sequence[HealEntry], reply: bytes) -> list[bool | BackendUnavailable]:
        """What the call for `healed` answered, in the same order: False where it was done before."""
        answers = Struct(f"<{len(healed)}q").unpack(reply)
        return [
            self._wrong(subject, answer) if answer < 0 else bool(answer)
            for (subject, *_), answer in zip(healed, answers, strict=True)
        ]

    def refund(self, decision: Decision, now_ms: int | None = None) -> Call:
        """Give back what `decision` charged and time has not given back yet. That it is once is the caller's care."""
        numbers = decision.cost, decision.decided_at_ms, decision.exceeded
        head = _REFUND.pack(time_of(now_ms), self._owner, *numbers)
        return Call(REFUND, [self.key(decision.subject)], [head, packed(decision.plan).argument])

    def reset(self, subject: str, now_ms: int | None = None) -> Call:
        """Forget what `subject` owes, never its leases."""
        return Call(RESET, [self.key(subject)], [_RESET.pack(time_of(now_ms), self._owner)])

    def done(self, subject: str, reply: int) -> None:
        """Raise BackendUnavailable unless a refund or a reset of `subject` was done."""
        if reply < 0:
            raise self._wrong(subject, reply)

    def _wrong(self, subject: str, code: int) -> StateDamaged:
        return StateDamaged(f"key {self.key(subject).decode()} {_WRONG[code]}; delete it, or use another prefix")


def _by_subject(held: Iterable[HeldLease]) -> dict[str, list[HeldLease]]:
    by_subject: dict[str, list[HeldLease]] = {}
    for lease in held:
        by_subject.setdefault(lease[0], []).append(lease)
    return by_subject
