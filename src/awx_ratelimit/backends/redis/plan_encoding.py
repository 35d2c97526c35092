"""Plans, leases and times as the scripts read them. See acquire.lua, joint.lua and renew.lua for the layouts."""

from collections.abc import Sequence
from itertools import chain
from math import nan
from struct import Struct
from typing import Any, Final, NamedTuple

from awx_ratelimit.backends.remote.encoding import (
    MAX_LATER,
    MAX_TIME_MS,
    SEQUENCE,
    Moments,
    bounds,
    encode_calendar,
    ends_ms,
)
from awx_ratelimit.core.calendar_periods import Periods
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_cache import CostCache, PlanCache
from awx_ratelimit.core.rate import EXACT_MAX, REQUESTS, Rate
from awx_ratelimit.errors import InvalidLimit

#: The most rates of a plan: a script reports exceeded limits as the bits of one number.
MAX_RATES: Final = 50

_PLAN = Struct("<BHBIdd")
_RATE = Struct("<ddddB")
_CHARGED_RATE = Struct("<dddddB")
_DRAIN = Struct("<qq")
#: The period that contains the present, and those of stored times.
_PERIODS = Struct("<8d")
_LEASE = Struct("<QdId")
_STATE_VERSION = 2
_MAX_TTL_MS = 2**32 - 1
_NOT_CHARGED = -1


class EncodedPlan(NamedTuple):
    """A plan as a script argument, without the periods of its calendar rates.

    `start` is the part before the rates. `calendars` are the periods to append. A `plain` plan has none and counts only
    requests. The last two unpack a script's answer to a plain claim; `unpack_levels` is for a record of a JointClaim.
    """

    start: bytes
    argument: bytes
    calendars: tuple[Periods, ...]
    is_plain: bool
    answer_bytes: int
    unpack_answer: Any
    levels_bytes: int
    unpack_levels: Any


def _encode(plan: Plan) -> EncodedPlan:
    if len(plan.rates) > MAX_RATES:
        raise InvalidLimit(f"plan {plan.name!r}: expected at most {MAX_RATES} rates on Redis, got {len(plan.rates)}")
    names = b"".join(map(encode_limit, plan.rates))
    head = bytes([_STATE_VERSION, len(plan.rates)]) + len(names).to_bytes(2, "little") + names
    concurrency = plan.concurrency
    slots_mode = (1 if plan.enforced & plan.slot_bit else 2) if concurrency else 0
    ttl_ms = min(concurrency.ttl_ms, _MAX_TTL_MS) if concurrency else 0
    slots, max_hold_ms = min(plan.slots, EXACT_MAX), min(plan.max_hold_ms or 0, EXACT_MAX)
    start = _PLAN.pack(len(plan.rates), len(head), slots_mode, ttl_ms, slots, max_hold_ms) + head
    places = _calendar_places(plan, len(start) + _RATE.size * len(plan.rates))
    rates = [
        _RATE.pack(*_rate_numbers(rate, place), bool(plan.enforced & bit))
        for (_, bit, rate), place in zip(plan.numbered_rates, places, strict=True)
    ]
    calendars = tuple(rate.periods for rate in plan.rates if rate.period)
    answer, levels = Struct(f"<{3 + 2 * len(plan.rates)}q"), Struct(f"<{2 + 2 * len(plan.rates)}q")
    is_plain = plan.is_plain and not calendars
    return EncodedPlan(
        start, start + b"".join(rates), calendars, is_plain, answer.size, answer.unpack_from, levels.size,
        levels.unpack_from,
    )  # fmt: skip


