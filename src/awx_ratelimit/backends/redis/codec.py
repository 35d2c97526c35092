"""Encodes the calls of the scripts and decodes their replies: bytes only, without I/O.

The layouts of arguments and replies are documented at the top of each script. Times are milliseconds since the epoch,
at most `MAX_TIME_MS` away from it. None means the server's own time.
"""

from binascii import b2a_base64
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from struct import Struct
from typing import Any, Final, TypeAlias, TypeVar

from awx_ratelimit.backends.redis.scripts import (
    ACQUIRE,
    HEAL,
    REFUND,
    RELEASE,
    RENEW,
    RESET,
    SEQUENCE,
    SEQUENCE_BITS,
    Call,
    argument_index,
    encode_lease,
    encode_time,
    encoded_plan,
    ends_ms,
)
from awx_ratelimit.core.decision import Decision, HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import BackendUnavailable, StateDamaged

MAX_PREFIX_BYTES: Final = 64
OWNER_BYTES: Final = 16

OfSubject = TypeVar("OfSubject", bound=tuple[Any, ...])
#: A claim: subject, plan, cost, lease id. The lease id 0 marks a peek; other claims have an id even without slots.
PendingClaim: TypeAlias = tuple[str, Plan, int, int]
#: Called for each admitted claim with the claim, the time of the decision, and the lease id (0 if it took no slot).
#: Returns the holder of the Decision.
OnGrant: TypeAlias = Callable[[PendingClaim, int, int], object]
#: A lease to release: subject, lease id.
ReleasedLease: TypeAlias = tuple[str, int]
#: A lease to renew: subject, plan, lease id, time of the grant.
HeldLease: TypeAlias = tuple[str, Plan, int, int]
#: What a fallback decided for a subject: subject, plan, the debt of each rate, and each open lease with its grant time.
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
_DAMAGE = {
    -1: "does not hold a string",
    -2: "holds a value of another program or another version",
    -3: "holds a corrupt value",
}
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__


class Renewal(IntEnum):
    """The result of renewing a lease. A lost lease is taken again if a slot is free; `max_hold_ms` ends a lease."""

    LOST = 0
    RENEWED = 1
    TAKEN_AGAIN = 2
    ENDED = 3


