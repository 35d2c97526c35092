"""The most that one key may owe and hold, for every possible moment of the gateway's decisions.

A refusal is justified if at least one history that fits the observations leaves no room for the request. So every
charge counts as late as possible, every slot is held as long as possible, and failed requests count as charged.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit.contract import slots_left
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.tolerances import Tolerances


class WorstCaseDebt:
    """The largest debt of one rate, for requests that were decided at an unknown moment of their duration."""

    def __init__(self, charged: Iterable[Observation], rate: Rate, tolerances: Tolerances) -> None:
        self._rate, self._tolerances = rate, tolerances
        charged = sorted(charged, key=lambda one: _latest_charge_us(one, tolerances))
        self._charged_us = [_latest_charge_us(one, tolerances) for one in charged]
        self._costs = [0, *accumulate(one.cost for one in charged)]
        by_sending = sorted(charged, key=lambda one: one.sent_us)
        self._sent_us = [one.sent_us for one in by_sending]
        self._sent_costs = [0, *accumulate(one.cost for one in by_sending)]
        self._period_us = rate.period_ms * 1_000
        self._levels = self._levels_after_charges(charged)

    def surely_fits(self, request: Observation, *, own_cost: int = 0) -> bool:
        """Whether the rate certainly had room for `request`. `own_cost` of the charged cost is the request's own."""
        burst = self._rate.burst * self._period_us - self._rate.tokens * self._tolerances.tolerance_us
        cost = request.cost * self._period_us
        return self._max_debt(request) - own_cost * self._period_us + cost <= max(burst, cost)

    def _max_debt(self, request: Observation) -> int:
        """The largest debt when `request` was decided, in tokens times the period in us."""
        if self._rate.calendar:
            return self._cost_since_boundary(request) * self._period_us
        earlier = bisect_right(self._charged_us, request.sent_us)
        level = self._levels[earlier]
        if earlier:
            level = max(0, level - self._rate.tokens * (request.sent_us - self._charged_us[earlier - 1]))
        # All requests in flight may have been charged before this one.
        return level + (self._cost_sent_before(request) - self._costs[earlier]) * self._period_us

    def _cost_sent_before(self, request: Observation) -> int:
        return self._sent_costs[bisect_right(self._sent_us, request.answered_us)]

    def _cost_since_boundary(self, request: Observation) -> int:
        skewed_us = request.sent_us - self._tolerances.skew_us
        boundary_us = skewed_us - skewed_us % self._period_us - self._tolerances.skew_us
        return self._cost_sent_before(request) - self._costs[bisect_left(self._charged_us, boundary_us)]

    def _levels_after_charges(self, charged: Sequence[Observation]) -> list[int]:
        """The debt after each charge, if each happens as late as possible."""
        levels, level, at_us = [0], 0, 0
        for one, charged_us in zip(charged, self._charged_us, strict=True):
            level = max(0, level - self._rate.tokens * (charged_us - at_us)) + one.cost * self._period_us
            at_us = charged_us
            levels.append(level)
        return levels


class WorstCaseSlots:
    """The largest number of slots in use, if each slot is released as late as the tolerances allow."""

    def __init__(self, charged: Sequence[Observation], tolerances: Tolerances) -> None:
        self._sent_us = sorted(one.sent_us for one in charged)
        self._released_us = sorted(_latest_release_us(one, tolerances) for one in charged)

    def max_held(self, request: Observation) -> int:
        """How many slots may have been in use when `request` was decided."""
        return bisect_right(self._sent_us, request.answered_us) - bisect_left(self._released_us, request.sent_us)


def _latest_charge_us(one: Observation, tolerances: Tolerances) -> int:
    """A gateway may decide a failed request after its client has gone."""
    return one.answered_us + (tolerances.hang_up_us if one.outcome is Outcome.FAILED else 0)


def _latest_release_us(one: Observation, tolerances: Tolerances) -> int:
    if one.hung_up or one.outcome is Outcome.FAILED:
        return one.ended_us + tolerances.hang_up_us
    return one.ended_us + tolerances.release_us


class WorstCase:
    """The worst-case debts and slots of one key."""

    def __init__(self, observations: Sequence[Observation], tolerances: Tolerances) -> None:
        charged = [one for one in observations if one.outcome is not Outcome.REFUSED]
        self._debts = [WorstCaseDebt(charged, rate, tolerances) for rate in tolerances.rates]
        self._debts_with_refusals = [WorstCaseDebt(observations, rate, tolerances) for rate in tolerances.rates]
        self._slots_used = WorstCaseSlots(charged, tolerances)
        self._slots = tolerances.slots

    def rates_have_room(self, request: Observation, *, refusals_charged: bool = False) -> bool:
        """Whether every rate certainly had room for `request`; optionally as if earlier refusals had been charged."""
        if refusals_charged:
            return all(debt.surely_fits(request, own_cost=request.cost) for debt in self._debts_with_refusals)
        return all(debt.surely_fits(request) for debt in self._debts)

    def slots_have_room(self, request: Observation, *, leaked: int = 0) -> bool:
        """Whether a slot was certainly free for `request`, or the gateway's own header says so.

        `leaked` counts slots as in use that were never released.
        """
        if slots_left(request) or self._slots is None:
            return True
        return self._slots_used.max_held(request) + leaked < self._slots
