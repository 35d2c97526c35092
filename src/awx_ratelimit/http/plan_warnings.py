"""Warnings about gates whose limits probably do not do what was meant. Each is logged once, when the gate is made."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.joint_claim import cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import REQUESTS
from awx_ratelimit.http.route_limit import BoundLimit
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.runtime.documentation import page

_log = logging.getLogger("awx_ratelimit")


def warn_of_plans(
    rules: Iterable[Rule], plans: PlanTable, anonymous: Plan | None, service: Plan | None, identify: Any
) -> None:
    """Log costs in measures that no limit counts, and keys without an account whose plans have limits of accounts."""
    find_plans = getattr(identify, "caller_plans", None)
    known = [*plans.plans, *(find_plans(plans) if find_plans else ())]
    known += [plan for plan in (anonymous, service) if plan is not None]
    known += [budget.plan for rule in rules for budget in rule.price.budgets]
    _warn_of_measures(rules, _measures(known), plans)
    callers: Iterable[Caller] = getattr(identify, "callers_without_account", tuple)()
    shared = sorted({plan.name for plan in map(plans.resolve, callers) if plan.account is not None})
    if shared:
        _log.warning(
            "each key without an account has the `account` limits of the plan %r to itself; "
            "write Caller('ada', %r, account='acme') for each key: see %s",
            shared[0],
            shared[0],
            page("organisations", "in-an-app"),
        )


class SharedBuckets:
    """Warns of a request that a rule and a limit of its route charge in one bucket, once for each budget.

    When the gate is made, nobody knows yet which routes the rules match. Rules and routes may share a bucket, if no
    request passes both.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._scopes = {budget.scope for rule in rules for budget in rule.price.budgets}

    def warn(self, limit: BoundLimit, matching_rules: Callable[[], Iterable[Rule]]) -> None:
        """Log a warning if one of the rules of the request has the bucket of the limit of its route."""
        if limit.scope not in self._scopes:
            return
        for rule in matching_rules():
            if any((budget.scope, budget.per) == (limit.scope, limit.per) for budget in rule.price.budgets):
                self._scopes.discard(limit.scope)
                _log.warning(
                    "Rule(%r, budget=%r) and a limit of its route take from the same bucket, so each request is "
                    "charged twice; give the budget another name, or remove one of the two: see %s",
                    rule.path,
                    limit.scope,
                    page("route-limits", "the-name-of-a-bucket"),
                )
                return


def _warn_of_measures(rules: Iterable[Rule], counted: set[str], plans: PlanTable) -> None:
    costs = [(rule, cost_by_measure(rule.cost).keys()) for rule in rules if not callable(rule.cost)]
    if any(measures - counted for _, measures in costs):
        # There may be many overrides, and they hardly ever change the result.
        counted |= _measures(plans.overridden())
    for rule, measures in costs:
        for measure in measures - counted:
            _log.warning(
                "Rule(%r): cost: expected measures that a limit counts (%s), got %r, which charges nothing",
                rule.path,
                ", ".join(map(repr, sorted(counted))),
                measure,
            )


def _measures(plans: Iterable[Plan]) -> set[str]:
    parts = [part for plan in plans for part in (plan, plan.account) if part is not None]
    return {REQUESTS, *(rate.measure for part in parts for rate in part.rates)}
