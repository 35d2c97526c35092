"""A plan with all its limits multiplied by a number."""

from dataclasses import replace

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import EXACT_MAX, Concurrency, Rate
from awx_ratelimit.errors import InvalidLimit


def multiplied(plan: Plan, times: float) -> Plan:
    """Return `plan` with `times` as many tokens, burst and slots, rounded to whole numbers of at least 1.

    The limits of its account are multiplied too. A rate becomes no larger than what can be counted exactly.
    """
    if times == 1:
        return plan
    account = None if plan.account is None else multiplied(plan.account, times)
    rates = tuple(_rate(rate, times) for rate in plan.rates)
    slots = None if plan.concurrency is None else _slots(plan.concurrency, times)
    return Plan(plan.name, rates, slots, account, plan.shadow, plan.is_unlimited)


def _rate(rate: Rate, times: float) -> Rate:
    tokens, burst = (_number(number, times) for number in (rate.tokens, rate.burst))
    try:
        return replace(rate, tokens=tokens, burst=burst)
    except InvalidLimit:
        # So many can always be counted. The plan itself may have more, if its numbers have a large common divisor.
        most = EXACT_MAX if rate.period else EXACT_MAX // rate.period_ms
        if most < max(rate.tokens, rate.burst):
            return rate
        return replace(rate, tokens=min(tokens, most), burst=min(burst, most))


def _slots(concurrency: Concurrency, times: float) -> Concurrency:
    return replace(concurrency, slots=_number(concurrency.slots, times))


def _number(number: int, times: float) -> int:
    return max(1, round(number * times))
