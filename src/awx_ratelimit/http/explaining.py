"""Makes the Explanation of a request in the steps of a gate, without waiting and without charging anything."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Cost, JointClaim, cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
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
from awx_ratelimit.http.owners import owned_record
from awx_ratelimit.http.policy import AnyRule, Policy
from awx_ratelimit.http.request_claims import route_claim
from awx_ratelimit.http.route_limit import BoundLimit
from awx_ratelimit.http.rules.matching import UnclearPath
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.http.settling import StatusMeasure, shown_measure
from awx_ratelimit.runtime.reopening import Reopenable

#: What slots count, as in the field RateLimit-Policy.
_SLOTS: Final = "concurrent-requests"
#: The errors that are a part of an explanation. All others come from functions of the application.
EXPLAINED: Final = (
    KeyRefused, KeyStoreUnavailable, TooManyWrongKeys, UnclearPath, ImpossibleClaim, InvalidLimit, BackendUnavailable
)  # fmt: skip


class GateParts(NamedTuple):
    """What a gate consists of, for those who look into it.

    `anonymous` is the plan of requests without a key. `service`: the plan that everybody shares, if not of the table.
    """

    limiter: Any
    identify: Any
    plans: PlanTable
    anonymous: Plan | None
    rules: tuple[Rule, ...] = ()
    service: Plan | None = None

    def reopen(self) -> None:
        """Let parts that the end of a lifespan has closed, such as a KeyVerifier, work again in the next one."""
        self.limiter.is_closed = False
        for part in (self.identify, *self.limiter.observers.all, *_backends(self.limiter)):
            if isinstance(part, Reopenable):
                part.reopen()


def _backends(limiter: Any) -> Iterator[Any]:
    """The backend of a limiter, and those inside it, the outermost first."""
    backend = limiter
    while (backend := getattr(backend, "backend", None)) is not None:
        yield backend


class Part(NamedTuple):
    """A claim of the request and its cost. If that is above a burst, the claim asks for slots alone."""

    claim: JointClaim
    cost: Cost
    is_impossible: bool


class Draft:
    """What is known of `request` so far."""

    def __init__(self, policy: Policy, request: Request) -> None:
        self._policy = policy
        self._request = request
        self._rules: tuple[ExplainedRule, ...] = ()
        self._rule: AnyRule | None = None
        self._caller: ExplainedCaller | None = None
        self._cost: Cost | None = None
        self.unknown_keys_wait_ms = 0

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

    def parts(self, caller: Caller) -> list[Part]:
        """The claim of the request, and those of the limits of its route. Raises InvalidLimit."""
        policy, request = self._policy, self._request
        rule: Any = self._rule
        cost = self._cost = rule.cost_of(request)
        plan = policy.resolve(caller)
        self._caller = ExplainedCaller(caller.subject, plan.name, caller.account)
        service = policy.shared.service

        def own(cost: Cost) -> JointClaim:
            return policy.claims.claim(request[:2], request, caller, plan, service, rule.price, cost)

        return [_part(own, cost), *(self._route_part(limit, caller) for limit in self._route_limits().values())]

    def _route_part(self, limit: BoundLimit, caller: Caller) -> Part:
        record = owned_record(limit.per, limit.scope, self._request, caller, self._policy.addresses.subject)
        return _part(lambda cost: route_claim(record, limit, cost, is_settled=True), limit.cost_of(self._request))

    def _route_limits(self) -> Mapping[str, BoundLimit]:
        """The limits that a recent request to this path has met at its route."""
        return self._policy.claims.limited_paths.get(self._request[:2], {}).copy()

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

    def decided(self, parts: Sequence[Part], decisions: Sequence[Decision]) -> Explanation:
        """The explanation of a request for which `decisions` are the answers to `parts`, which only peeked."""
        pairs = [*zip(parts, decisions, strict=True)]
        budgets = tuple(budget for pair in pairs for budget in _budgets(*pair))
        plans = [plan for decision in decisions for plan in decision.record_plans]
        made = partial(self._explanation, budgets=budgets, is_fallback=any(hasattr(plan, "whole") for plan in plans))
        if any(part.is_impossible for part in parts):
            return made("refused", code=EXCEEDED, reason=f"the cost is above the burst of {_names(budgets)}")
        if all(decision.allowed for decision in decisions):
            return made("allowed")
        wait_ms = max(decision.retry_after_ms for decision in decisions)
        return made("refused", code=EXCEEDED, reason=f"no room in {_names(budgets)}", retry_after_ms=wait_ms)

    def _explanation(self, outcome: Outcome, code: str | None = None, **fields: Any) -> Explanation:
        method, path = self._request[:2]
        return Explanation(
            method,
            path,
            outcome,
            self._rules,
            self._caller,
            None if self._cost is None else dict(cost_by_measure(self._cost)),
            0 if self._rule is None else self._rule.wait_ms,
            status=None if code is None else status_of(code),
            code=code,
            has_route_limits=outcome == "exempt" and bool(self._route_limits()),
            unknown_keys_wait_ms=self.unknown_keys_wait_ms,
            **fields,
        )


def _part(claim_of: Callable[[Cost], JointClaim], cost: Cost) -> Part:
    """The claim of `cost`, or one of slots alone if that is above a burst."""
    try:
        return Part(claim_of(cost), cost, is_impossible=False)
    except ImpossibleClaim:
        return Part(claim_of(0), cost, is_impossible=True)


def _budgets(part: Part, decision: Decision) -> Iterator[ExplainedBudget]:
    usages, costs = iter(decision.usages), cost_by_measure(part.cost)
    for subject, plan, scope in ((budget.subject, budget.plan, budget.scope) for budget in part.claim.budgets):
        measures = [shown_measure(rate.measure) for rate in plan.rates]
        limits = [_limit(next(usages), measure, costs.get(measure, 0)) for measure in measures]
        if plan.concurrency is not None:
            limits.append(_limit(next(usages), _SLOTS, 1))
        yield ExplainedBudget(scope, subject, plan.name, _statuses(plan), tuple(limits))


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
