"""Which refusals are justified, and whether the waits that they promise are honest.

A refusal is justified if at least one history that fits the observations leaves no room for the request. So every
charge counts as late as possible, every slot is held as long as possible, and failed requests count as charged.
A refusal that no history justifies shows that the gateway charged refused requests, leaked a slot, charged one key for
another, or refused a client that stayed within its plan.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, chain, pairwise
from typing import Final

from awx_ratelimit.core.rate import CONCURRENT, Rate
from awx_ratelimit.loadtest.audit.contract import remaining, retry_after_s
from awx_ratelimit.loadtest.audit.observation import SECOND_US, Observation, Outcome, group_by_key
from awx_ratelimit.loadtest.audit.verdict import AuditedBudget, Tolerances, Verdict, judge, seconds

#: The name of a profile, and of the promise that it tests.
ISOLATION: Final = "isolation"
HONEST_WAIT: Final = "honest wait"
_NEVER_US = 1 << 62


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
        boundary_us = self._rate.periods.bounds(skewed_us // 1_000)[0] * 1_000 - self._tolerances.skew_us
        return self._cost_sent_before(request) - self._costs[bisect_left(self._charged_us, boundary_us)]

    def _levels_after_charges(self, charged: Sequence[Observation]) -> list[int]:
        """The debt after each charge, if each happens as late as possible."""
        levels, level, at_us = [0], 0, 0
        for one, charged_us in zip(charged, self._charged_us, strict=True):
            level = max(0, level - self._rate.tokens * (charged_us - at_us)) + one.cost * self._period_us
            at_us = charged_us
            levels.append(level)
        return levels


def _latest_charge_us(one: Observation, tolerances: Tolerances) -> int:
    """A gateway may decide a request without a response after its client has gone."""
    return one.answered_us + (0 if one.decided else tolerances.hang_up_us)


def _latest_release_us(one: Observation, tolerances: Tolerances) -> int:
    if one.hung_up or not one.decided:
        return one.ended_us + tolerances.hang_up_us
    return one.ended_us + tolerances.release_us


class WorstCase:
    """The worst-case debts and slots of one group of keys in one budget."""

    def __init__(self, observations: Sequence[Observation], budget: AuditedBudget, tolerances: Tolerances) -> None:
        charged = [one for one in observations if one.outcome is not Outcome.REFUSED]
        self._budget = budget
        self._debts = [WorstCaseDebt(charged, rate, tolerances) for rate in budget.rates]
        self._debts_with_refusals = [WorstCaseDebt(observations, rate, tolerances) for rate in budget.rates]
        self._sent_us = sorted(one.sent_us for one in charged)
        self._released_us = sorted(_latest_release_us(one, tolerances) for one in charged)
        self._held_sent_us = sorted(one.sent_us for one in charged if one.held)
        self._slots = budget.slots

    def rates_have_room(self, request: Observation, *, refusals_charged: bool = False) -> bool:
        """Whether every rate certainly had room for `request`; optionally as if earlier refusals had been charged."""
        if not all(self._is_full(request, rate) for rate in self._budget.measured_rates):
            return False
        if refusals_charged:
            return all(debt.surely_fits(request, own_cost=request.cost) for debt in self._debts_with_refusals)
        return all(debt.surely_fits(request) for debt in self._debts)

    def slots_have_room(self, request: Observation, *, streams_leaked: bool = False) -> bool:
        """Whether a slot was certainly free for `request`, or the gateway's own header says so.

        With `streams_leaked` the slots of earlier streams count as never released.
        """
        if self._slots is None or remaining(request, self._budget.name(CONCURRENT)):
            return True
        begun = bisect_right(self._sent_us, request.answered_us)
        leaked = bisect_left(self._held_sent_us, request.sent_us) if streams_leaked else 0
        return begun - bisect_left(self._released_us, request.sent_us) + leaked < self._slots

    def _is_full(self, request: Observation, rate: Rate) -> bool:
        """Whether the gateway's own header says so. Nobody else knows what a request has cost in tokens."""
        return (remaining(request, self._budget.name(rate.name)) or 0) >= rate.burst


class Room:
    """The worst cases of all budgets that the requests of one key are charged to."""

    def __init__(self, worst_cases: Sequence[WorstCase]) -> None:
        self._worst_cases = worst_cases

    def rates_have_room(self, request: Observation, *, refusals_charged: bool = False) -> bool:
        """See WorstCase."""
        return all(one.rates_have_room(request, refusals_charged=refusals_charged) for one in self._worst_cases)

    def slots_have_room(self, request: Observation, *, streams_leaked: bool = False) -> bool:
        """See WorstCase."""
        return all(one.slots_have_room(request, streams_leaked=streams_leaked) for one in self._worst_cases)


def rooms(observations: Sequence[Observation], tolerances: Tolerances) -> dict[int, Room]:
    """The room of each key."""
    worst_cases = [
        (budget, {group: WorstCase(of_group, budget, tolerances) for group, of_group in groups.items()})
        for budget in tolerances.budgets
        for groups in [budget.groups(observations)]
    ]
    keys = {one.key for one in observations}
    return {key: Room([cases[budget.group_of(key)] for budget, cases in worst_cases]) for key in keys}


class Fault(StrEnum):
    """What an unjustified refusal proves."""

    KEYS_SHARE_BUDGET = "keys share a budget"
    SLOT_LEAKED = "a slot leaked"
    REFUSALS_CHARGED = "refusals are charged"
    TOO_STRICT = "the plan is not granted"


