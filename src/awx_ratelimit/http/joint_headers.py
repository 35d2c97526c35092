"""The limit headers of a decision about several budgets: every limit by its name with its scope.

All but the numbers depends on the plans and scopes of the claim, so it is rendered once for each. The cost does not
matter: clients may choose it.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from awx_ratelimit.core.decision import JointDecision
from awx_ratelimit.core.joint_claim import Charge, Shape, Share
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.core.plan_cache import CostCache
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

#: A rate that clients see: its number, the index of its debt in `levels`, the rate, its format, its `fast_numbers`
#: (None for a rate that the fast path does not fit), and its items by the tokens left.
_RateItem: TypeAlias = tuple[int, int, Rate, bytes, tuple[int, int, int, int] | None, Texts]


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
_by_shape: Final[CostCache[tuple[Template, bool, Shape]]] = CostCache()
#: By the ids of the shares and of the first plan. An entry keeps them, so that no others get their ids. It keeps all
#: plans, because a guard decides alone under other plans with the same shares.
_templates: Final[dict[tuple[int, int], tuple[Template, tuple[Plan, ...], tuple[Share, ...]]]] = {}


def values_of(decision: JointDecision) -> tuple[bytes, bytes]:
    """The values of RateLimit-Policy and RateLimit; the latter is empty if clients see no limit."""
    shape = decision.joint_claim.shape
    cached = _by_shape.get(id(shape))
    if cached is None:
        are_all_charged = all(charge.costs is None and charge.cost > 0 for charge in shape.charges)
        cached = _by_shape.keep(id(shape), (_of_any_cost(shape), are_all_charged, shape), shape.cost)
    template, are_all_charged, _ = cached
    return template.policy, _state(decision, template, shape.charges, are_all_charged)


def _of_any_cost(shape: Shape) -> Template:
    cached = _templates.get((id(shape.shares), id(shape.plans[0])))
    return cached[0] if cached is not None and cached[1] == shape.plans else _add(shape)


def _state(decision: JointDecision, template: Template, charges: Sequence[Charge], are_all_charged: bool) -> bytes:
    """The value of RateLimit. `are_all_charged`: the claim costs something of each rate."""
    now_ms, states = decision.decided_at_ms, decision.states
    items: list[bytes] = []
    for record, rates, slots, slot_bit, for_slots, by_held in template.budgets:
        exceeded, levels, held, slot_wait_ms = states[record]
        for number, at, rate, for_rate, fast, by_left in rates:
            if fast is not None and not exceeded and (are_all_charged or charges[record].tokens(number)):
                # Compiled, only what is `Any` may be multiplied.
                numbers: Any = fast
                capacity, unit, seconds, tokens = numbers
                left: Any = (capacity - levels[at]) // unit
                if left > 0:
                    item = by_left.get(left)
                    items.append(item or by_left.keep(left, for_rate % (left, -(-left * seconds // tokens))))
                    continue
            refused, cost = bool(exceeded >> number & 1), charges[record].tokens(number)
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
    _templates[id(shape.shares), id(shape.plans[0])] = template, shape.plans, shape.shares
    return template


def _budget_items(shape: Shape, number: int) -> _BudgetItems:
    plan, (record, rates) = shape.plans[number], shape.shares[number]
    charge = shape.charges[record]
    visible, scope = {index // 2 for index, _, _ in visible_rates(plan)}, shape.scopes[number]
    numbers = [each for each in rates if each - rates.start in visible]
    items = tuple(_rate_item(each, charge.plan.rates[each], scope) for each in numbers)
    slots = visible_slots(plan)
    return _BudgetItems(record, items, slots, charge.plan.slot_bit, slots_format(scope), Texts())


def _rate_item(number: int, rate: Rate, scope: str | None) -> _RateItem:
    return number, number + number, rate, rate_format(rate, scope), fast_numbers(rate), Texts()
