"""`Plan`: a named set of rates and at most one concurrency limit; what one caller may use."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from sys import maxsize
from typing import Any, Final, Never, TypeAlias

from awx_ratelimit.core.rate import EXACT_MAX, Concurrency, Rate, check_flag, set_fields, shown, whole_number
from awx_ratelimit.core.state_layout import Layout, layout_of
from awx_ratelimit.errors import ImpossibleClaim, InvalidLimit

PERIODS_MS: Final = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
#: What charging one rate takes: where its debt is and where its time, its bit, unit, drain, capacity and whether it is
#: a calendar rate, and the rate. One tuple is taken apart in the time of two attributes.
Step: TypeAlias = tuple[int, int, int, int, int, int, bool, Rate]


@dataclass(frozen=True, slots=True)
class Plan:
    """A named set of rates and at most one concurrency limit, decided together.

    `shadow=True` puts each of its limits in shadow: they are evaluated and reported, and refuse nobody. Raises
    InvalidLimit for two limits of one name and for a plan without any limit.
    """

    name: str
    rates: tuple[Rate, ...] = ()
    concurrency: Concurrency | None = None
    shadow: bool = False
    layout: Layout = field(init=False, repr=False, compare=False)
    numbered_rates: tuple[tuple[int, int, Rate], ...] = field(init=False, repr=False, compare=False)
    steps: tuple[Step, ...] = field(init=False, repr=False, compare=False)
    pair: tuple[int, int, int, int, int, int] | None = field(init=False, repr=False, compare=False)
    slots: int = field(init=False, repr=False, compare=False)
    max_hold_ms: int | None = field(init=False, repr=False, compare=False)
    slot_bit: int = field(init=False, repr=False, compare=False)
    enforced: int = field(init=False, repr=False, compare=False)
    shadowed: int = field(init=False, repr=False, compare=False)
    max_cost: int = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_fields(self, rates=self._validated_rates())
        limits: tuple[Rate | Concurrency, ...] = (*self.rates, self.concurrency) if self.concurrency else self.rates
        if not limits:
            raise InvalidLimit(f"plan {self.name!r} has no limit; give it a rate or a concurrency")
        enforced = [not (self.shadow or limit.shadow) for limit in limits]
        bursts = [rate.burst for rate, counts in zip(self.rates, enforced, strict=False) if counts]
        set_fields(
            self,
            layout=layout_of(self.rates),
            numbered_rates=tuple((2 * index, 1 << index, rate) for index, rate in enumerate(self.rates)),
            steps=tuple(_step(index, rate) for index, rate in enumerate(self.rates)),
            pair=_pair(self.rates),
            slots=self.concurrency.slots if self.concurrency else maxsize,
            max_hold_ms=self.concurrency.max_hold_ms if self.concurrency else None,
            slot_bit=1 << len(self.rates) if self.concurrency else 0,
            enforced=sum(1 << index for index, counts in enumerate(enforced) if counts),
            shadowed=sum(1 << index for index, counts in enumerate(enforced) if not counts),
            max_cost=min(bursts, default=EXACT_MAX),
            _hash=hash((self.name, self.rates, self.concurrency, self.shadow)),
        )

    def _validated_rates(self) -> tuple[Rate, ...]:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidLimit(f"a plan's name is {self.name!r}; allowed is a text of at least one character")
        if not self.name.isprintable():
            # It is printed, logged and sent in labels.
            raise InvalidLimit(f"a plan's name is {shown(self.name)}; allowed are printable characters and spaces")
        rates = self._listed_rates()
        if self.concurrency is not None and not isinstance(self.concurrency, Concurrency):
            raise InvalidLimit(
                f"plan {self.name!r}: concurrency is {self.concurrency!r}; allowed are Concurrency and None; "
                "write Concurrency(5)"
            )
        check_flag(self.shadow, f"plan {self.name!r}: shadow")
        names = [rate.name for rate in rates]
        for name in names:
            if names.count(name) > 1:
                raise InvalidLimit(f"plan {self.name!r} has two limits named {name!r}; a name stands once in a plan")
        return rates

    def _listed_rates(self) -> tuple[Rate, ...]:
        if isinstance(self.rates, str | Rate) or not isinstance(self.rates, Iterable):
            rates_given = "a Rate" if isinstance(self.rates, Rate) else shown(self.rates)
            raise InvalidLimit(
                f"plan {self.name!r}: rates is {rates_given}; allowed is a tuple of Rate objects, such as "
                "rates=(Rate.parse('60/minute'),)"
            )
        rates = tuple(self.rates)
        for number, rate in enumerate(rates):
            if not isinstance(rate, Rate):
                raise InvalidLimit(
                    f"plan {self.name!r}: rates[{number}] is {shown(rate)}; allowed are Rate objects, such as "
                    "Rate.parse('60/minute')"
                )
        return rates

    @classmethod
    def of(
        cls,
        name: str,
        *misplaced: Never,
        per_second: int | None = None,
        per_minute: int | None = None,
        per_hour: int | None = None,
        per_day: int | None = None,
        concurrent: int | None = None,
        shadow: bool = False,
    ) -> "Plan":
        """The plan of these numbers: continuous rates whose burst is their tokens, and `concurrent` slots."""
        if misplaced:
            raise TypeError(
                f"Plan.of takes each limit by its name, and was given {shown(misplaced[0])}; "
                f"write Plan.of({shown(name)}, per_minute=60)"
            )
        numbers = {"second": per_second, "minute": per_minute, "hour": per_hour, "day": per_day}
        rates = tuple(Rate(unit, tokens, PERIODS_MS[unit]) for unit, tokens in numbers.items() if tokens is not None)
        return cls(name, rates, None if concurrent is None else Concurrency(concurrent), shadow)

    def beside(self, rates: tuple[Rate, ...]) -> "Plan":
        """This plan with `rates` more, decided together. What is in shadow stays so, and nothing else comes into it."""
        if not self.shadow:
            return replace(self, rates=(*self.rates, *rates))
        own = tuple(replace(rate, shadow=True) for rate in self.rates)
        slots = self.concurrency and replace(self.concurrency, shadow=True)
        return Plan(self.name, (*own, *rates), slots)

    def check(self, cost: int) -> None:
        """Raise ValueError for a cost that is no whole number of at least 1, ImpossibleClaim for one above a burst."""
        if cost.__class__ is int and 1 <= cost <= self.max_cost:
            return
        try:
            whole_number(cost, "cost")
        except InvalidLimit as error:
            raise ValueError(str(error)) from None
        raise ImpossibleClaim(
            f"cost {cost} is above {self.max_cost}, the most that plan {self.name!r} ever has at once"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan, (self.name, self.rates, self.concurrency, self.shadow)

    def __hash__(self) -> int:
        return self._hash


def _step(index: int, rate: Rate) -> Step:
    return 2 * index, 2 * index + 1, 1 << index, rate.unit, rate.drain, rate.capacity, rate.calendar, rate


def _pair(rates: tuple[Rate, ...]) -> tuple[int, int, int, int, int, int] | None:
    """Unit, drain and capacity of each of two continuous rates; None of any other rates."""
    if len(rates) != 2 or rates[0].calendar or rates[1].calendar:
        return None
    first, second = rates
    return first.unit, first.drain, first.capacity, second.unit, second.drain, second.capacity


STARTER: Final = Plan.of("starter", per_minute=60, per_day=10_000, concurrent=5)
GROWTH: Final = Plan.of("growth", per_minute=300, per_day=100_000, concurrent=25)