class Codec:
    """Encodes and decodes for one owner of leases, which is one process. Any thread may use it.

    `prefix` begins every key. It has at most 64 bytes, and no braces, which would choose a key's slot on a cluster.
    `owner` is 16 random bytes. Raises TypeError or ValueError for a wrong prefix or owner.
    """

    def __init__(self, prefix: str, owner: bytes) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix: expected a string such as 'awx', got {describe(prefix)}")
        if len(prefix.encode()) > MAX_PREFIX_BYTES or "{" in prefix or "}" in prefix:
            raise ValueError(f"prefix: expected at most {MAX_PREFIX_BYTES} bytes without braces, got {prefix!r}")
        if len(owner) != OWNER_BYTES:
            raise ValueError(f"owner: expected {OWNER_BYTES} bytes, got {len(owner)}")
        self._owner = owner
        self._key_start = f"{prefix}:{{".encode()
        self._cached_key = lru_cache(_SUBJECTS_CACHED)(self._new_key)
        #: Returns an unused lease id. A claim gets its id before it is first sent and keeps it for each retry.
        self.new_lease_id = count((int.from_bytes(owner) << SEQUENCE_BITS) + 1).__next__

    def key(self, subject: str) -> bytes:
        """The key of `subject`: short for any subject, with a hash tag that spreads subjects over a cluster."""
        return self._cached_key(subject) if len(subject) <= _LONGEST_CACHED else self._new_key(subject)

    def _new_key(self, subject: str) -> bytes:
        # A subject may contain lone surrogates.
        digest = blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return self._key_start + b2a_base64(digest, newline=False)[:22] + b"}"

    def acquire(
        self, claims: Iterable[PendingClaim], released: Sequence[ReleasedLease] = (), now_ms: int | None = None
    ) -> Call:
        """Release the leases in `released`, then decide `claims`, in the given order and in one atomic step.

        A lease travels with the first claim of its subject, so that the script reads and writes the subject once.
        """
        freed: dict[str, list[bytes]] = {}
        for subject, lease_id in released:
            freed.setdefault(subject, []).append(_RELEASE.pack(lease_id & SEQUENCE))
        keys: list[bytes] = []
        args = [b""]
        parts: list[bytes] = []
        indexes: dict[int, int] = {}
        last, index = None, 0
        for subject, plan, cost, lease_id in claims:
            if plan is not last:
                last, index = plan, argument_index(plan, indexes, args)
            keys.append(self.key(subject))
            leases = freed.pop(subject, ()) if freed else ()
            parts.append(_CLAIM.pack(lease_id & SEQUENCE, cost, index, len(leases)))
            parts += leases
        alone = [(self.key(subject), lease) for subject, leases in freed.items() for lease in leases]
        head = _HEAD.pack(encode_time(now_ms), self._owner, len(alone))
        args[0] = b"".join([head, *(lease for _, lease in alone), *parts])
        return Call(ACQUIRE if parts else RELEASE, [*(key for key, _ in alone), *keys], args)

    def parse_decisions(
        self, claims: Iterable[PendingClaim], reply: bytes, hold_times: HoldTimes, on_grant: OnGrant
    ) -> list[Decision | BackendUnavailable]:
        """The decisions in the reply to `acquire`, in the order of `claims`; an error for a subject that is corrupt.

        The holder of an admitted Decision is what `on_grant` returns. Refusals and peeks have the holder None: there is
        nothing to refund.
        """
        decisions: list[Decision | BackendUnavailable] = []
        at, last = 0, None
        for claim in claims:
            subject, plan, cost, lease_id = claim
            if plan is not last:
                last, (_, answer_bytes, unpack_answer) = plan, encoded_plan(plan)
            decided_at_ms, exceeded, held, *levels = unpack_answer(reply, at)
            at += answer_bytes
            lease, holder, wait_ms = 0, None, 0
            if exceeded:
                if exceeded < 0:
                    decisions.append(self._damage(subject, exceeded))
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

        The script also ends this owner's leases on the same subjects that are not in `held` and have an id below
        `settled_below`: their release was lost. It must not exceed the id of a claim in flight; 0 ends none.
        """
        keys: list[bytes] = []
        parts = [_RENEW_HEAD.pack(encode_time(now_ms), self._owner, settled_below & SEQUENCE)]
        for subject, leases in by_subject(held).items():
            keys.append(self.key(subject))
            parts.append(_LEASES.pack(len(leases)))
            parts += [encode_lease(plan, lease_id, granted_at_ms) for _, plan, lease_id, granted_at_ms in leases]
        return Call(RENEW, keys, [b"".join(parts)])

    @staticmethod
    def parse_renewals(held: Iterable[HeldLease], reply: bytes) -> dict[int, Renewal]:
        """The results in the reply to `renew`, by lease id."""
        ordered = [lease_id for leases in by_subject(held).values() for _, _, lease_id, _ in leases]
        return {lease_id: Renewal(answer) for lease_id, answer in zip(ordered, reply, strict=True)}

    def heal(self, entries: Sequence[HealEntry], heal_id: bytes, now_ms: int | None = None) -> Call:
        """Add the debts in `entries`, up to each capacity, and enter their leases. Nothing is refused.

        Repeating the call with the same unique `heal_id` within an hour changes nothing. A subject may appear twice.
        The lease ids come from `new_lease_id`.
        """
        keys: list[bytes] = []
        args = [b""]
        parts = [_HEAL_HEAD.pack(encode_time(now_ms), self._owner, _HEALED_ONCE_IN_MS)]
        indexes: dict[int, int] = {}
        seen: Counter[str] = Counter()
        for subject, plan, debts, leases in entries:
            # Numbered per subject, not per call: when slots of a cluster move, a retry groups the entries differently.
            keys += (self.key(subject), b"%b:%b%d" % (self.key(subject), heal_id, seen[subject]))
            seen[subject] += 1
            parts.append(_HEALED.pack(argument_index(plan, indexes, args), len(leases)))
            parts += [_DEBT.pack(debt) for _, debt in zip(plan.rates, debts, strict=True)]
            parts += [_HEALED_LEASE.pack(lease_id & SEQUENCE, ends_ms(plan, at_ms)) for lease_id, at_ms in leases]
        args[0] = b"".join(parts)
        return Call(HEAL, keys, args)

    def parse_heal(self, entries: Sequence[HealEntry], reply: bytes) -> list[bool | BackendUnavailable]:
        """The results in the reply to `heal`, in order: True, False if it was done before, or an error."""
        answers = Struct(f"<{len(entries)}q").unpack(reply)
        return [
            self._damage(subject, answer) if answer < 0 else bool(answer)
            for (subject, *_), answer in zip(entries, answers, strict=True)
        ]

    def refund(self, decision: Decision, now_ms: int | None = None) -> Call:
        """Give back what `decision` charged and time has not refilled. The caller must not refund twice."""
        numbers = decision.cost, decision.decided_at_ms, decision.exceeded
        head = _REFUND.pack(encode_time(now_ms), self._owner, *numbers)
        return Call(REFUND, [self.key(decision.subject)], [head, encoded_plan(decision.plan).argument])

    def reset(self, subject: str, now_ms: int | None = None) -> Call:
        """Clear the debts of `subject`, but never its leases."""
        return Call(RESET, [self.key(subject)], [_RESET.pack(encode_time(now_ms), self._owner)])

    def check_done(self, subject: str, reply: int) -> None:
        """Raise BackendUnavailable unless the refund or reset of `subject` succeeded."""
        if reply < 0:
            raise self._damage(subject, reply)

    def _damage(self, subject: str, code: int) -> StateDamaged:
        return StateDamaged(f"key {self.key(subject).decode()} {_DAMAGE[code]}; delete the key, or use another prefix")


def by_subject(items: Iterable[OfSubject]) -> dict[str, list[OfSubject]]:
    """Group `items`, which begin with their subjects."""
    groups: dict[str, list[OfSubject]] = {}
    for item in items:
        groups.setdefault(item[0], []).append(item)
    return groups
