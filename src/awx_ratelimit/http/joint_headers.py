"""The limit headers of a decision about several budgets: every limit by its name with its scope.

All but the numbers depends on the shape of the claim, so it is rendered once for each.
"""

from typing import Final, NamedTuple, TypeAlias

from awx_ratelimit.core.decision import JointDecision
from awx_ratelimit.core.joint_claim import Shape
from awx_ratelimit.core.plan import MAX_CACHED_PLANS
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.http.limit_items import (
    Texts,
    fast_numbers,
    policy_items,
    rate_format,
    rate_numbers,
    slot_numbers,
    slots_format,
    visible_rates,
    visible_slots,
)

#: A rate that clients see: the index of its debt in `levels`, its bit, the rate, what the claim asks of it, its format,
#: its `fast_numbers` (None for a rate that the fast path does not fit), and its items by the tokens left.
_RateItem: TypeAlias = tuple[int, int, Rate, int, bytes, tuple[int, int, int, int] | None, Texts]


class _BudgetItems(NamedTuple):
    """The limits of one budget. `slots` is 0 if it shows none. `by_held` are the items of slots by those in use."""

    record: int
    rates: tuple[_RateItem, ...]
    slots: int
    slot_bit: int
    slots_format: bytes
    by_held: Texts


class Template(NamedTuple):
    """The constant parts of the headers: the policy, and where the numbers of the state come from."""

    policy: bytes
    budgets: tuple[_BudgetItems, ...]


#: By the id of the shape, which an entry keeps, so that no other gets its id.
_templates: Final[dict[int, tuple[Template, Shape]]] = {}


def template_of(shape: Shape) -> Template:
    """The constant parts of the headers for claims of this shape."""
    cached = _templates.get(id(shape))
    return cached[0] if cached is not None else _add(shape)


def state_of(decision: JointDecision, template: Template) -> bytes:
    """The value of RateLimit; empty if clients see no limit."""
    now_ms, states = decision.decided_at_ms, decision.states
    items: list[bytes] = []
    for record, rates, slots, slot_bit, for_slots, by_held in template.budgets:
        exceeded, levels, held, slot_wait_ms = states[record]
        for at, bit, rate, cost, for_rate, fast, by_left in rates:
            if fast is not None and not exceeded:
                capacity, unit, seconds, tokens = fast
                left = (capacity - levels[at]) // unit
                if left > 0:
                    item = by_left.get(left)
                    items.append(item or by_left.keep(left, for_rate % (left, -(-left * seconds // tokens))))
                    continue
            refused = bool(exceeded & bit)
            items.append(for_rate % rate_numbers(rate, levels[at], levels[at + 1], now_ms, cost, refused=refused))
        if slots and not exceeded:
            items.append(by_held.get(held) or by_held.keep(held, for_slots % slot_numbers(slots, held)))
        elif slots:
            refused = bool(exceeded & slot_bit)
            items.append(for_slots % slot_numbers(slots, held, slot_wait_ms, refused=refused))
    return b", ".join(items)


def _add(shape: Shape) -> Template:
    parts = tuple(zip(shape.scopes, shape.plans, strict=True))
    items = [item for scope, plan in parts for item in policy_items(plan, scope)]
    budgets = tuple(_budget_items(shape, number) for number in range(len(parts)))
    template = Template(", ".join(items).encode(), budgets)
    if len(_templates) >= MAX_CACHED_PLANS:
        _templates.clear()
    _templates[id(shape)] = template, shape
    return template


def _budget_items(shape: Shape, number: int) -> _BudgetItems:
    plan, (record, rates) = shape.plans[number], shape.shares[number]
    charge = shape.charges[record]
    visible, scope = {index // 2 for index, _, _ in visible_rates(plan)}, shape.scopes[number]
    numbers = [each for each in rates if each - rates.start in visible]
    items = tuple(_rate_item(each, charge.plan.rates[each], charge.tokens(each), scope) for each in numbers)
    slots = visible_slots(plan)
    return _BudgetItems(record, items, slots, charge.plan.slot_bit, slots_format(scope), Texts())


def _rate_item(number: int, rate: Rate, cost: int, scope: str | None) -> _RateItem:
    fast = fast_numbers(rate) if cost else None
    return 2 * number, 1 << number, rate, cost, rate_format(rate, scope), fast, Texts()
