"""Which quotas a decision found nearly or fully used. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from awx_ratelimit.core.budget import record_scope
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_cache import PlanCache
from awx_ratelimit.core.quota import WARNINGS_PERCENT, is_quota, warning_percent
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.usage import Usage


class QuotaUse(NamedTuple):
    """A quota of which at least `percent`, 80 or 100, were used at `at_ms`. `limit` is its name with its scope.

    It is not warned of again until `until_ms`: the end of the calendar period, or of one period from `at_ms`
    on. It is full again at `resets_at_ms`, if nothing more is used.
    """

    subject: str
    scope: str | None
    limit: str
    measure: str
    percent: int
    used: int
    capacity: int
    at_ms: int
    until_ms: int
    resets_at_ms: int


def crossed_quotas(decision: Decision) -> list[QuotaUse]:
    """Return the quotas of which 80 % or 100 % are used, without those in shadow, which refuse nothing."""
    if not _may_have_crossed(decision):
        return []
    at_ms = decision.decided_at_ms
    return [
        _use(usage, scope, rate, percent, at_ms)
        for usage, (scope, rate) in zip(decision.usages, _scopes_and_rates(decision), strict=True)
        if rate is not None and not usage.shadow and is_quota(rate) and (percent := warning_percent(usage))
    ]


def _use(usage: Usage, scope: str | None, rate: Rate, percent: int, at_ms: int) -> QuotaUse:
    until_ms = rate.periods.bounds(at_ms)[1] if rate.calendar else at_ms + rate.period_ms
    used, resets_at_ms = usage.capacity - usage.remaining, at_ms + usage.reset_after_ms
    return QuotaUse(
        usage.subject, scope, usage.limit, rate.measure, percent, used, usage.capacity, at_ms, until_ms,
        resets_at_ms,
    )  # fmt: skip


def _scopes_and_rates(decision: Decision) -> list[tuple[str | None, Rate | None]]:
    """The scope of the record of each usage, and its rate; None for slots."""
    owned: list[tuple[str | None, Plan]] = [(None, decision.plan)]
    if isinstance(decision, JointDecision):
        records, shape, _ = decision.joint_claim
        scopes = (record_scope(records[share.record]) for share in shape.shares)
        owned = list(zip(scopes, shape.plans, strict=True))
    return [(scope, rate) for scope, plan in owned for rate in (*plan.rates, *([None] if plan.concurrency else []))]


def _may_have_crossed(decision: Decision) -> bool:
    """Whether the debt of a quota is so high. Cheaper than usages, which nearly no decision needs."""
    if isinstance(decision, JointDecision):
        plans, states = decision.record_plans, decision.states
        return any(_is_high(plan, state[1]) for plan, state in zip(plans, states, strict=True))
    return _is_high(decision.plan, decision.levels)


def _is_high(plan: Plan, levels: Sequence[int]) -> bool:
    return any(levels[number] >= debt for number, debt in _debts.get(plan))


def _first_debts(plan: Plan) -> tuple[tuple[int, int], ...]:
    """The place of the debt of each quota among the levels, and the debt from which its owner is warned."""
    # One token less: what remains is rounded down.
    return tuple(
        (2 * number, rate.capacity * WARNINGS_PERCENT[0] // 100 - rate.unit)
        for number, rate in enumerate(plan.rates)
        if is_quota(rate)
    )


_debts = PlanCache(_first_debts)
