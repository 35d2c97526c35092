"""Refusals that no possible history justifies, and what each of them proves.

Such a refusal shows that the gateway charged refused requests, leaked a slot, charged one key for another, or refused
a client that stayed within its plan.
"""

from collections.abc import Sequence
from enum import StrEnum

from awx_ratelimit.loadtest.audit import isolation
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome, group_by_key
from awx_ratelimit.loadtest.audit.tolerances import Tolerances
from awx_ratelimit.loadtest.audit.verdict import seconds
from awx_ratelimit.loadtest.audit.worst_case import WorstCase


class Fault(StrEnum):
    """What an unjustified refusal proves."""

    KEYS_SHARE_BUDGET = "keys share a budget"
    SLOT_LEAKED = "a slot leaked"
    REFUSALS_CHARGED = "refusals are charged"
    TOO_STRICT = "the plan is not granted"


def unjustified_refusals(observations: Sequence[Observation], tolerances: Tolerances) -> dict[Fault, list[str]]:
    """One sentence for each unjustified refusal, grouped by what it proves."""
    found: dict[Fault, list[str]] = {fault: [] for fault in Fault}
    all_keys = WorstCase([one for one in observations if one.profile == isolation.PROFILE], tolerances)
    for of_key in group_by_key(observations).values():
        worst_case = WorstCase(of_key, tolerances)
        for one in of_key:
            if one.outcome is Outcome.REFUSED and _certainly_had_room(worst_case, one):
                found[_fault(one, of_key, worst_case, all_keys)].append(_describe(one, of_key))
    # A gateway that is too strict, or charges refusals, for a single key also does so while a second key is active.
    if found[Fault.TOO_STRICT]:
        _merge(found, Fault.TOO_STRICT, Fault.REFUSALS_CHARGED, Fault.KEYS_SHARE_BUDGET)
    elif found[Fault.REFUSALS_CHARGED]:
        _merge(found, Fault.REFUSALS_CHARGED, Fault.KEYS_SHARE_BUDGET)
    return found


def _certainly_had_room(worst_case: WorstCase, one: Observation) -> bool:
    return worst_case.rates_have_room(one) and worst_case.slots_have_room(one)


def _merge(found: dict[Fault, list[str]], into: Fault, *others: Fault) -> None:
    for other in others:
        found[into] += found[other]
        found[other] = []


def _fault(one: Observation, of_key: Sequence[Observation], worst_case: WorstCase, all_keys: WorstCase) -> Fault:
    # The isolation profile tests nothing else, so one budget for both keys is the most likely cause there.
    if one.profile == isolation.PROFILE and not all_keys.rates_have_room(one):
        return Fault.KEYS_SHARE_BUDGET
    held = sum(1 for other in of_key if other.held and other.sent_us < one.sent_us)
    if held and not worst_case.slots_have_room(one, leaked=held):
        return Fault.SLOT_LEAKED
    if not worst_case.rates_have_room(one, refusals_charged=True):
        return Fault.REFUSALS_CHARGED
    return Fault.TOO_STRICT


def _describe(one: Observation, of_key: Sequence[Observation]) -> str:
    earlier = [other for other in of_key if other.outcome is Outcome.ADMITTED and other.sent_us < one.sent_us]
    since = f", {seconds(one.sent_us - earlier[-1].sent_us)} after the last admitted request" if earlier else ""
    return f"profile {one.profile}: a request was refused although the plan certainly had room{since}"
