"""How plans, leases and times stand in the arguments of the scripts: see the top of acquire.lua and renew.lua."""

from math import nan
from struct import Struct
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.plan import Plan, PlanCache
from awx_ratelimit.core.rate import EXACT_MAX, Rate
from awx_ratelimit.errors import InvalidLimit

#: Beyond it a sum of times could pass 2**53, up to which a script counts exactly.
MAX_TIME_MS: Final = 2**52
#: The limits of a decision are the bits of one number in a script.
MAX_RATES: Final = 50
#: A lease id is the owner's number, and below it the sequence, which is unique in its owner.
SEQUENCE_BITS: Final = 48
#: The bits of the sequence.
SEQUENCE: Final = (1 << SEQUENCE_BITS) - 1

_PLAN = Struct("<BHBIdd")
_RATE = Struct("<ddddB")
_LEASE = Struct("<QdId")
_STATE_VERSION = 1
_MAX_TTL_MS = 2**32 - 1


class Packed(NamedTuple):
    """A plan as scripts take it, and how they answer a claim of it."""

    argument: bytes
    answer_bytes: int
    unpack_answer: Any


def place_of(plan: Plan, places: dict[int, int], args: list[bytes]) -> int:
    """Which argument `plan` is, from 1; it is appended where it is none yet. `places` knows plans by identity."""
    place = places.get(id(plan))
    if place is None:
        args.append(packed(plan).argument)
        place = places[id(plan)] = len(args)
    return place


def _made(plan: Plan) -> Packed:
    if len(plan.rates) > MAX_RATES:
        raise InvalidLimit(f"plan {plan.name!r} has {len(plan.rates)} rates; Redis decides at most {MAX_RATES} at once")
    names = b"".join(
        bytes([len(rate.name)]) + rate.name.encode() + rate.unit.to_bytes(8, "little") for rate in plan.rates
    )
    head = bytes([_STATE_VERSION, len(plan.rates)]) + len(names).to_bytes(2, "little") + names
    slots = plan.concurrency
    counts = (1 if plan.enforced & plan.slot_bit else 2) if slots else 0
    ttl_ms = min(slots.ttl_ms, _MAX_TTL_MS) if slots else 0
    most_slots, max_hold_ms = min(plan.slots, EXACT_MAX), min(plan.max_hold_ms or 0, EXACT_MAX)
    numbers = _PLAN.pack(len(plan.rates), len(head), counts, ttl_ms, most_slots, max_hold_ms)
    rates = b"".join(_rate(rate, bool(plan.enforced & bit)) for _, bit, rate in plan.numbered_rates)
    answer = Struct(f"<{3 + 2 * len(plan.rates)}q")
    return Packed(numbers + head + rates, answer.size, answer.unpack_from)


def _rate(rate: Rate, enforced: bool) -> bytes:
    drain = 0 if rate.calendar else rate.drain
    # A period beyond all times is beyond them as well if it is cut to what a script counts exactly.
    return _RATE.pack(rate.unit, drain, rate.capacity, min(rate.period_ms, EXACT_MAX), enforced)


#: The form of a plan, made once. Raises InvalidLimit for more than `MAX_RATES` rates.
packed: Final = PlanCache(_made).get


def packed_lease(plan: Plan, lease_id: int, granted_at_ms: int) -> bytes:
    """A lease of `plan` as the scripts take it."""
    assert plan.concurrency is not None
    ttl_ms = min(plan.concurrency.ttl_ms, _MAX_TTL_MS)
    return _LEASE.pack(lease_id & SEQUENCE, min(plan.slots, EXACT_MAX), ttl_ms, ends_ms(plan, granted_at_ms))


def ends_ms(plan: Plan, granted_at_ms: int) -> int:
    """When a lease ends at the latest; 0 for never."""
    return granted_at_ms + min(plan.max_hold_ms, EXACT_MAX) if plan.max_hold_ms else 0


def time_of(now_ms: int | None) -> float:
    """`now_ms` as the scripts take it, NaN for the server's own time. Raises ValueError beyond 2**52 ms."""
    if now_ms is None:
        return nan
    if -MAX_TIME_MS <= now_ms <= MAX_TIME_MS:
        return now_ms
    raise ValueError(f"the clock says {now_ms} ms; Redis counts exactly from -2**52 to 2**52 ms")
