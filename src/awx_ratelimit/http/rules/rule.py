"""`Rule`: what requests to a path cost."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.rules.path_patterns import mistake_in

_PLANS_CACHED = 4096


@dataclass(frozen=True, slots=True)
class Rule:
    """What requests of `methods` (None: every method) to `path` cost, or that they are exempt.

    A path begins with ``/`` and is written decoded. ``{name}`` matches one segment, ``/**`` at the end all the rest.
    `cost` is in tokens; 0 takes a slot and no tokens. An exempt request is neither decided nor identified. `budget` is
    the name of a budget of its own beside the caller's plan, with the rates of `plan`: both are charged in one
    decision, and the budget's limits are named ``budget.limit``. A GET rule covers HEAD.

    Raises InvalidLimit for what cannot be a rule.
    """

    path: str
    methods: Iterable[str] | None = None
    cost: int = 1
    exempt: bool = False
    budget: str | None = None
    plan: Plan | None = None
    with_budget: Callable[[Plan], Plan] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._validate_path()
        if isinstance(self.cost, bool) or not isinstance(self.cost, int) or self.cost < 0:
            raise self._wrong(f"cost is {self.cost!r}; allowed is a whole number of at least 0")
        if not isinstance(self.exempt, bool):
            raise self._wrong(f"exempt is {self.exempt!r}; allowed are True and False")
        if self.exempt and (self.cost != 1 or self.budget or self.plan):
            raise self._wrong("what is exempt has neither a cost nor a budget")
        object.__setattr__(self, "methods", self._validated_methods())
        object.__setattr__(self, "with_budget", lru_cache(_PLANS_CACHED)(self._budgeted(self._validated_budget())))

    def _validate_path(self) -> None:
        mistake = mistake_in(self.path)
        if mistake is not None:
            raise self._wrong(mistake)

    def _validated_methods(self) -> frozenset[str] | None:
        if self.methods is None:
            return None
        names = list(self.methods) if isinstance(self.methods, Iterable) else []
        if isinstance(self.methods, str) or not names or not all(_is_method(name) for name in names):
            raise self._wrong(f"methods are {self.methods!r}; allowed is a list of names, such as ['GET', 'POST']")
        methods = frozenset(name.upper() for name in names)
        return methods | {"HEAD"} if "GET" in methods else methods

    def _validated_budget(self) -> tuple[Rate, ...]:
        if (self.budget is None) != (self.plan is None):
            raise self._wrong("a budget needs a name and a plan: budget='login', plan=Plan.of('login', per_minute=5)")
        if self.plan is None:
            return ()
        if not isinstance(self.plan, Plan):
            raise self._wrong(f"plan is {describe(self.plan)}; use a Plan such as Plan.of('login', per_minute=5)")
        if not isinstance(self.budget, str):
            raise self._wrong(f"budget is {describe(self.budget)}; use a name such as 'login'")
        if self.plan.concurrency is not None:
            raise self._wrong("a budget has rates alone; slots belong to the caller's plan")
        if self.cost > self.plan.max_cost:
            raise self._wrong(
                f"cost is {self.cost}, and the budget {self.budget!r} never has more than {self.plan.max_cost} tokens "
                "at once; lower the cost or raise the burst"
            )
        try:
            return tuple(
                replace(rate, name=f"{self.budget}.{rate.name}", shadow=rate.shadow or self.plan.shadow)
                for rate in self.plan.rates
            )
        except InvalidLimit as error:
            raise self._wrong(f"budget: {error}") from error

    def _budgeted(self, budget: tuple[Rate, ...]) -> Callable[[Plan], Plan]:
        return lambda plan: plan.with_rates(budget) if budget else plan

    def __reduce__(self) -> tuple[Any, ...]:
        return Rule, (self.path, self.methods, self.cost, self.exempt, self.budget, self.plan)

    def _wrong(self, what: str) -> InvalidLimit:
        return InvalidLimit(f"Rule({self.path!r}): {what}")


def _is_method(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isalpha()
