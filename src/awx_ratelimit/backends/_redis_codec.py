"""What the scripts are asked and what they answer, as bytes: pure, and without a client.

A `Call` is one call of one script; on a cluster, all its keys must share a slot. The layouts of its arguments are
written at the top of each script. Times are milliseconds since the epoch, within `MOST_MS` of it; None is the server's.
"""

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from math import nan
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

from awx_ratelimit.backends._redis_scripts import ACQUIRE, REFUND, RENEW, RESET, Script
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.holding import HoldTimes
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.core.rates import EXACT_MAX, Rate
from awx_ratelimit.errors import BackendUnavailable, InvalidLimit

#: Beyond it a sum of times could pass 2**53, up to which a script counts exactly.
MOST_MS: Final = 2**52
#: The limits of a decision are the bits of one number in a script.
MOST_RATES: Final = 50
MOST_PREFIX_BYTES: Final = 64
OWNER_BYTES: Final = 16
#: A lease id is the owner's number, and below it the sequence, which is unique in its owner.
SEQUENCE_BITS: Final = 48

#: A claim: subject, plan, cost, lease id; one with the lease id 0 only looks. It has one without slots too.
Asked: TypeAlias = tuple[str, Plan, int, int]
#: Told of an admitted claim, when it was decided, and the id of the slot that was taken (0 is none): its holder.
Granted: TypeAlias = Callable[[Asked, int, int], object]
#: A lease to give back: subject, lease id.
Released: TypeAlias = tuple[str, int]
#: A lease to renew: subject, plan, lease id, when it was granted.
Held: TypeAlias = tuple[str, Plan, int, int]

_HEAD = Struct(f"<d{OWNER_BYTES}sH")
_RELEASE = Struct("<Q")
_CLAIM = Struct("<QdH")
_RENEW_HEAD = Struct(f"<d{OWNER_BYTES}sQ")
_LEASES = Struct("<H")
_LEASE = Struct("<QdId")
_REFUND = Struct(f"<d{OWNER_BYTES}sddd")
_RESET = Struct(f"<d{OWNER_BYTES}s")
_PLAN = Struct("<BHBIdd")
_RATE = Struct("<ddddB")
_STATE_VERSION = 1
_SEQUENCE = (1 << SEQUENCE_BITS) - 1
_MOST_TTL_MS = 2**32 - 1
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
        if len(prefix.encode()) > MOST_PREFIX_BYTES or "{" in prefix or "}" in prefix:
            raise ValueError(f"prefix is {prefix!r}; allowed are at most {MOST_PREFIX_BYTES} bytes without braces")
        if len(owner) != OWNER_BYTES:
            raise ValueError(f"owner has {len(owner)} bytes; allowed are {OWNER_BYTES}")
        self._owner = owner
        self._before_digest = f"{prefix}:{{".encode()
        self._recent_key = lru_cache(_SUBJECTS_CACHED)(self._made_key)
        #: A lease id that was not used before. It is made before a claim is first sent, and is the same for each try.
        self.new_lease_id = count((int.from_bytes(owner) << SEQUENCE_BITS) + 1).__next__

    def check(self, plan: Plan) -> None:
        """Raise InvalidLimit for a plan that a script cannot decide: before it is in a batch with others."""
        _packed(plan)

    def key(self, subject: str) -> bytes:
        """The one key of `subject`: short whatever that is, and with a slot of its own on a cluster."""
        return self._recent_key(subject) if len(subject) <= _LONGEST_CACHED else self._made_key(subject)

    def _made_key(self, subject: str) -> bytes:
        # A lone surrogate is a subject too.
        digest = blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return self._before_digest + b2a_base64(digest, newline=False)[:22] + b"}"

    def acquire(self, asked: Iterable[Asked], released: Sequence[Released] = (), now_ms: int | None = None) -> Call:
        """Free the leases in `released`, then decide the claims in `asked`, all in their order and in one step."""
        keys: list[bytes] = []
        args = [b""]
        parts = [_HEAD.pack(_time(now_ms), self._owner, len(released))]
        for subject, lease_id in released:
            keys.append(self.key(subject))
            parts.append(_RELEASE.pack(lease_id & _SEQUENCE))
        places: dict[int, int] = {}
        for subject, plan, cost, lease_id in asked:
            place = places.get(id(plan))
            if place is None:
                args.append(_packed(plan).argument)
                place = places[id(plan)] = len(args)
            keys.append(self.key(subject))
            parts.append(_CLAIM.pack(lease_id & _SEQUENCE, cost, place))
        args[0] = b"".join(parts)
        return Call(ACQUIRE, keys, args)

    def decisions(
        self, asked: Iterable[Asked], reply: bytes, hold_times: HoldTimes, granted: Granted
    ) -> list[Decision | BackendUnavailable]:
        """What the call for `asked` answered, in the same order; an error stands where there is no decision.

        The Decision of an admitted claim has what `granted` returns for it as its holder; that of a refusal and of a
        look has None: nothing to refund.
        """
        decisions: list[Decision | BackendUnavailable] = []
        at = 0
        for claim in asked:
            subject, plan, cost, lease_id = claim
            packed = _packed(plan)
            decided_at_ms, over, held, *levels = packed.unpack_answer(reply, at)
            at += packed.answer_bytes
            if over < 0:
                decisions.append(self._wrong(subject, over))
                continue
            slot_over = over & plan.slot_bit
            wait_ms = hold_times.slot_wait_ms(plan) if slot_over else 0
            lease, holder = 0, None
            if lease_id and not over & plan.enforced:
                lease = lease_id if plan.slot_bit and not slot_over else 0
                holder = granted(claim, decided_at_ms, lease)
            answer = (subject, plan, cost, decided_at_ms, over, levels, held, lease, holder, wait_ms)
            decisions.append(_new(Decision, answer))
        return decisions

    def renew(self, held: Iterable[Held], settled_below: int = 0, now_ms: int | None = None) -> Call:
        """Let the leases in `held` live on for their ttl, and take those again that were lost where there is room.

        Leases of this owner with an id below `settled_below`, on the same subjects and not in `held`, end: what should
        have released them was lost. It must not pass the id of a claim that is in flight. 0 ends none.
        """
        keys: list[bytes] = []
        parts = [_RENEW_HEAD.pack(_time(now_ms), self._owner, settled_below & _SEQUENCE)]
        for subject, leases in _by_subject(held).items():
            keys.append(self.key(subject))
            parts.append(_LEASES.pack(len(leases)))
            parts += [_lease(plan, lease_id, granted_at_ms) for _, plan, lease_id, granted_at_ms in leases]
        return Call(RENEW, keys, [b"".join(parts)])

    @staticmethod
    def renewals(held: Iterable[Held], reply: bytes) -> dict[int, Renewal]:
        """What the call for `held` answered, by lease id."""
        ordered = [lease_id for leases in _by_subject(held).values() for _, _, lease_id, _ in leases]
        return {lease_id: Renewal(answer) for lease_id, answer in zip(ordered, reply, strict=True)}

    def refund(self, decision: Decision, now_ms: int | None = None) -> Call:
        """Give back what `decision` charged and time has not given back yet. That it is once is the caller's care."""
        numbers = decision.cost, decision.decided_at_ms, decision.over
        head = _REFUND.pack(_time(now_ms), self._owner, *numbers)
        return Call(REFUND, [self.key(decision.subject)], [head, _packed(decision.plan).argument])

    def reset(self, subject: str, now_ms: int | None = None) -> Call:
        """Forget what `subject` owes, never its leases."""
        return Call(RESET, [self.key(subject)], [_RESET.pack(_time(now_ms), self._owner)])

    def done(self, subject: str, reply: int) -> None:
        """Raise BackendUnavailable unless a refund or a reset of `subject` was done."""
        if reply < 0:
            raise self._wrong(subject, reply)

    def _wrong(self, subject: str, code: int) -> BackendUnavailable:
        return BackendUnavailable(f"key {self.key(subject).decode()} {_WRONG[code]}; delete it, or use another prefix")


