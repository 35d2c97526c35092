"""One claim against all its limits: every one is charged, or none. The law of the whole library in one function.

A state is flat: the pair ``(debt, at_ms)`` of each rate of the plan in its order, counted in the rate's units and at
most full. `over` is a set of limits as bits in the order of the plan, the slots last.
"""

from collections.abc import Iterable, Sequence

from awx_ratelimit.core.bucket import owed, time_to_drain_ms
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate


def charge(plan: Plan, state: Sequence[int], held: int, cost: int, now_ms: int) -> tuple[int, list[int]]:
    """``(over, levels)``: the limits that would not hold the claim, and the state of the rates after the decision.

    With an enforced limit over (``over & plan.enforced``) nothing is charged. A shadow limit that is over is not
    charged either, and keeps nothing else from being charged.
    """
    pair = plan.pair
    if pair is not None and held < plan.slots:
        # The same for two continuous rates that both fit, in a straight line: what nearly every claim is.
        unit, drain, capacity, unit_2, drain_2, capacity_2 = pair
        debt, at_ms, debt_2, at_2_ms = state
        elapsed_ms = now_ms - at_ms
        # One int where both were charged by the last claim: equal ones that are two go the long way, once.
        if at_ms is at_2_ms and elapsed_ms >= 0:
            if elapsed_ms:
                debt -= drain * elapsed_ms
                if debt < 0:
                    debt = 0
                debt_2 -= drain_2 * elapsed_ms
                if debt_2 < 0:
                    debt_2 = 0
            debt += unit * cost
            debt_2 += unit_2 * cost
            if debt <= capacity and debt_2 <= capacity_2:
                return 0, [debt, now_ms, debt_2, now_ms]
    return _charged_in_turn(plan, state, held, cost, now_ms)


def _charged_in_turn(plan: Plan, state: Sequence[int], held: int, cost: int, now_ms: int) -> tuple[int, list[int]]:
    over = 0
    levels = [*state]
    for debt_at, time_at, bit, unit, drain, capacity, calendar, rate in plan.steps:
        debt = levels[debt_at]
        elapsed_ms = now_ms - levels[time_at]
        if elapsed_ms:
            if elapsed_ms < 0 or calendar:
                debt, levels[time_at] = owed(rate, debt, levels[time_at], now_ms)
            else:
                # What owed() says of a continuous rate, without the call.
                debt -= drain * elapsed_ms
                if debt < 0:
                    debt = 0
                levels[time_at] = now_ms
        charged = debt + unit * cost
        if charged > capacity:
            over |= bit
            charged = debt
        levels[debt_at] = charged
    if held >= plan.slots:
        over |= plan.slot_bit
    if over & plan.enforced:
        _uncharge(plan, levels, over, cost)
    return over, levels


def _uncharge(plan: Plan, levels: list[int], over: int, cost: int) -> None:
    for index, bit, rate in plan.numbered_rates:
        if not over & bit:
            levels[index] -= rate.unit * cost


def uncharged(plan: Plan, state: Sequence[int], held: int, cost: int, now_ms: int) -> tuple[int, list[int]]:
    """What `charge` would decide, with the state of the rates as it is now."""
    over, levels = charge(plan, state, held, cost, now_ms)
    if not over & plan.enforced:
        _uncharge(plan, levels, over, cost)
    return over, levels


def rebased(plan: Plan, state: Sequence[int], levels: Sequence[int], now_ms: int) -> list[str]:
    """The rates whose clock was set back by more than a period: their debt counts from now on, claim refused or not."""
    return [
        rate.name
        for index, _, rate in plan.numbered_rates
        if state[index] and state[index + 1] > now_ms == levels[index + 1]
    ]


def given_back(decision: Decision, now_ms: int) -> dict[str, tuple[int, int]]:
    """What a refund of `decision` is worth now: ``(amount, unit)`` by limit, less what time has given back already."""
    elapsed_ms = max(0, now_ms - decision.decided_at_ms)
    amounts = {}
    for _, bit, rate in decision.plan.numbered_rates:
        if decision.over & bit:
            continue
        amount = decision.cost * rate.unit - rate.drain * elapsed_ms
        if rate.calendar:
            same = now_ms // rate.period_ms <= decision.decided_at_ms // rate.period_ms
            amount = decision.cost * rate.unit if same else 0
        if amount > 0:
            amounts[rate.name] = (amount, rate.unit)
    return amounts


def drained_at_ms(rates: Iterable[Rate], state: Iterable[int]) -> int:
    """The first moment at which none of `rates` owes anything."""
    numbers = iter(state)
    pairs = zip(rates, numbers, numbers, strict=False)
    return max([at_ms + time_to_drain_ms(rate, debt, at_ms, at_ms) for rate, debt, at_ms in pairs], default=0)
