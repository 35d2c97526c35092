"""The limit headers of a decision about several budgets: every limit by its name with its scope.

All but the numbers depends on the shape of the claim, so it is rendered once for each.
"""

from typing import Any, Final, NamedTuple

from awx_ratelimit.core.decision import JointDecision
from awx_ratelimit.core.joint_claim import Shape
from awx_ratelimit.core.plan import MAX_CACHED_PLANS
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.http.limit_items import (
    fast_numbers,
    policy_items,
    rate_numbers,
    slot_numbers,
    state_format,
    visible_rates,
    visible_slots,
)


class _RateItem(NamedTuple):
    """A rate that clients see. `at` is the index of its debt in `levels`, and `cost` what the claim asks of it.

    `fast` are its `fast_numbers`; None for a rate that the fast path does not fit.
    """

    at: int
    bit: int
    rate: Rate
    cost: int
    fast: tuple[int, int, int, int] | None


class _BudgetItems(NamedTuple):
    """The limits of one budget. `slots` is 0 if it shows none."""

    record: int
    rates: tuple[_RateItem, ...]
    slots: int
    slot_bit: int


class Template(NamedTuple):
    """The constant parts of the headers: the policy, the format of the state, and where its numbers come from."""

    policy: bytes
    state: bytes
    budgets: tuple[_BudgetItems, ...]


#: By the id of the shape, which an entry keeps, so that no other gets its id.
_templates: Final[dict[int, tuple[Template, Shape]]] = {}


def template_of(shape: Shape) -> Template:
    """The constant parts of the headers for claims of this shape."""
    cached = _templates.get(id(shape))
    return cached[0] if cached is not None else _add(shape)


def state_of(decision: JointDecision, template: Template) -> bytes:
    """The value of RateLimit."""
    now_ms, states = decision.decided_at_ms, decision.states
    numbers: list[Any] = []
    for record, rates, slots, slot_bit in template.budgets:
        exceeded, levels, held, slot_wait_ms = states[record]
        for at, bit, rate, cost, fast in rates:
            if fast is not None and not exceeded:
                capacity, unit, seconds, tokens = fast
                left = (capacity - levels[at]) // unit
                if left > 0:
                    numbers += (left, -(-left * seconds // tokens))
                    continue
            refused = bool(exceeded & bit)
            numbers += rate_numbers(rate, levels[at], levels[at + 1], now_ms, cost, refused=refused)
        if slots:
            numbers += slot_numbers(slots, held, slot_wait_ms, refused=bool(exceeded & slot_bit))
    return template.state % tuple(numbers)


def _add(shape: Shape) -> Template:
    parts = tuple(zip(shape.scopes, shape.plans, strict=True))
    items = [item for scope, plan in parts for item in policy_items(plan, scope)]
    budgets = tuple(_budget_items(shape, number) for number in range(len(parts)))
    template = Template(", ".join(items).encode(), state_format(parts), budgets)
    if len(_templates) >= MAX_CACHED_PLANS:
        _templates.clear()
    _templates[id(shape)] = template, shape
    return template


def _budget_items(shape: Shape, number: int) -> _BudgetItems:
    plan, (record, rates) = shape.plans[number], shape.shares[number]
    charge = shape.charges[record]
    visible = {index // 2 for index, _, _ in visible_rates(plan)}
    numbers = [each for each in rates if each - rates.start in visible]
    items = tuple(_rate_item(each, charge.plan.rates[each], charge.tokens(each)) for each in numbers)
    return _BudgetItems(record, items, visible_slots(plan), charge.plan.slot_bit)


def _rate_item(number: int, rate: Rate, cost: int) -> _RateItem:
    return _RateItem(2 * number, 1 << number, rate, cost, fast_numbers(rate) if cost else None)
