"""Decide one claim against all limits of its plan: charge every limit, or none.

A state is a flat list with ``debt, at_ms`` for each rate, in the order of the plan. Debts are in the rate's units and
at most its capacity. `exceeded` is a bit set of limits in the order of the plan, the slots last.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from awx_ratelimit.core.bucket import drained, product, time_to_drain_ms
from awx_ratelimit.core.joint_claim import Charge, Costs
from awx_ratelimit.core.plan import MAX_FACTOR, Pair, Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.runtime.mypyc import i64

#: See "Aliases and long functions" in docs/hot-path.md.
_MAX_FACTOR: Final = MAX_FACTOR


def decide(plan: Plan, state: Sequence[int], held: int, cost: int, now_ms: Any) -> tuple[int, list[int]]:
    """``(exceeded, levels)``: the limits without room for the claim, and the state of the rates after the decision.

    If an enforced limit is exceeded (``exceeded & plan.enforced``), nothing is charged. An exceeded shadow limit is not
    charged and does not affect the other limits.
    """
    pair = plan.pair
    if pair is not None and cost == 1 and held < plan.slots:
        levels = charge_pair(pair, [*state], now_ms)
        if levels is not None:
            return 0, levels
    return _decide_in_turn(plan, state, held, cost, now_ms)


def charge_pair(pair: Pair, state: list[Any], now_ms: Any) -> list[int] | None:
    """The state of two continuous rates after their charge; None if it does not fit, or takes the general path.

    It is the loop of `decide`, unrolled for the most common plan.
    """
    drain: i64
    drain_2: i64
    charge, drain, capacity, charge_2, drain_2, capacity_2 = pair
    debt: int
    debt_2: int
    debt, at_ms, debt_2, at_2_ms = state
    elapsed_ms: int = now_ms - at_ms
    # A charge stores one int object for both times. Equal times in two objects take the general path once.
    if at_ms is at_2_ms and elapsed_ms >= 0:
        if elapsed_ms:
            if elapsed_ms <= _MAX_FACTOR:
                short_ms: i64 = elapsed_ms
                debt -= drain * short_ms
                debt_2 -= drain_2 * short_ms
            else:
                debt -= product(drain, elapsed_ms)
                debt_2 -= product(drain_2, elapsed_ms)
            if debt < 0:
                debt = 0
            if debt_2 < 0:
                debt_2 = 0
        debt += charge
        debt_2 += charge_2
        if debt <= capacity and debt_2 <= capacity_2:
            return [debt, now_ms, debt_2, now_ms]
    return None


def _decide_in_turn(plan: Plan, state: Sequence[int], held: int, cost: int, now_ms: Any) -> tuple[int, list[int]]:
    exceeded = 0
    levels: list[Any] = [*state]
    for debt_at, time_at, bit, unit, drain, capacity, calendar, rate in plan.steps:
        debt: int = levels[debt_at]
        elapsed_ms: int = now_ms - levels[time_at]
        if elapsed_ms:
            if elapsed_ms < 0 or calendar:
                debt, levels[time_at] = drained(rate, debt, levels[time_at], now_ms)
            else:
                # `drained` for a continuous rate, inlined.
                drained_debt: int = drain * elapsed_ms
                debt -= drained_debt
                if debt < 0:
                    debt = 0
                levels[time_at] = now_ms
        charged: int = debt + unit * cost
        if charged > capacity and cost:
            exceeded |= bit
            charged = debt
        levels[debt_at] = charged
    if held >= plan.slots:
        exceeded |= plan.slot_bit
    if exceeded & plan.enforced:
        _uncharge(plan, levels, exceeded, cost)
    return exceeded, levels


def decide_by_rate(plan: Plan, state: Sequence[int], held: int, costs: Costs, now_ms: int) -> tuple[int, list[int]]:
    """`decide` for a cost that differs from rate to rate. A rate whose cost is None stays as it is in `state`."""
    exceeded = 0
    levels = [*state]
    for (index, bit, rate), cost in zip(plan.numbered_rates, costs, strict=True):
        if cost is None:
            continue
        debt, levels[index + 1] = drained(rate, levels[index], levels[index + 1], now_ms)
        charged = debt + product(rate.unit, cost)
        if charged > rate.capacity:
            exceeded |= bit
            charged = debt
        levels[index] = charged
    if held >= plan.slots:
        exceeded |= plan.slot_bit
    if exceeded & plan.enforced:
        uncharge_by_rate(plan, levels, exceeded, costs)
    return exceeded, levels


def _uncharge(plan: Plan, levels: list[int], exceeded: int, cost: int) -> None:
    for index, _, bit, unit, *_ in plan.steps:
        if not exceeded & bit:
            levels[index] -= unit * cost


def uncharge_by_rate(plan: Plan, levels: list[int], exceeded: int, costs: Costs) -> None:
    """Take the charge of `decide_by_rate` out of `levels`."""
    for (index, bit, rate), cost in zip(plan.numbered_rates, costs, strict=True):
        if cost is not None and not exceeded & bit:
            levels[index] -= product(rate.unit, cost)


def uncharge(charge: Charge, levels: list[int], exceeded: int) -> None:
    """Take `charge` out of `levels`: another budget has refused."""
    if charge.costs is None:
        _uncharge(charge.plan, levels, exceeded, charge.cost)
    else:
        uncharge_by_rate(charge.plan, levels, exceeded, charge.costs)


def preview(plan: Plan, state: Sequence[int], held: int, cost: int, now_ms: int) -> tuple[int, list[int]]:
    """The result of `decide` without its charge: `levels` is the state of the rates at `now_ms`."""
    exceeded, levels = decide(plan, state, held, cost, now_ms)
    if not exceeded & plan.enforced:
        _uncharge(plan, levels, exceeded, cost)
    return exceeded, levels


def charged_rates(charge: Charge, exceeded: int) -> list[tuple[int, Rate, int]]:
    """The rates that an allowed claim was charged by: the index of the debt, the rate, and the tokens."""
    if charge.costs is None:
        return [(index, rate, charge.cost) for index, _, bit, *_, rate in charge.plan.steps if not exceeded & bit]
    return [
        (index, rate, tokens)
        for (index, bit, rate), tokens in zip(charge.plan.numbered_rates, charge.costs, strict=True)
        if tokens is not None and not exceeded & bit
    ]


def rates_set_back(plan: Plan, state: Sequence[int], levels: Sequence[int], now_ms: int) -> list[str]:
    """The names of the rates whose clock was set back by more than a period; their debt drains from `now_ms` on.

    Store that also for a refused claim.
    """
    return [
        rate.name
        for index, _, rate in plan.numbered_rates
        if state[index] and state[index + 1] > now_ms == levels[index + 1]
    ]


def drained_at_ms(rates: Iterable[Rate], state: Iterable[int]) -> int:
    """The first moment at which none of `rates` has any debt."""
    numbers = iter(state)
    pairs = zip(rates, numbers, numbers, strict=False)
    return max([at_ms + time_to_drain_ms(rate, debt, at_ms, at_ms) for rate, debt, at_ms in pairs], default=0)
