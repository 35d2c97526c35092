"""The audit: observations -> verdicts. Pure, and the same for a gateway in any language.

What is concluded holds for every moment between sending and answering at which a gateway may have decided. So an
honest gateway passes however busy the machine is; a busy machine only shows less. Each key was idle when it began.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit import contract, isolation, waits
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome, admitted, by_key
from awx_ratelimit.loadtest.audit.rate_bound import Tightest, tightest
from awx_ratelimit.loadtest.audit.refusals import Fault, unjust
from awx_ratelimit.loadtest.audit.slots import most_under_way
from awx_ratelimit.loadtest.audit.tolerances import Terms, Verdict, seconds, verdict

ANSWERS, NEVER_OVER, NOT_UNDER, SLOTS = "answers", "never over", "not under", "slots"
HONEST_WAIT, FREE, CONTRACT, ISOLATION = waits.NAME, "refusals are free", contract.NAME, "isolation"
NAMES: Final = (ANSWERS, NEVER_OVER, NOT_UNDER, SLOTS, HONEST_WAIT, FREE, CONTRACT, ISOLATION)


def audit(observations: Sequence[Observation], terms: Terms) -> list[Verdict]:
    """One verdict of each of `NAMES`, in that order."""
    # Between machines a decision was made within a longer time; then all else is as on one.
    spread = terms.spread_us
    seen = [_spread(one, spread) for one in observations] if spread else list(observations)
    faults = unjust(seen, terms)
    return [
        _answers(seen),
        _never_over(seen, terms),
        _not_under(seen, terms, faults[Fault.PLAN]),
        _slots(seen, terms, faults[Fault.SLOT]),
        waits.audit(seen, terms),
        _free(seen, faults),
        contract.audit(seen, terms),
        _isolation(seen, terms, faults[Fault.NEIGHBOUR]),
    ]


def _spread(one: Observation, spread_us: int) -> Observation:
    held = one.alive_us > one.answered_us
    return replace(
        one,
        sent_us=one.sent_us - spread_us,
        answered_us=one.answered_us + spread_us,
        alive_us=max(one.answered_us + spread_us, one.alive_us - spread_us) if held else one.answered_us + spread_us,
        ended_us=one.ended_us + spread_us,
    )


def _answers(observations: Sequence[Observation]) -> Verdict:
    failed = [one for one in observations if one.outcome is Outcome.FAILED]
    faults = [one.error or f"an answer of status {one.status}" for one in failed]
    detail = f"{len(observations)} requests, each with an answer of the gateway"
    if not observations:
        return verdict(ANSWERS, ["no request was made"], shown=False, detail=detail)
    return verdict(ANSWERS, faults, shown=True, detail=detail)


def _never_over(observations: Sequence[Observation], terms: Terms) -> Verdict:
    found = [
        (rate, fit)
        for of_key in by_key(admitted(observations)).values()
        for rate in terms.rates
        if (fit := tightest(of_key, rate, tolerance_us=terms.tolerance_us, skew_us=terms.skew_us)) is not None
    ]
    faults = [_envelope(rate, fit) for rate, fit in found if fit.excess > 0]
    # Where less was let in at once than a burst, nothing was near the limit.
    reached = [(rate, fit) for rate, fit in found if fit.admitted >= rate.burst]
    names = sorted({rate.name for rate in terms.rates} - {rate.name for rate, _ in reached})
    nearest = max(reached, key=lambda one: one[1].excess / one[1].unit / one[0].burst, default=None)
    detail = f"nearest: {_envelope(*nearest)}" if nearest else "no limit was reached"
    return verdict(NEVER_OVER, faults, bool(reached), detail + (f"; not reached: {', '.join(names)}" if names else ""))


def _envelope(rate: Rate, fit: Tightest) -> str:
    return f"{rate.name}: {fit.admitted} let in within {seconds(fit.to_us - fit.from_us)}, allowed {fit.allowed:.2f}"


def _not_under(observations: Sequence[Observation], terms: Terms, faults: list[str]) -> Verdict:
    """Shown where as many were let in as a burst."""
    let_in = [sum(one.cost for one in of_key) for of_key in by_key(admitted(observations)).values()]
    least = min((rate.burst for rate in terms.rates), default=1)
    return verdict(
        NOT_UNDER, faults, max(let_in, default=0) >= least, f"none of {sum(let_in)} within the plan was refused"
    )


def _slots(observations: Sequence[Observation], terms: Terms, faults: list[str]) -> Verdict:
    """Shown where all slots were seen to be taken, and a body had ended or a client had gone before."""
    if terms.slots is None:
        return verdict(SLOTS, [], shown=False, detail="the plan limits no connections")
    most = max((most_under_way(of_key) for of_key in by_key(observations).values()), default=0)
    over = [f"{most} were under way at once, of {terms.slots} allowed"] if most > terms.slots else []
    gone = sum(1 for one in observations if one.held and one.hung_up)
    detail = f"at most {most} of {terms.slots} under way at once; {gone} clients hung up, and their slots came back"
    return verdict(SLOTS, over + faults, most >= terms.slots and _is_held(observations), detail)


def _is_held(observations: Sequence[Observation]) -> bool:
    return any(one.held for one in observations)


def _free(observations: Sequence[Observation], faults: dict[Fault, list[str]]) -> Verdict:
    """Shown where somebody was let in after a burst of refusals."""
    if faults[Fault.PLAN]:
        return verdict(FREE, [], shown=False, detail="it refuses within the plan, so that no refusal tells why")
    bursts = sum(_let_in_after_bursts(of_key) for of_key in by_key(observations).values())
    return verdict(
        FREE, faults[Fault.CHARGED], bool(bursts), f"{bursts} were let in after bursts of refusals, when they were due"
    )


def _let_in_after_bursts(observations: Sequence[Observation], *, least: int = 5) -> int:
    found = refused = 0
    for one in observations:
        if one.outcome is Outcome.REFUSED:
            refused += 1
        elif one.outcome is Outcome.ADMITTED:
            found += refused >= least
            refused = 0
    return found


def _isolation(observations: Sequence[Observation], terms: Terms, faults: list[str]) -> Verdict:
    medians = isolation.latencies_us(observations)
    shown = [f"{before / 1_000:.1f} ms before, {within / 1_000:.1f} ms within" for before, within in medians.values()]
    detail = f"median latency of another key: {shown[0]} a flood" if shown else "no two keys were compared"
    return verdict(ISOLATION, faults + isolation.slowed(observations, terms), bool(shown), detail)
