"""Plans as the functions read them: lines of text for limits, and numbers. See acquire.sql for the layout."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from awx_ratelimit.backends.postgres.arrays import BIGINT, BIGINTS, BYTEA, bigint, bigints
from awx_ratelimit.backends.postgres.schema import Function, Statement, statement
from awx_ratelimit.backends.postgres.single import MAX_RATES as MAX_SINGLE_RATES
from awx_ratelimit.backends.postgres.single import function_name
from awx_ratelimit.backends.remote.encoding import MAX_LATER, MAX_TIME_MS, Moments, bounds, encode_calendar
from awx_ratelimit.core.joint_claim import Charge, Costs
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_cache import PlanCache
from awx_ratelimit.core.rate import EXACT_MAX, REQUESTS, Rate
from awx_ratelimit.errors import InvalidLimit

#: The most rates of a plan: exceeded limits are the bits of one number.
MAX_RATES: Final = 50
MAX_TTL_MS: Final = 2**32 - 1
_NOT_CHARGED: Final = -1
_OF_CALENDAR: Final = -1
#: How many costs of a plan have statements of their own.
_MAX_FIRST_COSTS: Final = 5
#: The bounds of the period that contains the present, and of those of stored times.
_NO_PERIODS: Final = (0, 0) * (1 + MAX_LATER)
_NUMBERS_OF_RATE: Final = 6 + len(_NO_PERIODS)
#: The position of the tokens of the first rate, in the numbers of a charge after that of its head.
_TOKENS_AT: Final = 9


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


def _template(plan: Plan) -> list[int]:
    """The numbers of a charge of `plan` after that of its head: without tokens, and without calendar periods."""
    concurrency = plan.concurrency
    head_of(plan)
    slots_mode = (1 if plan.enforced & plan.slot_bit else 2) if concurrency else 0
    ttl_ms = min(concurrency.ttl_ms, MAX_TTL_MS) if concurrency else 0
    numbers = [len(plan.rates), slots_mode, ttl_ms, min(plan.slots, EXACT_MAX), min(plan.max_hold_ms or 0, EXACT_MAX)]
    for _, bit, rate in plan.numbered_rates:
        period_ms = _OF_CALENDAR if rate.period else min(rate.period_ms, EXACT_MAX)
        drain = 0 if rate.calendar else rate.drain
        numbers += (rate.unit, drain, rate.capacity, period_ms, 0, int(plan.enforced & bit > 0), *_NO_PERIODS)
    return numbers


#: By plan only: clients may choose costs.
_template_of: Final = PlanCache(_template).get


def _numbers(charge: Charge) -> list[int]:
    """The numbers of a charge after that of its head, without calendar periods."""
    numbers = [*_template_of(charge.plan)]
    for number in range(len(charge.plan.rates)):
        numbers[_TOKENS_AT + _NUMBERS_OF_RATE * number] = _tokens(charge, number)
    return numbers


def _tokens(charge: Charge, number: int) -> int:
    if charge.costs is not None:
        tokens = charge.costs[number]
        return _NOT_CHARGED if tokens is None else tokens
    return charge.cost if charge.plan.rates[number].measure == REQUESTS else _NOT_CHARGED


def check_encodable(charges: Sequence[Charge]) -> None:
    """Raise InvalidLimit for a plan with more than MAX_RATES rates. In a batch it would fail all other claims."""
    for charge in charges:
        head_of(charge.plan)


class Charges:
    """The charges and the heads of a call, each once."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.heads: list[str] = []
        self._heads: dict[str, int] = {}
        #: By plan, cost and moments. The claims keep their plans.
        self._places: dict[tuple[int, int, Costs | None, Moments], int] = {}

    def place_of(self, charge: Charge, moments: Moments) -> int:
        """The position of `charge`, from 1. `moments` choose the periods of its calendar rates."""
        plan, cost, costs = charge
        key = id(plan), cost, costs, moments
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._add(charge, moments)
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
                at = place + 5 + _NUMBERS_OF_RATE * (index // 2) + 6
                for at_ms in (moments.now_ms, *moments.later_ms[-MAX_LATER:]):
                    self.numbers[at : at + 2] = bounds(rate.periods, at_ms)
                    at += 2
        return place


class Singles(NamedTuple):
    """How the functions of `single` and `many` decide a plan and a cost.

    `alone` is the statement for a claim that is alone, and `replacing` for one with a lease that is released, which is
    None for plans without slots. They take `parameters` after their own.
    """

    rates: int
    terms: tuple[int, ...]
    alone: Statement
    replacing: Statement | None
    parameters: Callable[[], tuple[bytes | None, ...]] | None = None


class _SinglePlan:
    """Singles of a plan. The text of its statements has the costs that are used first: parameters take a fifth longer.

    Clients may choose costs, so there are few of these, and nothing is kept of others.
    """

    def __init__(self, place: str, plan: Plan) -> None:
        self._plan = plan
        #: A larger cost never fits, but a debt that drains below zero would leave room for it.
        self._largest_cost = min((rate.burst for rate in plan.rates), default=EXACT_MAX)
        self._has_slots = plan.concurrency is not None
        self._place = place
        self._any = self._statements(None)
        #: By cost.
        self._first: dict[int, Singles] = {}
        self.of(1)

    def of(self, cost: int) -> Singles | None:
        """Singles of a cost; None for one above a burst."""
        if cost > self._largest_cost:
            return None
        known, rates = self._first.get(cost), len(self._plan.rates)
        if known is None and len(self._first) < _MAX_FIRST_COSTS:
            known = self._first[cost] = Singles(rates, self._terms(cost), *self._statements(cost))
        return known or Singles(rates, self._terms(cost), *self._any, partial(self._parameters, cost))

    def _parameters(self, cost: int) -> tuple[bytes | None, ...]:
        terms = self._terms(cost)
        places = [at + more for at in range(3, len(terms), 4) for more in (0, 1)]
        return (*[bigint(terms[at]) for at in places], bigints(self._charges(cost)))

    def _terms(self, cost: int) -> tuple[int, ...]:
        _, slots_mode, ttl_ms, slots, *_ = _template_of(self._plan)
        terms = [slots, ttl_ms] if slots_mode else [0, 0]
        for rate in self._plan.rates:
            # In the last of them, the largest debt drains that can be stored.
            terms += (rate.drain, cost * rate.unit, rate.capacity - cost * rate.unit, EXACT_MAX // rate.drain + 1)
        return tuple(terms)

    def _charges(self, cost: int) -> tuple[int, ...]:
        return (1, *_numbers(Charge(self._plan, cost, None)))

    def _statements(self, cost: int | None) -> tuple[Statement, Statement | None]:
        rates, place = len(self._plan.rates), self._place
        name = function_name(rates, slots=self._has_slots, replaces=False)
        alone = statement(place, self._function(name, (BYTEA, BIGINTS, BIGINT), cost))
        if not self._has_slots:
            return alone, None
        name = function_name(rates, slots=True, replaces=True)
        return alone, statement(place, self._function(name, (BYTEA, BIGINTS, BIGINT, BIGINT), cost))

    def _function(self, name: str, types: tuple[int, ...], cost: int | None) -> Function:
        """The function with the numbers of a cost as literals, or with parameters after `types` if it is None."""
        later, terms = list[int](), self._terms(cost or 0)
        arguments = [f"{number}::bigint" for number in (terms if self._has_slots else terms[2:])]
        charges = "'{" + ",".join(map(str, self._charges(cost or 0))) + "}'::bigint[]"
        if cost is None:
            for at in range(2 if self._has_slots else 0, len(arguments), 4):
                for place in (at + 1, at + 2):
                    later.append(BIGINT)
                    arguments[place] = f"${len(types) + len(later)}"
            later.append(BIGINTS)
            charges = f"${len(types) + len(later)}"
        # Names of limits have no quotes and no backslashes.
        limits = head_of(self._plan).replace("\t", "\\t").replace("\n", "\\n")
        literals = "".join(f", {each}" for each in (*arguments, charges, f"E'{limits}'"))
        return Function(name, types, literals, tuple(later))


class SingleStatements:
    """The calls of the functions of `single`, by plan and cost. `place` is the ``schema.prefix`` of the tables."""

    def __init__(self, place: str) -> None:
        self._of_plan = PlanCache(lambda plan: _SinglePlan(place, plan) if _is_single(plan) else None).get

    def of(self, plan: Plan, cost: int) -> Singles | None:
        """None for a plan that these functions do not know, and for a cost above a burst."""
        known = self._of_plan(plan)
        return known.of(cost) if known is not None else None


def _is_single(plan: Plan) -> bool:
    if len(plan.rates) > MAX_SINGLE_RATES or plan.is_unlimited or plan.shadowed or plan.max_hold_ms:
        return False
    return not any(rate.calendar for rate in plan.rates)


def checked_time(now_ms: int | None) -> int | None:
    """Return `now_ms`; None is the server's own time. Raises ValueError beyond 2**52 ms."""
    if now_ms is None or -MAX_TIME_MS <= now_ms <= MAX_TIME_MS:
        return now_ms
    raise ValueError(f"clock: expected -2**52 to 2**52 ms since the epoch, got {now_ms}")
