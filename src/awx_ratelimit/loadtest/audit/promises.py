"""The promises that an audit checks, with one verdict for each. Pure, and the same for a gateway in any language.

Every verdict holds for each moment between sending and answering at which the gateway may have decided. So an honest
gateway passes on any machine; a busy machine only shows less. Every key must be idle when the run begins.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import Final, NamedTuple

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit import contract
from awx_ratelimit.loadtest.audit.observation import (
    SECOND_US,
    Observation,
    Outcome,
    admitted,
    group_by_key,
    max_in_flight,
)
from awx_ratelimit.loadtest.audit.rate_bound import TightestInterval, period_edges_us, tightest_interval
from awx_ratelimit.loadtest.audit.refusals import HONEST_WAIT, ISOLATION, Fault, check_waits, unjustified_refusals
from awx_ratelimit.loadtest.audit.verdict import Tolerances, Verdict, judge, seconds
from awx_ratelimit.runtime.clock import rfc3339

ANSWERS, NEVER_OVER, NOT_UNDER, SLOTS, FREE = "answers", "never over", "not under", "slots", "refusals are free"
NAMES: Final = (ANSWERS, NEVER_OVER, NOT_UNDER, SLOTS, HONEST_WAIT, FREE, contract.NAME, ISOLATION)
#: This many refusals in a row are a burst of refusals.
_MIN_BURST: Final = 5
_MIN_SAMPLES: Final = 3
#: A gateway on a single core shares it with the flood, so a latency may grow by this factor.
_MAX_GROWTH = 4


def audit(observations: Sequence[Observation], tolerances: Tolerances) -> list[Verdict]:
    """One verdict for each of `NAMES`, in that order."""
    spread_us = tolerances.spread_us
    seen = [_widen(one, spread_us) for one in observations] if spread_us else list(observations)
    faults = unjustified_refusals(seen, tolerances)
    return [
        _check_answers(seen),
        _check_never_over(seen, tolerances),
        _check_not_under(seen, tolerances, faults[Fault.TOO_STRICT]),
        _check_slots(seen, tolerances, faults[Fault.SLOT_LEAKED]),
        check_waits(seen, tolerances),
        _check_free_refusals(seen, faults),
        contract.check(seen, tolerances),
        _check_isolation(seen, tolerances, faults[Fault.KEYS_SHARE_BUDGET]),
    ]


def _widen(one: Observation, spread_us: int) -> Observation:
    """Extend a request whose times are inaccurate by `spread_us`, so that it covers every possible moment."""
    answered_us = one.answered_us + spread_us
    return replace(
        one,
        sent_us=one.sent_us - spread_us,
        answered_us=answered_us,
        alive_us=max(answered_us, one.alive_us - spread_us) if one.alive_us > one.answered_us else answered_us,
        ended_us=one.ended_us + spread_us,
    )


def _check_answers(observations: Sequence[Observation]) -> Verdict:
    if not observations:
        return judge(ANSWERS, ["no request was sent"], shown=False, detail="")
    failed = [one for one in observations if one.outcome is Outcome.FAILED]
    faults = [one.error or f"the gateway answered with status {one.status}" for one in failed]
    cut = sum(1 for one in observations if one.outcome is Outcome.UNFINISHED)
    detail = f"the gateway answered all {len(observations) - cut} requests"
    detail += f"; {cut} more were in flight when the run ended" if cut else ""
    return judge(ANSWERS, faults, shown=cut < len(observations), detail=detail)


def _check_never_over(observations: Sequence[Observation], tolerances: Tolerances) -> Verdict:
    let_in = admitted(observations)
    found = [
        (_Named(budget.name(rate.name), rate), interval)
        for budget in tolerances.budgets
        for of_group in budget.groups(let_in).values()
        for rate in budget.rates
        if (interval := _tightest(of_group, rate, tolerances)) is not None
    ]
    faults = [_describe(limit, interval) for limit, interval in found if interval.excess > 0]
    # An interval with less than a burst proves nothing: the gateway was never near the limit.
    reached = [(limit, interval) for limit, interval in found if interval.admitted >= limit.rate.burst]
    names = {budget.name(rate.name) for budget in tolerances.budgets for rate in budget.rates}
    missed = sorted(names - {limit.name for limit, _ in reached})
    nearest = max(reached, key=lambda one: one[1].excess / one[1].unit / one[0].rate.burst, default=None)
    detail = f"closest: {_describe(*nearest)}" if nearest else "no limit was reached"
    detail += f"; not reached: {', '.join(missed)}" if missed else ""
    return judge(NEVER_OVER, faults, bool(reached), detail + _uncrossed(observations, tolerances))


class _Named(NamedTuple):
    """A rate and its name with its scope."""

    name: str
    rate: Rate


def _uncrossed(observations: Sequence[Observation], tolerances: Tolerances) -> str:
    """Which calendar periods have not ended during the run, so that it shows nothing about their boundaries."""
    if not observations:
        return ""
    from_us, to_us = min(one.sent_us for one in observations), max(one.answered_us for one in observations)
    ends = []
    for budget in tolerances.budgets:
        for rate in budget.rates:
            if not rate.calendar:
                continue
            _, end_us, *later_us = period_edges_us(rate, from_us, to_us)
            if not later_us:
                end = datetime.fromtimestamp(end_us // SECOND_US, UTC)
                ends.append(f"{budget.name(rate.name)} ends at {rfc3339(end)}")
    return f"; no boundary within the run: {', '.join(ends)}" if ends else ""


def _tightest(of_group: Sequence[Observation], rate: Rate, tolerances: Tolerances) -> TightestInterval | None:
    return tightest_interval(of_group, rate, tolerance_us=tolerances.tolerance_us, skew_us=tolerances.skew_us)


def _describe(limit: _Named, interval: TightestInterval) -> str:
    duration = seconds(interval.to_us - interval.from_us)
    return f"{limit.name}: {interval.admitted} admitted within {duration}, {interval.allowed:.2f} allowed"


def _check_not_under(observations: Sequence[Observation], tolerances: Tolerances, faults: list[str]) -> Verdict:
    """Shown if one key was admitted as often as the smallest burst."""
    costs = [sum(one.cost for one in of_key) for of_key in group_by_key(admitted(observations)).values()]
    smallest_burst = min((rate.burst for budget in tolerances.budgets for rate in budget.rates), default=1)
    detail = f"{sum(costs)} admitted, and no request within the plan was refused"
    unjudged = sum(1 for one in observations if one.outcome is Outcome.REFUSED and not tolerances.knows(one))
    detail += f"; refusals after a process was lost, which are not judged: {unjudged}" if unjudged else ""
    return judge(NOT_UNDER, faults, max(costs, default=0) >= smallest_burst, detail)


def _check_slots(observations: Sequence[Observation], tolerances: Tolerances, leaks: list[str]) -> Verdict:
    """Shown if all slots of a budget were in use at once, by requests that stayed open."""
    budgets = [(budget, budget.slots) for budget in tolerances.budgets if budget.slots is not None]
    if not budgets:
        return judge(SLOTS, [], shown=False, detail="the plan has no slots")
    faults, details, shown = [], [], False
    held = [one for one in observations if one.held]
    for budget, slots in budgets:
        whose = f" of {budget.scope}" if budget.scope else ""
        highest = max((max_in_flight(of_group) for of_group in budget.groups(observations).values()), default=0)
        if highest > slots:
            faults.append(f"{highest} requests{whose} were in flight at once, {slots} allowed")
        details.append(f"at most {highest} of {slots}{whose} in flight at once")
        shown = shown or (highest >= slots and bool(held))
    gone = sum(1 for one in held if one.hung_up)
    detail = f"{', '.join(details)}; {gone} clients hung up and their slots were released"
    return judge(SLOTS, [*faults, *leaks], shown, detail)


def _check_free_refusals(observations: Sequence[Observation], faults: dict[Fault, list[str]]) -> Verdict:
    """Shown if a request was admitted after a burst of refusals."""
    if faults[Fault.TOO_STRICT]:
        detail = "the gateway refuses requests within the plan, so no refusal shows whether refusals were charged"
        return judge(FREE, [], shown=False, detail=detail)
    bursts = sum(_admitted_after_bursts(of_key) for of_key in group_by_key(observations).values())
    detail = f"{bursts} requests were admitted on time after bursts of refusals"
    return judge(FREE, faults[Fault.REFUSALS_CHARGED], bool(bursts), detail)


def _admitted_after_bursts(observations: Sequence[Observation]) -> int:
    found = refused = 0
    for one in observations:
        if one.outcome is Outcome.REFUSED:
            refused += 1
        elif one.outcome is Outcome.ADMITTED:
            found += refused >= _MIN_BURST
            refused = 0
    return found


def _check_isolation(observations: Sequence[Observation], tolerances: Tolerances, shared_budget: list[str]) -> Verdict:
    """Shown if another key's latency was measured before and during a flood.

    It compares medians, because one slow request may be a busy machine. `shared_budget`: refusals that a shared budget
    explains.
    """
    medians = list(_medians_us(observations).values())
    slowed = [
        f"while another key flooded the gateway, a request took {_ms(during)} instead of {_ms(before)}"
        for before, during in medians
        if during > before + max(tolerances.latency_us, _MAX_GROWTH * before)
    ]
    detail = "no two keys were compared"
    if medians:
        before, during = medians[0]
        detail = f"median latency of another key: {_ms(before)} before a flood, {_ms(during)} during it"
    return judge(ISOLATION, shared_budget + slowed, bool(medians), detail)


def _medians_us(observations: Sequence[Observation]) -> dict[int, tuple[float, float]]:
    """The median latency of each key except the flooding key 0, before and during the flood."""
    keys = group_by_key(one for one in observations if one.profile == ISOLATION)
    flood = keys.pop(0, [])
    if not flood:
        return {}
    begin_us, end_us = flood[0].sent_us, max(one.answered_us for one in flood)
    medians = {}
    for key, of_key in keys.items():
        answered = [one for one in of_key if one.decided]
        before = [_latency_us(one) for one in answered if one.answered_us <= begin_us]
        during = [_latency_us(one) for one in answered if begin_us <= one.sent_us <= end_us]
        if min(len(before), len(during)) >= _MIN_SAMPLES:
            medians[key] = median(before), median(during)
    return medians


def _ms(us: float) -> str:
    return f"{us / 1_000:.1f} ms"


def _latency_us(one: Observation) -> int:
    return one.answered_us - one.sent_us