def unjustified_refusals(observations: Sequence[Observation], tolerances: Tolerances) -> dict[Fault, list[str]]:
    """One sentence for each unjustified refusal, grouped by what it proves."""
    found: dict[Fault, list[str]] = {fault: [] for fault in Fault}
    isolated = [one for one in observations if one.profile == ISOLATION]
    all_keys = WorstCase(isolated, AuditedBudget(tolerances.plan), tolerances)
    room_of = rooms(observations, tolerances)
    for key, of_key in group_by_key(observations).items():
        room = room_of[key]
        for one in of_key:
            if tolerances.judges(one) and room.rates_have_room(one) and room.slots_have_room(one):
                found[_fault(one, room, all_keys)].append(_describe(one, of_key))
    # A gateway that is too strict, or charges refusals, for a single key also does so while a second key is active.
    if found[Fault.TOO_STRICT]:
        _merge(found, Fault.TOO_STRICT, Fault.REFUSALS_CHARGED, Fault.KEYS_SHARE_BUDGET)
    elif found[Fault.REFUSALS_CHARGED]:
        _merge(found, Fault.REFUSALS_CHARGED, Fault.KEYS_SHARE_BUDGET)
    return found


def _merge(found: dict[Fault, list[str]], into: Fault, *others: Fault) -> None:
    for other in others:
        found[into] += found[other]
        found[other] = []


def _fault(one: Observation, room: Room, all_keys: WorstCase) -> Fault:
    # The isolation profile tests nothing else, so one budget for both keys is the most likely cause there.
    if one.profile == ISOLATION and not all_keys.rates_have_room(one):
        return Fault.KEYS_SHARE_BUDGET
    if not room.slots_have_room(one, streams_leaked=True):
        return Fault.SLOT_LEAKED
    if not room.rates_have_room(one, refusals_charged=True):
        return Fault.REFUSALS_CHARGED
    return Fault.TOO_STRICT


def _describe(one: Observation, of_key: Sequence[Observation]) -> str:
    earlier = [other for other in of_key if other.outcome is Outcome.ADMITTED and other.sent_us < one.sent_us]
    since = f", {seconds(one.sent_us - earlier[-1].sent_us)} after the last admitted request" if earlier else ""
    return f"profile {one.profile}: a request was refused although the plan certainly had room{since}"


def check_waits(observations: Sequence[Observation], tolerances: Tolerances) -> Verdict:
    """Whether every wait is as long as ``Retry-After`` says: not longer, and at most one second shorter.

    It judges pairs of a refusal by rates and the next request, of the same key. ``Retry-After`` is rounded up to whole
    seconds, so a wait may be up to a second too long.
    """
    # Keys that share limits pay for each other, so nothing may come between a refusal and the next request.
    widest, room_of = tolerances.budgets[-1], rooms(observations, tolerances)
    groups = widest.groups(observations).values()
    pairs = [pair for of_group in groups for pair in _pairs(of_group, room_of, tolerances)]
    late = [pair for pair in pairs if _is_late(*pair, tolerances)]
    early = [pair for pair in pairs if _is_early(*pair, tolerances)]
    faults = [_describe_wait(*pair, "was refused again") for pair in late if pair[1].outcome is Outcome.REFUSED]
    faults += [_describe_wait(*pair, "was admitted") for pair in early if pair[1].outcome is Outcome.ADMITTED]
    detail = f"{len(late)} requests after the wait were admitted, {len(early)} more than 1 s early were refused"
    return judge(HONEST_WAIT, faults, bool(late), detail)


def _pairs(
    observations: Sequence[Observation], room_of: Mapping[int, Room], tolerances: Tolerances
) -> Iterable[tuple[Observation, Observation]]:
    """Each refusal by rates and the next request, if no other request overlapped with either of them."""
    busy_until_us = 0
    next_sent_us = chain((one.sent_us for one in observations[2:]), [_NEVER_US])
    for (before, after), next_us in zip(pairwise(observations), next_sent_us, strict=False):
        alone = busy_until_us <= before.sent_us and before.ended_us <= after.sent_us and after.answered_us <= next_us
        busy_until_us = max(busy_until_us, before.ended_us)
        refused = tolerances.judges(before) and retry_after_s(before)
        if alone and refused and before.key == after.key and room_of[before.key].slots_have_room(before):
            yield before, after


def _wait_us(refused: Observation) -> int:
    return (retry_after_s(refused) or 0) * SECOND_US


def _is_late(refused: Observation, after: Observation, tolerances: Tolerances) -> bool:
    due_us = refused.answered_us + _wait_us(refused) + tolerances.tolerance_us
    return after.sent_us >= due_us and after.cost <= refused.cost and after.decided and tolerances.knows(after)


def _is_early(refused: Observation, after: Observation, tolerances: Tolerances) -> bool:
    latest_us = refused.sent_us + _wait_us(refused) - SECOND_US - tolerances.tolerance_us
    return after.answered_us <= latest_us and after.cost >= refused.cost and after.decided


def _describe_wait(refused: Observation, after: Observation, what: str) -> str:
    waited_us = after.sent_us - refused.answered_us
    return f"the promised wait was {retry_after_s(refused)} s; a client that waited {seconds(waited_us)} {what}"
