"""Makes the Explanation of a request in the steps of a gate, without waiting and without charging anything."""

from typing import Any, Final

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Cost, JointClaim, cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.usage import Usage
from awx_ratelimit.errors import (
    BackendUnavailable,
    ImpossibleClaim,
    InvalidLimit,
    KeyRefused,
    KeyStoreUnavailable,
    TooManyWrongKeys,
)
from awx_ratelimit.http.error_responses import EXCEEDED, message_of, status_of
from awx_ratelimit.http.explanation import (
    ExplainedBudget,
    ExplainedCaller,
    ExplainedLimit,
    ExplainedRule,
    Explanation,
    Outcome,
)
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import AnyRule, Policy
from awx_ratelimit.http.rules.matching import UnclearPath
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.http.settling import StatusMeasure, shown_measure

#: What slots count, as in the field RateLimit-Policy.
_SLOTS: Final = "concurrent-requests"
#: The errors that are a part of an explanation. All others come from functions of the application.
EXPLAINED: Final = (
    KeyRefused, KeyStoreUnavailable, TooManyWrongKeys, UnclearPath, ImpossibleClaim, InvalidLimit, BackendUnavailable
)  # fmt: skip


class Draft:
    """What is known of `request` so far."""

    def __init__(self, policy: Policy, request: Request) -> None:
        self._policy = policy
        self._request = request
        self._rules: tuple[ExplainedRule, ...] = ()
        self._rule: AnyRule | None = None
        self._caller: ExplainedCaller | None = None
        self._cost: Cost | None = None
        self._is_impossible = False

    def find_rule(self) -> bool:
        """Whether the request is not exempt. Raises UnclearPath, and what the rule's own functions raise."""
        self._rules = tuple(_rule(rule) for rule in self._policy.matching_rules(self._request))
        self._rule = self._policy.rule_for(self._request)
        return self._rule is not None

    def identified(self, caller: Caller | None) -> bool:
        """Note the caller. Returns whether it is limited. Raises KeyRefused if there is none."""
        if caller is None:
            raise KeyRefused("api_key_missing")
        self._caller = ExplainedCaller(caller.subject, None, caller.account)
        return not caller.exempt

    def claim(self, caller: Caller) -> JointClaim:
        """The claim of the request, or one of slots alone if its cost is above a burst. Raises InvalidLimit."""
        policy, request = self._policy, self._request
        rule: Any = self._rule
        self._cost = rule.cost_of(request)
        plan = policy.resolve(caller)
        self._caller = ExplainedCaller(caller.subject, plan.name, caller.account)
        service = policy.shared.service
        try:
            return policy.claims.claim(request, caller, plan, service, rule.price, self._cost)
        except ImpossibleClaim:
            self._is_impossible = True
            return policy.claims.claim(request, caller, plan, service, rule.price, 0)

    def passed(self) -> Explanation:
        """The explanation of an exempt request or caller."""
        return self._explanation("exempt")

    def failed(self, error: Exception) -> Explanation:
        """The explanation of a request for which one of the errors in `EXPLAINED` was raised."""
        code, wait_ms = getattr(error, "code", None), None
        reason = str(error)
        if isinstance(error, KeyRefused):
            reason = error.message or message_of(error.code)
        elif isinstance(error, UnclearPath):
            code, reason = "invalid_request", "the path is too long or ambiguous"
        elif isinstance(error, TooManyWrongKeys):
            code, wait_ms, reason = EXCEEDED, error.retry_after_ms, "the address has sent too many unknown keys"
        elif not isinstance(error, KeyStoreUnavailable):
            code = "rate_limiter_unavailable"
        return self._explanation("refused", code=code, reason=reason, retry_after_ms=wait_ms)

    def decided(self, decision: Decision, claim: JointClaim) -> Explanation:
        """The explanation of a request for which `decision` is the answer to `claim`, which only peeked."""
        budgets = self._budgets(decision, claim)
        if self._is_impossible:
            reason = f"the cost is above the burst of {_names(budgets)}"
            return self._explanation("refused", budgets, decision, code=EXCEEDED, reason=reason)
        if decision.allowed:
            return self._explanation("allowed", budgets, decision)
        return self._explanation(
            "refused",
            budgets,
            decision,
            code=EXCEEDED,
            reason=f"no room in {_names(budgets)}",
            retry_after_ms=decision.retry_after_ms,
        )

    def _explanation(
        self,
        outcome: Outcome,
        budgets: tuple[ExplainedBudget, ...] = (),
        decision: Decision | None = None,
        *,
        code: str | None = None,
        reason: str | None = None,
        retry_after_ms: int | None = None,
    ) -> Explanation:
        method, path = self._request[:2]
        return Explanation(
            method,
            path,
            outcome,
            self._rules,
            self._caller,
            None if self._cost is None else dict(cost_by_measure(self._cost)),
            0 if self._rule is None else self._rule.wait_ms,
            budgets,
            None if code is None else status_of(code),
            code,
            reason,
            retry_after_ms,
            decision is not None and any(hasattr(plan, "whole") for plan in decision.record_plans),
            (method, path) in self._policy.claims.limited_paths,
        )

    def _budgets(self, decision: Decision, claim: JointClaim) -> tuple[ExplainedBudget, ...]:
        usages, costs = iter(decision.usages), cost_by_measure(self._cost or 0)
        found = []
        for subject, plan, scope in ((budget.subject, budget.plan, budget.scope) for budget in claim.budgets):
            measures = [shown_measure(rate.measure) for rate in plan.rates]
            limits = [_limit(next(usages), measure, costs.get(measure, 0)) for measure in measures]
            if plan.concurrency is not None:
                limits.append(_limit(next(usages), _SLOTS, 1))
            found.append(ExplainedBudget(scope, subject, plan.name, _statuses(plan), tuple(limits)))
        return tuple(found)


def _rule(rule: Rule) -> ExplainedRule:
    methods = None if rule.methods is None else tuple(sorted(rule.methods))
    return ExplainedRule(rule.path, methods, rule.budget, bool(rule.exempt))


def _limit(usage: Usage, counts: str, cost: int) -> ExplainedLimit:
    # The claim has no cost above a burst, so no limit of it refuses that.
    refuses = usage.refused or (counts != _SLOTS and cost > usage.capacity)
    return ExplainedLimit(
        usage.limit,
        counts,
        usage.capacity,
        usage.remaining,
        cost,
        usage.reset_after_ms,
        refuses,
        usage.shadow,
        usage.retry_after_ms,
    )


def _statuses(plan: Plan) -> tuple[int, ...] | None:
    measures = (rate.measure for rate in plan.rates)
    return next((tuple(sorted(each.statuses)) for each in measures if isinstance(each, StatusMeasure)), None)


def _names(budgets: tuple[ExplainedBudget, ...]) -> str:
    limits = (limit for budget in budgets for limit in budget.limits)
    return ", ".join(limit.limit for limit in limits if limit.refuses and not limit.shadow)
