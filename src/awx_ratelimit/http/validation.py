"""Checks of a gate's arguments. Each error is one sentence that says what to write instead."""

import inspect
from collections.abc import Iterable, Mapping
from types import FunctionType, MethodType
from typing import Any, TypeVar

from awx_ratelimit.core.joint_claim import cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import EXACT_MAX
from awx_ratelimit.core.validation import describe, type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.message import OnRefused
from awx_ratelimit.http.request_claims import RuleBudget
from awx_ratelimit.http.rules.rule import Rule

_Limiter = TypeVar("_Limiter")
#: What to write instead of an argument `plans` of this type.
_TABLES = {
    "dict": 'PlanTable([plan], default="starter"), or PlanTable.from_mapping({"plans": ...})',
    "Plan": "PlanTable([plan], default=plan.name)",
    "list": 'PlanTable(plans, default="starter")',
    "tuple": 'PlanTable(plans, default="starter")',
    "str": "PlanTable.from_toml(path)",
}


def takes(function: Any, *arguments: Any) -> bool:
    """Whether `function` can be called with positional `arguments`. True if it has no signature, as in C."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def checked_limiter(limiter: _Limiter, wanted: type[_Limiter]) -> _Limiter:
    """Return `limiter`. Raises TypeError unless it is a `wanted`."""
    if isinstance(limiter, wanted):
        return limiter
    article = "an" if wanted.__name__[0] == "A" else "a"
    raise TypeError(
        f"limiter: expected {article} {wanted.__name__}, got {type_name(limiter)}; write Gate(Limiter(backend), ...) "
        "for WSGI or AsyncGate(AsyncLimiter(backend), ...) for ASGI"
    )


def checked_plans(plans: Any) -> PlanTable:
    """Return `plans`. Raises TypeError unless it is a PlanTable."""
    if isinstance(plans, PlanTable):
        return plans
    write = f"plans={_TABLES.get(type(plans).__name__, 'PlanTable.default()')}"
    if isinstance(plans, FunctionType | MethodType):
        write = called_for_plans(plans)
    raise TypeError(f"plans: expected a PlanTable, got {type_name(plans)}; write {write}")


def called_for_plans(function: Any) -> str:
    """What to write instead of a `function` as `plans`."""
    name = getattr(function, "__qualname__", "function").rpartition("<locals>.")[2]
    call = "function" if name == "<lambda>" else name
    return (
        f"plans={call}() if it returns the plans. For a plan that depends on the request, write identify=function: it "
        "returns Caller(subject, plan)"
    )


def checked_rules(rules: Any) -> list[Rule]:
    """Return `rules` as a list. Raises TypeError unless each is a Rule."""
    if isinstance(rules, str | Rule | Mapping) or not isinstance(rules, Iterable):
        raise TypeError(f"rules: expected a list, got {describe(rules)}; write rules=[Rule(path, ...)]")
    listed: list[Rule] = list(rules)
    for number, rule in enumerate(listed):
        if not isinstance(rule, Rule):
            raise TypeError(f"rules[{number}]: expected a Rule, got {describe(rule)}; write Rule(path, ...)")
    return listed


def check_budgets(rules: Iterable[Rule]) -> None:
    """Raise InvalidLimit for two rules whose budgets have one name, and different plans or owners.

    A path that may mean both could be charged by one of them only, and clients choose how they write a path.
    """
    known: dict[str, RuleBudget] = {}
    for rule in rules:
        for budget in rule.price.budgets:
            other = known.setdefault(budget.scope, budget)
            if other.per != budget.per:
                raise InvalidLimit(
                    f"Rule({rule.path!r}): per: expected {describe(other.per)}, as in the other rule with the budget "
                    f"{budget.scope!r}, got {describe(budget.per)}; write another name for one of the budgets"
                )
            if other.plan != budget.plan:
                raise InvalidLimit(
                    f"Rule({rule.path!r}): plan: expected the plan of the other rule with the budget "
                    f"{budget.scope!r}, got other limits or another name; write one plan for both, or another name "
                    "for one of the budgets"
                )


def checked_anonymous(anonymous: Any) -> Plan | None:
    """Return `anonymous`. Raises TypeError unless it is a Plan or None."""
    if anonymous is None or isinstance(anonymous, Plan):
        return anonymous
    example = 'Plan.of("anonymous", per_minute=10)'
    raise TypeError(f"anonymous: expected a Plan such as {example}, or None, got {describe(anonymous)}")


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise InvalidLimit unless `value` is one of `allowed`."""
    if value not in allowed:
        raise InvalidLimit(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_costs(
    rules: Iterable[Rule], plans: PlanTable, anonymous: Plan | None, service: Plan | None, identify: object
) -> None:
    """Raise InvalidLimit for a rule whose cost is above the burst of every plan.

    The plans are those of the table, `anonymous`, the plans of `identify`, and the overrides of the table, each with
    that of its account and with `service`.
    """
    caller_plans = getattr(identify, "caller_plans", None)
    known = [*plans.plans, *([anonymous] if anonymous else ()), *(caller_plans(plans) if caller_plans else ())]
    for rule in rules:
        if not known or rule.exempt or callable(rule.cost):
            continue
        for measure, tokens in cost_by_measure(rule.cost).items():
            if tokens <= _largest_cost(measure, known, service):
                continue
            # There may be many overrides, and they hardly ever change the result.
            known += plans.overridden()
            largest = _largest_cost(measure, known, service)
            if tokens > largest:
                raise InvalidLimit(
                    f"Rule({rule.path!r}): cost: expected at most {largest}, the largest burst of a plan, got "
                    f"{tokens}; lower the cost or raise a burst"
                )


def checked_on_refused(on_refused: Any) -> OnRefused | None:
    """Return `on_refused`. Raises TypeError unless it is None or a plain function of two arguments."""
    if on_refused is None:
        return None
    if inspect.iscoroutinefunction(on_refused):
        raise TypeError("on_refused is asynchronous; write a plain function, `def on_refused(request, refusal):`")
    try:
        inspect.signature(on_refused).bind(None, None)
    except (TypeError, ValueError):
        raise TypeError(
            f"on_refused is {type_name(on_refused)}; write a function `def on_refused(request, refusal):` that returns "
            "a Reply, or None for the usual response"
        ) from None
    return on_refused  # type: ignore[no-any-return]


def _largest_cost(measure: str, plans: Iterable[Plan], service: Plan | None) -> int:
    """The largest cost of a request under one of `plans`."""
    return max(
        min(each.max_costs.get(measure, EXACT_MAX) for each in (plan, plan.account, service) if each is not None)
        for plan in plans
    )
