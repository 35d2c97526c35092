"""`Plan`: a named set of rates and at most one concurrency limit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from sys import maxsize
from types import MappingProxyType
from typing import Any, Final, Never, TypeAlias

from awx_ratelimit.core.calendar_periods import Period
from awx_ratelimit.core.option_names import PLAN_HINTS, with_option_hints
from awx_ratelimit.core.rate import EXACT_MAX, REQUESTS, Concurrency, Rate
from awx_ratelimit.core.state_layout import Layout, layout_of
from awx_ratelimit.core.validation import check_bool, exact_int, set_fields, short_repr
from awx_ratelimit.errors import ImpossibleClaim, InvalidLimit

PERIODS_MS: Final = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
#: Callers may bring a new Plan with each request, so caches of plans are bounded.
MAX_CACHED_PLANS: Final = 4_096
#: The factors of products that compiled code computes in 64 bits. All other products need `core.bucket.product`.
MAX_FACTOR: Final = 2**31 - 1
#: A rate that a plain cost charges: the indexes of its debt and time, bit, unit, drain, capacity, whether it is a
#: calendar rate, and the rate. What is multiplied is `Any`: see `core.bucket.product`. See also "Unpacked tuples" in
#: docs/hot-path.md.
Step: TypeAlias = tuple[int, int, int, Any, Any, int, bool, Rate]
#: The charge (for a cost of 1), the drain and the capacity of two rates. See "The unrolled loop" in docs/hot-path.md.
Pair: TypeAlias = tuple[int, int, int, int, int, int]
#: The layout, pair, slots, slot bit and max_hold_ms of a plan.
Terms: TypeAlias = tuple[Layout, Pair | None, int, int, int | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A named set of rates and at most one concurrency limit, decided together.

    `account` is the plan that all keys of an account share, in the scope ``account``. A gate decides both together.

    `shadow=True` puts every limit in shadow: it is evaluated and reported, but refuses nothing. Only the plan of
    `Plan.unlimited` has no limits. Raises InvalidLimit for two limits with the same name.
    """

    name: str
    rates: tuple[Rate, ...] = ()
    concurrency: Concurrency | None = None
    account: "Plan | None" = None
    shadow: bool = False
    is_unlimited: bool = False
    layout: Layout = field(init=False, repr=False, compare=False)
    numbered_rates: tuple[tuple[int, int, Rate], ...] = field(init=False, repr=False, compare=False)
    steps: tuple[Step, ...] = field(init=False, repr=False, compare=False)
    pair: Pair | None = field(init=False, repr=False, compare=False)
    slots: int = field(init=False, repr=False, compare=False)
    max_hold_ms: int | None = field(init=False, repr=False, compare=False)
    slot_bit: int = field(init=False, repr=False, compare=False)
    terms: Terms = field(init=False, repr=False, compare=False)
    is_plain: bool = field(init=False, repr=False, compare=False)  # whether every rate counts requests
    enforced: int = field(init=False, repr=False, compare=False)
    shadowed: int = field(init=False, repr=False, compare=False)
    max_cost: int = field(init=False, repr=False, compare=False)  # the largest possible, in requests and by measure
    max_costs: Mapping[str, int] = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_fields(self, rates=self._validated_rates())
        limits: tuple[Rate | Concurrency, ...] = (*self.rates, self.concurrency) if self.concurrency else self.rates
        if bool(limits) == self.is_unlimited:
            wrong = "is unlimited and has limits; omit one" if limits else "has no limit; add a Rate or a Concurrency"
            raise InvalidLimit(f"plan {self.name!r} {wrong}, or write Plan.unlimited({self.name!r})")
        enforced = [not (self.shadow or limit.shadow) for limit in limits]
        max_costs = _max_costs([rate for rate, counts in zip(self.rates, enforced, strict=False) if counts])
        set_fields(
            self,
            layout=layout_of(self.rates),
            numbered_rates=tuple((2 * index, 1 << index, rate) for index, rate in enumerate(self.rates)),
            steps=tuple(_step(index, rate) for index, rate in enumerate(self.rates) if rate.measure == REQUESTS),
            pair=_pair(self.rates),
            slots=self.concurrency.slots if self.concurrency else maxsize,
            max_hold_ms=self.concurrency.max_hold_ms if self.concurrency else None,
            slot_bit=1 << len(self.rates) if self.concurrency else 0,
            enforced=sum(1 << index for index, counts in enumerate(enforced) if counts),
            shadowed=sum(1 << index for index, counts in enumerate(enforced) if not counts),
            is_plain=all(rate.measure == REQUESTS for rate in self.rates),
            max_cost=max_costs.get(REQUESTS, EXACT_MAX),
            max_costs=max_costs,
            _hash=hash((self.name, self.rates, self.concurrency, self.account, self.shadow)),
        )

        set_fields(self, terms=(self.layout, self.pair, self.slots, self.slot_bit, self.max_hold_ms))

    def _validated_rates(self) -> tuple[Rate, ...]:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidLimit(f"a plan's name: expected a non-empty string, got {self.name!r}")
        if not self.name.isprintable():
            # Logs, terminals and metrics show the name.
            raise InvalidLimit(f"a plan's name: expected printable characters and spaces, got {short_repr(self.name)}")
        rates = self._listed_rates()
        if self.concurrency is not None and not isinstance(self.concurrency, Concurrency):
            raise InvalidLimit(
                f"plan {self.name!r}: concurrency: expected a Concurrency or None, got {self.concurrency!r}; "
                "write Concurrency(5)"
            )
        if self.account is not None and (not isinstance(self.account, Plan) or self.account.account):
            raise InvalidLimit(
                f"plan {self.name!r}: account: expected a Plan without an account, got {short_repr(self.account)}"
            )
        check_bool(self.shadow, f"plan {self.name!r}: shadow")
        check_bool(self.is_unlimited, f"plan {self.name!r}: is_unlimited")
        names = [rate.name for rate in rates]
        for name in names:
            if names.count(name) > 1:
                raise InvalidLimit(f"plan {self.name!r} has two limits named {name!r}; names must be unique in a plan")
        return rates

    def _listed_rates(self) -> tuple[Rate, ...]:
        if isinstance(self.rates, str | Rate) or not isinstance(self.rates, Iterable):
            rates_given = "a Rate" if isinstance(self.rates, Rate) else short_repr(self.rates)
            raise InvalidLimit(
                f"plan {self.name!r}: rates: expected a tuple of Rate objects, got {rates_given}; write "
                "rates=(Rate.parse('60/minute'),)"
            )
        rates = tuple(self.rates)
        for number, rate in enumerate(rates):
            if not isinstance(rate, Rate):
                raise InvalidLimit(
                    f"plan {self.name!r}: rates[{number}]: expected a Rate, got {short_repr(rate)}; write "
                    "Rate.parse('60/minute')"
                )
        return rates

    @classmethod
    @with_option_hints(PLAN_HINTS)
    def of(
        cls,
        name: str,
        *misplaced: Never,
        per_second: int | None = None,
        per_minute: int | None = None,
        per_hour: int | None = None,
        per_day: int | None = None,
        per_week: int | None = None,
        per_month: int | None = None,
        concurrent: int | None = None,
        account: "Plan | None" = None,
        shadow: bool = False,
    ) -> "Plan":
        """A plan of rates and of `concurrent` slots. None means no limit.

        The burst of a rate equals its tokens. Weeks and months are calendar periods, in UTC; the other rates are
        continuous. `account` is the plan that all keys of an account share.
        """
        if misplaced:
            raise TypeError(
                f"Plan.of takes each limit as a keyword argument, got {short_repr(misplaced[0])}; "
                f"write Plan.of({short_repr(name)}, per_minute=60)"
            )
        numbers = {"second": per_second, "minute": per_minute, "hour": per_hour, "day": per_day}
        rates = [Rate(unit, tokens, PERIODS_MS[unit]) for unit, tokens in numbers.items() if tokens is not None]
        calendar: dict[Period, int | None] = {"week": per_week, "month": per_month}
        rates += [Rate(unit, tokens, period=unit) for unit, tokens in calendar.items() if tokens is not None]
        slots = None if concurrent is None else Concurrency(concurrent)
        return cls(name, tuple(rates), slots, account=account, shadow=shadow)

    @classmethod
    def unlimited(cls, name: str) -> "Plan":
        """A plan without limits. Its callers are identified and counted, and never refused by the plan itself."""
        return cls(name, is_unlimited=True)

    def merged_with(self, other: "Plan") -> "Plan":
        """This plan with the limits of `other` too. At most one of them has slots, and no two limits share a name."""
        own, others = _without_plan_shadow(self), _without_plan_shadow(other)
        if own.is_unlimited or others.is_unlimited:
            return others if own.is_unlimited else own
        return Plan(self.name, own.rates + others.rates, own.concurrency or others.concurrency)

    def check(self, cost: int) -> int:
        """`cost` as an exact int. Raises ValueError unless it is at least 1, ImpossibleClaim if it is above a burst."""
        if cost.__class__ is int and 1 <= cost <= self.max_cost:
            return cost
        if isinstance(cost, bool) or not isinstance(cost, int) or cost < 1:
            raise ValueError(f"cost: expected an integer >= 1, got {short_repr(cost)}")
        if exact_int(cost) > self.max_cost:
            raise self.impossible(cost, REQUESTS)
        return exact_int(cost)

    def impossible(self, cost: int, measure: str) -> ImpossibleClaim:
        """The error for a cost that is above a burst."""
        burst = f"{self.max_costs[measure]}{'' if measure == REQUESTS else f' {measure}'}"
        return ImpossibleClaim(
            f"cost {cost} is above {burst}, the largest burst of plan {self.name!r}: no wait can help"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan, (self.name, self.rates, self.concurrency, self.account, self.shadow, self.is_unlimited)

    def __hash__(self) -> int:
        return self._hash


# The initializer is the one that `dataclass` writes.
Plan.__init__ = with_option_hints(PLAN_HINTS)(Plan.__init__)  # type: ignore[method-assign]


def _without_plan_shadow(plan: Plan) -> Plan:
    """The same limits, with `shadow` set on each of them instead of on the plan."""
    if not plan.shadow:
        return plan
    rates = tuple(replace(rate, shadow=True) for rate in plan.rates)
    return Plan(plan.name, rates, plan.concurrency and replace(plan.concurrency, shadow=True))


def _step(index: int, rate: Rate) -> Step:
    return 2 * index, 2 * index + 1, 1 << index, rate.unit, rate.drain, rate.capacity, rate.calendar, rate


def _pair(rates: tuple[Rate, ...]) -> Pair | None:
    """The unit, drain and capacity of both rates, if there are exactly two and both are usual ones; else None."""
    if len(rates) != 2 or any(rate.calendar or rate.measure != REQUESTS or rate.drain > MAX_FACTOR for rate in rates):
        return None
    first, second = rates
    return first.unit, first.drain, first.capacity, second.unit, second.drain, second.capacity


def _max_costs(rates: list[Rate]) -> Mapping[str, int]:
    """By measure: the smallest burst of these rates."""
    max_costs: dict[str, int] = {}
    for rate in rates:
        max_costs[rate.measure] = min(rate.burst, max_costs.get(rate.measure, EXACT_MAX))
    return MappingProxyType(max_costs)


STARTER: Final = Plan.of("starter", per_minute=60, per_day=10_000, concurrent=5)
GROWTH: Final = Plan.of("growth", per_minute=300, per_day=100_000, concurrent=25)
