"""`Rule`: what requests to a path cost."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.rules.path_patterns import path_error

_MAX_CACHED_PLANS = 4096


@dataclass(frozen=True, slots=True)
class Rule:
    """The cost of requests of `methods` (None: every method) to `path`, or that they are exempt.

    A path begins with ``/`` and has no escapes. ``{name}`` matches one segment, ``/**`` at the end all the rest.
    `cost` is in tokens; 0 takes a slot and no tokens. An exempt request is neither limited nor identified. `budget`
    names an additional budget with the rates of `plan`. It is charged together with the caller's plan, in one
    decision, and its limits are named ``budget.limit``. A GET rule covers HEAD.

    Raises InvalidLimit for invalid values.
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
            raise self._error(f"cost: expected an integer >= 0, got {self.cost!r}")
        if not isinstance(self.exempt, bool):
            raise self._error(f"exempt: expected True or False, got {self.exempt!r}")
        if self.exempt and (self.cost != 1 or self.budget or self.plan):
            raise self._error("an exempt rule has neither a cost nor a budget")
        object.__setattr__(self, "methods", self._validated_methods())
        object.__setattr__(
            self, "with_budget", lru_cache(_MAX_CACHED_PLANS)(self._with_rates(self._validated_budget()))
        )

    def _validate_path(self) -> None:
        error = path_error(self.path)
        if error is not None:
            raise self._error(error)

    def _validated_methods(self) -> frozenset[str] | None:
        if self.methods is None:
            return None
        names = list(self.methods) if isinstance(self.methods, Iterable) else []
        if isinstance(self.methods, str) or not names or not all(_is_method_name(name) for name in names):
            raise self._error(f"methods: expected a list of names such as ['GET', 'POST'], got {self.methods!r}")
        methods = frozenset(name.upper() for name in names)
        return methods | {"HEAD"} if "GET" in methods else methods

    def _validated_budget(self) -> tuple[Rate, ...]:
        if (self.budget is None) != (self.plan is None):
            raise self._error("a budget needs a name and a plan: budget='login', plan=Plan.of('login', per_minute=5)")
        if self.plan is None:
            return ()
        if not isinstance(self.plan, Plan):
            raise self._error(f"plan is {describe(self.plan)}; use a Plan such as Plan.of('login', per_minute=5)")
        if not isinstance(self.budget, str):
            raise self._error(f"budget is {describe(self.budget)}; use a name such as 'login'")
        if self.plan.concurrency is not None:
            raise self._error("a budget cannot have slots; set them in the caller's plan")
        if self.cost > self.plan.max_cost:
            raise self._error(
                f"cost is {self.cost}, and the budget {self.budget!r} never has more than {self.plan.max_cost} tokens "
                "at once; lower the cost or raise the burst"
            )
        try:
            return tuple(
                replace(rate, name=f"{self.budget}.{rate.name}", shadow=rate.shadow or self.plan.shadow)
                for rate in self.plan.rates
            )
        except InvalidLimit as error:
            raise self._error(f"budget: {error}") from error

    def _with_rates(self, rates: tuple[Rate, ...]) -> Callable[[Plan], Plan]:
        return lambda plan: plan.with_rates(rates) if rates else plan

    def __reduce__(self) -> tuple[Any, ...]:
        return Rule, (self.path, self.methods, self.cost, self.exempt, self.budget, self.plan)

    def _error(self, message: str) -> InvalidLimit:
        return InvalidLimit(f"Rule({self.path!r}): {message}")


def _is_method_name(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isalpha()
