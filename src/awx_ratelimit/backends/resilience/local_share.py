"""What one of several processes may let through by itself, while they cannot decide together.

Of W processes each gets a W-th of every limit, rounded up, so that together they pass what the limits say by one token
each. The burst holds at least the largest claim, or that could never be allowed; it is never more than the limit's own.
"""

from collections import OrderedDict
from contextlib import suppress
from typing import TypeGuard

from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.core.validation import set_fields
from awx_ratelimit.errors import InvalidLimit


class Share(Plan):
    """A share of the plan `whole`, made by the `shares` of one guard. It is the plan of that guard's own decisions."""

    __slots__ = ("shares", "whole")
    shares: "Shares"
    whole: Plan


class Shares:
    """The shares of one guard in one process of `workers`. From any thread: each step is one step of a dict.

    A share holds the largest claim that this guard has seen under its plan, and of a plan that it has not seen for
    long the largest since then.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._known: OrderedDict[Plan, tuple[int, Share]] = OrderedDict()

    def of(self, plan: Plan, cost: int) -> Share:
        """The share of `plan`, for claims of `cost` tokens and of those seen before."""
        known = self._known.get(plan)
        if known is not None and cost <= known[0]:
            return known[1]
        largest = max(cost, 1)
        share = self._made(plan, largest)
        while len(self._known) >= MAX_CACHED_PLANS:
            with suppress(KeyError):  # another thread may be faster
                self._known.popitem(last=False)
        self._known[plan] = largest, share
        return share

    def made(self, plan: Plan) -> TypeGuard[Share]:
        """Whether `plan` is a share of this guard."""
        return plan.__class__ is Share and plan.shares is self

    def _made(self, plan: Plan, cost: int) -> Share:
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
        # Its burst is its tokens.
        return Rate(rate.name, burst, rate.period_ms, refill="calendar", shadow=rate.shadow)
    try:
        return Rate(rate.name, rate.tokens, rate.period_ms * workers, burst, shadow=rate.shadow)
    except InvalidLimit:
        # Too large to be counted exactly: rounded up.
        return Rate(rate.name, -(-rate.tokens // workers), rate.period_ms, burst, shadow=rate.shadow)