class _Packed(NamedTuple):
    """A plan as scripts take it, and how they answer a claim of it."""

    argument: bytes
    answer_bytes: int
    unpack_answer: Any


def _packed(plan: Plan) -> _Packed:
    packed: _Packed | None = plan.memo.get("redis")
    if packed is None:
        packed = plan.memo["redis"] = _made(plan)
    return packed


def _made(plan: Plan) -> _Packed:
    if len(plan.rates) > MOST_RATES:
        raise InvalidLimit(
            f"plan {plan.name!r} has {len(plan.rates)} rates; Redis decides at most {MOST_RATES} at once"
        )
    names = b"".join(
        bytes([len(rate.name)]) + rate.name.encode() + rate.unit.to_bytes(8, "little") for rate in plan.rates
    )
    head = bytes([_STATE_VERSION, len(plan.rates)]) + len(names).to_bytes(2, "little") + names
    slots = plan.concurrency
    counts = (1 if plan.enforced & plan.slot_bit else 2) if slots else 0
    ttl_ms = min(slots.ttl_ms, _MOST_TTL_MS) if slots else 0
    most_slots, max_hold_ms = min(plan.slots, EXACT_MAX), min(plan.max_hold_ms or 0, EXACT_MAX)
    numbers = _PLAN.pack(len(plan.rates), len(head), counts, ttl_ms, most_slots, max_hold_ms)
    rates = b"".join(_rate(rate, bool(plan.enforced & bit)) for _, bit, rate in plan.numbered_rates)
    answer = Struct(f"<{3 + 2 * len(plan.rates)}q")
    return _Packed(numbers + head + rates, answer.size, answer.unpack_from)


def _rate(rate: Rate, enforced: bool) -> bytes:
    drain = 0 if rate.calendar else rate.drain
    # A period beyond all times is beyond them as well if it is cut to what a script counts exactly.
    return _RATE.pack(rate.unit, drain, rate.capacity, min(rate.period_ms, EXACT_MAX), enforced)


def _lease(plan: Plan, lease_id: int, granted_at_ms: int) -> bytes:
    assert plan.concurrency is not None
    ends_ms = granted_at_ms + min(plan.max_hold_ms, EXACT_MAX) if plan.max_hold_ms else 0
    ttl_ms = min(plan.concurrency.ttl_ms, _MOST_TTL_MS)
    return _LEASE.pack(lease_id & _SEQUENCE, min(plan.slots, EXACT_MAX), ttl_ms, ends_ms)


def _by_subject(held: Iterable[Held]) -> dict[str, list[Held]]:
    by_subject: dict[str, list[Held]] = {}
    for lease in held:
        by_subject.setdefault(lease[0], []).append(lease)
    return by_subject


def _time(now_ms: int | None) -> float:
    if now_ms is None:
        return nan
    if -MOST_MS <= now_ms <= MOST_MS:
        return now_ms
    raise ValueError(f"the clock says {now_ms} ms; Redis counts exactly from -2**52 to 2**52 ms")
