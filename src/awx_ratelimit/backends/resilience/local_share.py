"""The share of a plan that one process decides by itself while the backend is unavailable.

With W processes, each gets 1/W of every limit, rounded up, so together they exceed a limit by at most one token each.
The burst of a share holds at least the largest claim, or that claim could never be allowed. It never exceeds the burst
of the plan.
"""

from collections import OrderedDict
from contextlib import suppress
from typing import TypeGuard

from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.core.validation import set_fields
from awx_ratelimit.errors import InvalidLimit


class Share(Plan):
    """A share of the plan `whole`. It is the plan of a guard's local decisions; `shares` belongs to that guard."""

    __slots__ = ("shares", "whole")
    shares: "Shares"
    whole: Plan


class Shares:
    """The shares of one guard in a process that is one of `workers`. Any thread may use it.

    A share holds the largest claim that the guard has seen under its plan. Least recently added plans are evicted.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._known: OrderedDict[Plan, tuple[int, Share]] = OrderedDict()

    def of(self, plan: Plan, cost: int) -> Share:
        """The share of `plan`, which holds claims of `cost` tokens and all earlier ones."""
        known = self._known.get(plan)
        if known is not None and cost <= known[0]:
            return known[1]
        largest = max(cost, 1)
        share = self._new(plan, largest)
        while len(self._known) >= MAX_CACHED_PLANS:
            with suppress(KeyError):  # another thread may remove it at the same time
                self._known.popitem(last=False)
        self._known[plan] = largest, share
        return share

    def owns(self, plan: Plan) -> TypeGuard[Share]:
        """Whether `plan` is a share of this guard."""
        return plan.__class__ is Share and plan.shares is self

    def _new(self, plan: Plan, cost: int) -> Share:
        slots = plan.concurrency
        share = Share(
            plan.name,
            tuple(_rate(rate, self._workers, cost) for rate in plan.rates),
            slots and Concurrency(max(1, slots.slots // self._workers), slots.ttl_ms, slots.max_hold_ms, slots.shadow),
            plan.shadow,
        )
        set_fields(share, shares=self, whole=plan)
        return share


def _rate(rate: Rate, workers: int, cost: int) -> Rate:
    burst = min(rate.burst, max(cost, -(-rate.burst // workers)))
    if rate.calendar:
        # The tokens of a calendar rate are its burst.
        return Rate(rate.name, burst, rate.period_ms, refill="calendar", shadow=rate.shadow)
    try:
        return Rate(rate.name, rate.tokens, rate.period_ms * workers, burst, shadow=rate.shadow)
    except InvalidLimit:
        # The longer period cannot be counted exactly. Divide the tokens instead, rounded up.
        return Rate(rate.name, -(-rate.tokens // workers), rate.period_ms, burst, shadow=rate.shadow)
