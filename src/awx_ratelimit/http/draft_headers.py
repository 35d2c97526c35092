"""The headers RateLimit-Policy and RateLimit of a decision.

They follow draft-ietf-httpapi-ratelimit-headers-08 and later. `limit_headers` has the other dialects.
"""

from typing import Any, Final, NamedTuple

from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_cache import PlanCache
from awx_ratelimit.core.rate import REQUESTS, Rate
from awx_ratelimit.http.joint_headers import values_of
from awx_ratelimit.http.limit_items import (
    policy_items,
    rate_format,
    rate_numbers,
    slot_numbers,
    slots_format,
    visible_rates,
    visible_slots,
)
from awx_ratelimit.http.pair_headers import STATE_HEADER, PairTemplate, pair_state, pair_template

#: The name of the header.
POLICY_HEADER: Final = b"ratelimit-policy"


class _Template(NamedTuple):
    """The constant parts of a plan's draft headers. `state` is filled with the numbers of each decision.

    `rates` are the visible rates: the index of each in `levels`, its bit, and the rate. `slots` is 0 if no slots are
    visible.
    """

    policy_header: tuple[bytes, bytes]
    state: bytes
    rates: tuple[tuple[int, int, Rate], ...]
    slots: int


def _template(plan: Plan) -> _Template:
    rates, slots = visible_rates(plan), visible_slots(plan)
    items = [rate_format(rate) for _, _, rate in rates] + ([slots_format()] if slots else [])
    return _Template((POLICY_HEADER, policy(plan)), b", ".join(items), rates, slots)


def _pair_template(plan: Plan) -> PairTemplate | None:
    header, state, _, _ = _templates.get(plan)
    return pair_template(plan, header, state)


_templates: Final = PlanCache(_template)
_pair_templates: Final = PlanCache(_pair_template)
_cached_pairs: Final[dict[int, Any]] = _pair_templates.entries


def draft(decision: Any) -> Any:
    """The headers RateLimit-Policy and RateLimit for `decision`."""
    if type(decision) is JointDecision:
        return _joint_draft(decision)
    fields: tuple[Any, ...] = decision
    _, plan, cost, _, over, levels, held, _, _, _ = fields
    cached: Any = _cached_pairs.get(id(plan))
    pair: PairTemplate | None = cached[0] if cached is not None else _pair_templates.get(plan)
    # A claim without a cost is also admitted in an overdraft.
    if pair is not None and cost and not over:
        debt: int = levels[0]
        debt_2: int = levels[2]
        # The fast path for nearly every response: see "Kept texts" in docs/hot-path.md.
        least, above, least_2, above_2, same_held, header = pair.by_debts
        if least <= debt < above and least_2 <= debt_2 < above_2 and held == same_held:
            return [pair.policy_header, header]
        return [pair.policy_header, pair_state(decision, pair, debt, debt_2, held)]
    template = _templates.get(plan)
    return [template.policy_header, (STATE_HEADER, template.state % _numbers(decision))] if template.state else []


def _joint_draft(decision: JointDecision) -> list[tuple[bytes, bytes]]:
    policy_value, state = values_of(decision)
    return [(POLICY_HEADER, policy_value), (STATE_HEADER, state)] if state else []


def _numbers(decision: Decision) -> tuple[Any, ...]:
    """The `r` and `t` of each visible limit."""
    _, plan, cost, now_ms, over, levels, held, _, _, slot_wait_ms = decision
    template = _templates.get(plan)
    numbers: list[Any] = []
    for index, bit, rate in template.rates:
        tokens = cost if rate.measure == REQUESTS else 0
        refused = bool(over & bit)
        numbers += rate_numbers(rate, levels[index], levels[index + 1], now_ms, tokens, refused=refused)
    if template.slots:
        numbers += slot_numbers(template.slots, held, slot_wait_ms, refused=bool(over & plan.slot_bit))
    return tuple(numbers)


def policy(plan: Plan) -> bytes:
    """The value of RateLimit-Policy. It depends on the plan alone."""
    return ", ".join(policy_items(plan)).encode()
