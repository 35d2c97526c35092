"""What one key may owe and hold at most, whatever the moments were at which the gateway decided.

A refusal is just only if some history that fits the observations leaves no room. So every charge counts as late as it
can be, every slot is held as long as it can be, and what failed counts as charged.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit.contract import slots_left
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.tolerances import Terms


class Debts:
    """The most that a rate may be owed, for requests that were decided somewhere within their times."""

    def __init__(self, charged: Iterable[Observation], rate: Rate, terms: Terms) -> None:
        self._rate, self._terms = rate, terms
        charged = sorted(charged, key=lambda one: _charged_us(one, terms))
        self._answers_us = [_charged_us(one, terms) for one in charged]
        self._costs = [0, *accumulate(one.cost for one in charged)]
        sent = sorted(charged, key=lambda one: one.sent_us)
        self._sent_us = [one.sent_us for one in sent]
        self._sent_costs = [0, *accumulate(one.cost for one in sent)]
        self._period_us = rate.period_ms * 1_000
        self._levels = self._drained(charged)

    def have_room(self, asked: Observation, *, besides: int = 0) -> bool:
        """Whether the cost of `asked` fits for certain; `besides` of what was charged is its own."""
        burst = self._rate.burst * self._period_us - self._rate.tokens * self._terms.tolerance_us
        cost = asked.cost * self._period_us
        return self._most(asked) - besides * self._period_us + cost <= max(burst, cost)

    def _most(self, asked: Observation) -> int:
        """The most that may be owed when `asked` was decided, in tokens times the period."""
        if self._rate.calendar:
            return self._since_boundary(asked) * self._period_us
        earlier = bisect_right(self._answers_us, asked.sent_us)
        level = self._levels[earlier]
        if earlier:
            level = max(0, level - self._rate.tokens * (asked.sent_us - self._answers_us[earlier - 1]))
        # Those under way may all have been before it.
        return level + (self._sent_before(asked) - self._costs[earlier]) * self._period_us

    def _sent_before(self, asked: Observation) -> int:
        return self._sent_costs[bisect_right(self._sent_us, asked.answered_us)]

    def _since_boundary(self, asked: Observation) -> int:
        skewed_us = asked.sent_us - self._terms.skew_us
        boundary_us = skewed_us - skewed_us % self._period_us - self._terms.skew_us
        return self._sent_before(asked) - self._costs[bisect_left(self._answers_us, boundary_us)]

    def _drained(self, charged: Sequence[Observation]) -> list[int]:
        """What is owed after each charge, all of them as late as can be."""
        levels, level, at_us = [0], 0, 0
        for one, charged_us in zip(charged, self._answers_us, strict=True):
            level = max(0, level - self._rate.tokens * (charged_us - at_us)) + one.cost * self._period_us
            at_us = charged_us
            levels.append(level)
        return levels


class Holds:
    """The most slots that may be taken: until a while after the end of each request."""

    def __init__(self, charged: Sequence[Observation], terms: Terms) -> None:
        self._sent_us = sorted(one.sent_us for one in charged)
        self._released_us = sorted(_released_us(one, terms) for one in charged)

    def at_most(self, asked: Observation) -> int:
        """How many were perhaps held when `asked` was decided."""
        return bisect_right(self._sent_us, asked.answered_us) - bisect_left(self._released_us, asked.sent_us)


def _charged_us(one: Observation, terms: Terms) -> int:
    """A request without an answer may be decided after its client has gone."""
    return one.answered_us + (terms.hang_up_us if one.outcome is Outcome.FAILED else 0)


def _released_us(one: Observation, terms: Terms) -> int:
    if one.hung_up or one.outcome is Outcome.FAILED:
        return one.ended_us + terms.hang_up_us
    return one.ended_us + terms.release_us


class History:
    """All that one key was given, or may have been."""

    def __init__(self, observations: Sequence[Observation], terms: Terms) -> None:
        charged = [one for one in observations if one.outcome is not Outcome.REFUSED]
        self._debts = [Debts(charged, rate, terms) for rate in terms.rates]
        self._all = [Debts(observations, rate, terms) for rate in terms.rates]
        self._holds = Holds(charged, terms)
        self._slots = terms.slots

    def rates_have_room(self, asked: Observation, *, refusals_charged: bool = False) -> bool:
        """Whether every rate surely had room for `asked`; also where each refusal before had been charged."""
        if refusals_charged:
            return all(debts.have_room(asked, besides=asked.cost) for debts in self._all)
        return all(debts.have_room(asked) for debts in self._debts)

    def slots_have_room(self, asked: Observation, *, lost: int = 0) -> bool:
        """Whether a slot was surely free for `asked`: the gateway says so, or it must have been.

        Also where `lost` more had never come back.
        """
        return bool(slots_left(asked)) or self._slots is None or self._holds.at_most(asked) + lost < self._slots
