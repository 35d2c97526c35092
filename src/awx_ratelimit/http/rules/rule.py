"""`Rule`: what requests to a path cost, and what budgets they use."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from awx_ratelimit.core.budget import checked_own_scope
from awx_ratelimit.core.joint_claim import Cost, checked_cost, cost_by_measure
from awx_ratelimit.core.option_names import with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import EXACT_MAX
from awx_ratelimit.core.validation import describe, exact_int, set_fields
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.owners import Owner, checked_per
from awx_ratelimit.http.queues import checked_queue
from awx_ratelimit.http.request_claims import Price, RuleBudget
from awx_ratelimit.http.rules.path_syntax import path_error
from awx_ratelimit.http.settling import Statuses, checked_statuses
from awx_ratelimit.waiting.lines import Queue

#: A function of the request that returns the cost.
CostFunction = Callable[[Request], Cost]


@dataclass(frozen=True, slots=True)
class Rule:
    """The cost of requests of `methods` (None: every method) to `path`, or that they are exempt.

    A path begins with ``/`` and has no escapes. ``{name}`` matches one segment, ``/**`` at the end all the rest.
    `cost` is in tokens, or a mapping such as ``{"requests": 1, "tokens": 800}``; 0 takes a slot and no tokens. An
    exempt request is neither limited nor identified. Both may be plain functions of the request. A GET rule covers
    HEAD.

    `budget` names an additional budget with the limits of `plan`, which are named ``budget.limit``. It is decided
    together with the caller's plan. `per` says who shares it: each ``caller`` (the default), ``account`` or
    ``address`` has its own, or ``everyone`` shares one; or it is a function that returns the subject for a request.

    With `charge_on`, the budget is charged only if the response has one of these statuses, such as ``{401, 403}`` for
    failed logins. It is charged before the request and given back after it. Without a budget, this applies to
    all limits. A request without a status, such as one whose client hangs up, stays charged.

    A request that is refused waits up to `wait_ms` for room, 0 to 86,400,000, while fewer than `max_waiting` others of
    the rule wait in this process, 1 to 10,000. Otherwise it is refused at once.

    Raises InvalidLimit for invalid values. The middleware raises what a function raises, and TypeError for a result of
    the wrong type.
    """

    path: str
    methods: Iterable[str] | None = None
    #: A mapping has no hash.
    cost: Cost | CostFunction = field(default=1, hash=False)
    exempt: bool | Callable[[Request], bool] = False
    budget: str | None = None
    plan: Plan | None = None
    per: Owner = "caller"
    charge_on: Iterable[int] | None = None
    wait_ms: int = 0
    max_waiting: int = 100
    price: Price = field(init=False, repr=False, compare=False)
    #: Where its requests wait.
    queues: tuple[Queue, ...] = field(init=False, repr=False, compare=False)
    #: Whether requests need a claim of several budgets, or of another kind that `Limiter.claim` does not take.
    is_joint: bool = field(init=False, repr=False, compare=False)
    #: Whether its requests need only their method and path.
    is_plain: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (error := path_error(self.path)) is not None:
            raise self._error(error)
        if not isinstance(self.exempt, bool) and not _is_function(self.exempt):
            raise self._error(f"exempt: expected True, False or a plain function, got {self.exempt!r}")
        cost = self._validated_cost()
        statuses = self._checked(checked_statuses, self.charge_on)
        set_fields(self, cost=cost, methods=self._validated_methods(), charge_on=statuses)
        queue = self._checked(lambda wait_ms: checked_queue(wait_ms, self.max_waiting), self.wait_ms)
        budgets = self._validated_budgets(statuses)
        has_price = cost != 1 or budgets or statuses or self.wait_ms
        if self.exempt is True and has_price:
            raise self._error("exempt: expected False in a rule with a cost, a budget, charge_on or wait_ms, got True")
        price = Price(budgets, None if budgets else statuses)
        is_joint = bool(budgets or statuses or self.wait_ms) or not isinstance(cost, int)
        is_plain = not (is_joint or self.exempt)
        set_fields(self, price=price, is_joint=is_joint, is_plain=is_plain, queues=(queue,))

    def _validated_cost(self) -> Cost | CostFunction:
        if isinstance(self.cost, Mapping):
            return self._checked(checked_cost, self.cost)  # type: ignore[no-any-return]
        if not _is_cost(self.cost) and not _is_function(self.cost):
            raise self._error(
                f"cost: expected an integer >= 0 or a plain function, got {describe(self.cost)}; "
                "write cost=5, or cost={'requests': 1, 'tokens': 800}"
            )
        return exact_int(self.cost) if isinstance(self.cost, int) else self.cost

    def _validated_methods(self) -> frozenset[str] | None:
        if self.methods is None:
            return None
        names = list(self.methods) if isinstance(self.methods, Iterable) else []
        if isinstance(self.methods, str) or not names or not all(_is_method_name(name) for name in names):
            raise self._error(f"methods: expected a list of names such as ['GET', 'POST'], got {self.methods!r}")
        methods = frozenset(name.upper() for name in names)
        return methods | {"HEAD"} if "GET" in methods else methods

    def _validated_budgets(self, statuses: Statuses | None) -> tuple[RuleBudget, ...]:
        if (self.budget is None) != (self.plan is None):
            missing, given = ("plan", "budget") if self.plan is None else ("budget", "plan")
            raise self._error(
                f"{missing}: expected one, as there is a {given}, got None; "
                "write budget='login', plan=Plan.of('login', per_minute=5)"
            )
        per = self._checked(checked_per, self.per)
        if self.plan is None or self.budget is None:
            if per != "caller":
                raise self._error(
                    f"per: expected 'caller' (str) in a rule without a budget, got {describe(per)}; "
                    "write budget='login', plan=Plan.of('login', per_minute=5)"
                )
            return ()
        if not isinstance(self.plan, Plan):
            raise self._error(f"plan: expected one such as Plan.of('login', per_minute=5), got {describe(self.plan)}")
        if self.plan.account is not None or self.plan.is_unlimited:
            what = "an unlimited plan" if self.plan.is_unlimited else "one with limits of accounts"
            raise self._error(
                f"plan: expected one with limits but no account, got {what}; write Plan.of('login', per_minute=5)"
            )
        if not isinstance(self.budget, str):
            raise self._error(f"budget: expected a name such as 'login', got {describe(self.budget)}")
        self._checked(lambda budget: checked_own_scope(budget, "budget"), self.budget)
        self._check_affordable(self.plan)
        return (RuleBudget(self.budget, self.plan, per, statuses),)

    def _check_affordable(self, plan: Plan) -> None:
        for measure, tokens in cost_by_measure(self.cost).items() if not callable(self.cost) else ():
            burst = plan.max_costs.get(measure, EXACT_MAX)
            if tokens > burst:
                raise self._error(
                    f"cost: expected at most {burst}, the burst of the budget {self.budget!r}, got {tokens}; "
                    "lower the cost or raise the burst"
                )

    def cost_of(self, request: Request) -> Cost:
        """The cost of `request`. Raises TypeError if the function `cost` returns anything but a cost."""
        if not callable(self.cost):
            return self.cost
        cost = self.cost(request)
        try:
            return checked_cost(cost)
        except ValueError:
            raise TypeError(
                f"Rule({self.path!r}): cost: expected an integer >= 0 or a mapping such as {{'tokens': 800}} as the "
                f"result, got {describe(cost)}"
            ) from None

    def exempts(self, request: Request) -> bool:
        """Whether `request` is exempt. Raises TypeError if the function `exempt` returns anything but a bool."""
        exempt = self.exempt if isinstance(self.exempt, bool) else self.exempt(request)
        if not isinstance(exempt, bool):
            raise TypeError(f"Rule({self.path!r}): exempt: expected a bool as the result, got {describe(exempt)}")
        return exempt

    def __reduce__(self) -> tuple[Any, ...]:
        options = self.per, self.charge_on, self.wait_ms, self.max_waiting
        return Rule, (self.path, self.methods, self.cost, self.exempt, self.budget, self.plan, *options)

    def _checked(self, check: Callable[[Any], Any], value: Any) -> Any:
        try:
            return check(value)
        except (InvalidLimit, ValueError) as error:
            raise self._error(str(error)) from None

    def _error(self, message: str) -> InvalidLimit:
        return InvalidLimit(f"Rule({self.path!r}): {message}")


# The initializer is the one that `dataclass` writes.
Rule.__init__ = with_option_hints({})(Rule.__init__)  # type: ignore[method-assign]


def _is_method_name(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isalpha()


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type) and not inspect.iscoroutinefunction(value)
