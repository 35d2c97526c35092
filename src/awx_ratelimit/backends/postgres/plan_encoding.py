"""Plans as the functions read them: lines of text for limits, and numbers. See acquire.sql for the layout."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from awx_ratelimit.backends.postgres.arrays import BIGINT, BIGINTS, BYTEA
from awx_ratelimit.backends.postgres.schema import Function, Statement, statement
from awx_ratelimit.backends.postgres.single import MAX_RATES as MAX_SINGLE_RATES
from awx_ratelimit.backends.postgres.single import function_name
from awx_ratelimit.backends.remote.encoding import MAX_LATER, MAX_TIME_MS, Moments, bounds, encode_calendar
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.core.plan_cache import PlanCache
from awx_ratelimit.core.rate import EXACT_MAX, REQUESTS, Rate
from awx_ratelimit.errors import InvalidLimit

#: The most rates of a plan: exceeded limits are the bits of one number.
MAX_RATES: Final = 50
MAX_TTL_MS: Final = 2**32 - 1
_NOT_CHARGED: Final = -1
_OF_CALENDAR: Final = -1
#: The bounds of the period that contains the present, and of those of stored times.
_NO_PERIODS: Final = (0, 0) * (1 + MAX_LATER)


def limit_line(rate: Rate) -> str:
    """The name of a rate, and the numbers by which its debt is counted, as they are stored: see tables.sql."""
    drain = 0 if rate.calendar else rate.drain
    calendar = encode_calendar(rate).decode() if rate.period else ""
    # A period longer than all times stays longer than all times when it is cut to the largest exact number.
    period_ms = min(rate.period_ms, EXACT_MAX)
    return f"{rate.name}\t{rate.unit}\t{rate.capacity}\t{drain}\t{period_ms}\t{calendar}"


def _head(plan: Plan) -> str:
    if len(plan.rates) > MAX_RATES:
        raise InvalidLimit(
            f"plan {plan.name!r}: expected at most {MAX_RATES} rates on PostgreSQL, got {len(plan.rates)}"
        )
    return "\n".join(map(limit_line, plan.rates))


#: The limits of a plan as text. Raises InvalidLimit for more than MAX_RATES rates.
head_of: Final = PlanCache(_head).get

#: By identity. An entry keeps its Charge, so its id is not used again.
_charges: dict[int, tuple[list[int], Charge]] = {}


def _numbers(charge: Charge) -> list[int]:
    """The numbers of a charge after that of its head, without periods of the calendar."""
    known = _charges.get(id(charge))
    if known is not None:
        return known[0]
    plan, concurrency = charge.plan, charge.plan.concurrency
    head_of(plan)
    slots_mode = (1 if plan.enforced & plan.slot_bit else 2) if concurrency else 0
    ttl_ms = min(concurrency.ttl_ms, MAX_TTL_MS) if concurrency else 0
    numbers = [len(plan.rates), slots_mode, ttl_ms, min(plan.slots, EXACT_MAX), min(plan.max_hold_ms or 0, EXACT_MAX)]
    for index, bit, rate in plan.numbered_rates:
        period_ms = _OF_CALENDAR if rate.period else min(rate.period_ms, EXACT_MAX)
        drain = 0 if rate.calendar else rate.drain
        tokens, enforced = _tokens(charge, index // 2), int(plan.enforced & bit > 0)
        numbers += (rate.unit, drain, rate.capacity, period_ms, tokens, enforced, *_NO_PERIODS)
    if len(_charges) >= MAX_CACHED_PLANS:
        _charges.clear()
    _charges[id(charge)] = numbers, charge
    return numbers


def _tokens(charge: Charge, number: int) -> int:
    if charge.costs is not None:
        tokens = charge.costs[number]
        return _NOT_CHARGED if tokens is None else tokens
    return charge.cost if charge.plan.rates[number].measure == REQUESTS else _NOT_CHARGED


def check_encodable(charges: Sequence[Charge]) -> None:
    """Raise InvalidLimit for a plan with more than MAX_RATES rates. In a batch it would fail all other claims."""
    for charge in charges:
        _numbers(charge)


class Charges:
    """The charges and the heads of a call, each once."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.heads: list[str] = []
        self._heads: dict[str, int] = {}
        self._places: dict[tuple[int, Moments], int] = {}

    def place_of(self, charge: Charge, moments: Moments) -> int:
        """The position of `charge`, from 1. `moments` choose the periods of its calendar rates."""
        place = self._places.get((id(charge), moments))
        if place is None:
            place = self._places[id(charge), moments] = self._add(charge, moments)
        return place

    def _add(self, charge: Charge, moments: Moments) -> int:
        head = head_of(charge.plan)
        if head not in self._heads:
            self.heads.append(head)
            self._heads[head] = len(self.heads)
        place = len(self.numbers) + 1
        self.numbers += (self._heads[head], *_numbers(charge))
        for index, _, rate in charge.plan.numbered_rates:
            if rate.period:
                at = place + 5 + (6 + len(_NO_PERIODS)) * (index // 2) + 6
                for at_ms in (moments.now_ms, *moments.later_ms[-MAX_LATER:]):
                    self.numbers[at : at + 2] = bounds(rate.periods, at_ms)
                    at += 2
        return place


_plain: dict[tuple[int, int], Charge] = {}


def plain_charge(plan: Plan, cost: int) -> Charge:
    """The charge of a plain claim: always the same object."""
    charge = _plain.get((id(plan), cost))
    if charge is None:
        if len(_plain) >= MAX_CACHED_PLANS:
            _plain.clear()
        charge = _plain[id(plan), cost] = Charge(plan, cost, None)
    return charge


class Singles(NamedTuple):
    """How the functions of `single` and `many` decide a plan and a cost.

    `alone` is the statement for a claim that is alone, and `replacing` for one with a lease that is released, which is
    None for plans without slots.
    """

    rates: int
    terms: tuple[int, ...]
    alone: Statement
    replacing: Statement | None


class SingleStatements:
    """The calls of the functions of `single`, by plan and cost. `place` is the ``schema.prefix`` of the tables."""

    def __init__(self, place: str) -> None:
        self._place = place
        #: By the ids of plans, which the entries keep, and the cost.
        self._known: dict[tuple[int, int], tuple[Singles | None, Plan]] = {}

    def of(self, plan: Plan, cost: int) -> Singles | None:
        """None for a plan that these functions do not know."""
        known = self._known.get((id(plan), cost))
        if known is None:
            if len(self._known) >= MAX_CACHED_PLANS:
                self._known.clear()
            known = self._known[id(plan), cost] = _singles(self._place, plan, cost), plan
        return known[0]


def _singles(place: str, plan: Plan, cost: int) -> Singles | None:
    rates = len(plan.rates)
    if rates > MAX_SINGLE_RATES or plan.is_unlimited or plan.shadowed or plan.max_hold_ms:
        return None
    if any(rate.calendar for rate in plan.rates):
        return None
    _, slots_mode, ttl_ms, slots, *_ = charge = _numbers(plain_charge(plan, cost))
    of_slots, of_rates = (slots, ttl_ms) if slots_mode else (), list[int]()
    for rate in plan.rates:
        # In this time, the largest debt drains that can be stored.
        full_ms = EXACT_MAX // rate.drain + 1
        of_rates += (rate.drain, cost * rate.unit, rate.capacity - cost * rate.unit, full_ms)
    charges = "{" + ",".join(map(str, (1, *charge))) + "}"
    # Names of limits have no quotes and no backslashes.
    limits = head_of(plan).replace("\t", "\\t").replace("\n", "\\n")
    literals = (
        "".join(f", {number}::bigint" for number in (*of_slots, *of_rates)) + f", '{charges}'::bigint[], E'{limits}'"
    )
    alone = Function(function_name(rates, slots=slots_mode > 0, replaces=False), (BYTEA, BIGINTS, BIGINT), literals)
    replacing = Function(function_name(rates, slots=True, replaces=True), (BYTEA, BIGINTS, BIGINT, BIGINT), literals)
    return Singles(
        rates,
        (*(of_slots or (0, 0)), *of_rates),
        statement(place, alone),
        statement(place, replacing) if slots_mode else None,
    )


def checked_time(now_ms: int | None) -> int | None:
    """Return `now_ms`; None is the server's own time. Raises ValueError beyond 2**52 ms."""
    if now_ms is None or -MAX_TIME_MS <= now_ms <= MAX_TIME_MS:
        return now_ms
    raise ValueError(f"clock: expected -2**52 to 2**52 ms since the epoch, got {now_ms}")