def encode_limit(rate: Rate) -> bytes:
    """The name of a rate, and the numbers by which its debt is counted, as they are stored: see state.lua."""
    unit, burst = _shortest(rate.unit), _shortest(rate.capacity // rate.unit)
    kind, more = 0, b""
    if rate.period:
        calendar = encode_calendar(rate)
        kind, more = 2, bytes([len(calendar)]) + calendar
    elif rate.calendar and rate.period_ms == rate.unit:
        kind = 1
    elif rate.calendar or rate.period_ms != rate.unit or rate.drain != rate.burst:
        # A period longer than all times stays longer than all times when it is cut to the largest exact number.
        kind, more = 3, _DRAIN.pack(0 if rate.calendar else rate.drain, min(rate.period_ms, EXACT_MAX))
    name = bytes([len(rate.name)]) + rate.name.encode()
    return name + bytes([64 * kind + 8 * len(unit) + len(burst)]) + unit + burst + more


def _shortest(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def _calendar_places(plan: Plan, end: int) -> list[int]:
    """For each rate, the position (from 1) of its periods in an argument whose rates end at `end`; 0 without any."""
    places, place = [], end + 1
    for rate in plan.rates:
        places.append(place if rate.period else 0)
        place += _PERIODS.size if rate.period else 0
    return places


def _rate_numbers(rate: Rate, place: int) -> tuple[int, int, int, int]:
    drain = 0 if rate.calendar else rate.drain
    # A period longer than all times stays longer than all times when it is cut to the largest exact number.
    return rate.unit, drain, rate.capacity, -place or min(rate.period_ms, EXACT_MAX)


#: The encoding of a plan, cached. Raises InvalidLimit for more than `MAX_RATES` rates.
encoded_plan: Final = PlanCache(_encode).get

#: By identity. An entry keeps its Charge, so its id is not used again.
_charges: CostCache[tuple[bytes, Charge]] = CostCache()


def _encoded_charge(charge: Charge) -> bytes:
    """A charge as an argument of joint.lua, without the periods of its calendar rates."""
    known = _charges.get(id(charge))
    if known is not None:
        return known[0]
    plan, start = charge.plan, encoded_plan(charge.plan).start
    places = _calendar_places(plan, len(start) + _CHARGED_RATE.size * len(plan.rates))
    rates = [
        _CHARGED_RATE.pack(
            *_rate_numbers(rate, places[index // 2]), _tokens(charge, index // 2), plan.enforced & bit > 0
        )
        for index, bit, rate in plan.numbered_rates
    ]
    return _charges.keep(id(charge), (start + b"".join(rates), charge), charge.cost)[0]


def check_encodable(charges: Sequence[Charge]) -> None:
    """Raise InvalidLimit for a plan with more than `MAX_RATES` rates. In a batch it would fail all other claims."""
    for charge in charges:
        _encoded_charge(charge)


def _tokens(charge: Charge, number: int) -> int:
    if charge.costs is not None:
        tokens = charge.costs[number]
        return _NOT_CHARGED if tokens is None else tokens
    return charge.cost if charge.plan.rates[number].measure == REQUESTS else _NOT_CHARGED


class Arguments:
    """The arguments of a call after the first: each plan and each charge once."""

    def __init__(self) -> None:
        #: The first one is to be set.
        self.values = [b""]
        self._indexes: dict[tuple[int, Moments | None], int] = {}

    def index_of_plan(self, plan: Plan, moments: Moments | None = None) -> int:
        """The index of `plan`, from 1. `moments` are needed if it has calendar rates."""
        index = self._indexes.get((id(plan), moments))
        if index is None:
            _, argument, calendars, *_ = encoded_plan(plan)
            index = self._add((id(plan), moments), argument, calendars)
        return index

    def index_of_charge(self, charge: Charge, moments: Moments) -> int:
        """The index of `charge`, from 1."""
        index = self._indexes.get((id(charge), moments))
        if index is None:
            index = self._add((id(charge), moments), _encoded_charge(charge), encoded_plan(charge.plan).calendars)
        return index

    def _add(self, key: tuple[int, Moments | None], argument: bytes, calendars: Sequence[Periods]) -> int:
        if calendars:
            assert key[1] is not None
            argument += b"".join(encode_periods(periods, key[1]) for periods in calendars)
        self.values.append(argument)
        index = self._indexes[key] = len(self.values)
        return index


def encode_periods(periods: Periods, moments: Moments) -> bytes:
    """The periods of a calendar rate that contain these moments."""
    known = [bounds(periods, at_ms) for at_ms in (moments.now_ms, *moments.later_ms[-MAX_LATER:])]
    known += [(0, 0)] * (1 + MAX_LATER - len(known))
    return _PERIODS.pack(*chain.from_iterable(known))


def encode_lease(plan: Plan, lease_id: int, granted_at_ms: int) -> bytes:
    """Encode a lease of `plan` for renewal."""
    assert plan.concurrency is not None
    ttl_ms = min(plan.concurrency.ttl_ms, _MAX_TTL_MS)
    return _LEASE.pack(lease_id & SEQUENCE, min(plan.slots, EXACT_MAX), ttl_ms, ends_ms(plan, granted_at_ms))


def encode_time(now_ms: int | None) -> float:
    """`now_ms` as the scripts take it; None, the server's own time, becomes NaN. Raises ValueError beyond 2**52 ms."""
    if now_ms is None:
        return nan
    if -MAX_TIME_MS <= now_ms <= MAX_TIME_MS:
        return now_ms
    raise ValueError(f"clock: expected -2**52 to 2**52 ms since the epoch, got {now_ms}")
