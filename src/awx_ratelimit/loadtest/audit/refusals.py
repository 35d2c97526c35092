"""Refusals that nothing explains, and what they speak of.

A refusal is just where some history that fits the observations leaves no room. If none does, the gateway has charged
what it should not have, lost a slot, let one key pay for another, or refused a client that kept within its plan.
"""

from collections.abc import Sequence
from enum import StrEnum

from awx_ratelimit.loadtest.audit import isolation
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome, by_key
from awx_ratelimit.loadtest.audit.tolerances import Terms, seconds
from awx_ratelimit.loadtest.audit.worst_case import History


class Fault(StrEnum):
    """What an unjust refusal speaks of."""

    NEIGHBOUR = "another key"
    SLOT = "slots"
    CHARGED = "refusals"
    PLAN = "plan"


def unjust(observations: Sequence[Observation], terms: Terms) -> dict[Fault, list[str]]:
    """The unjust refusals, in a sentence each, by what they speak of."""
    found: dict[Fault, list[str]] = {fault: [] for fault in Fault}
    together = History([one for one in observations if one.profile == isolation.PROFILE], terms)
    for of_key in by_key(observations).values():
        history = History(of_key, terms)
        for one in of_key:
            if one.outcome is Outcome.REFUSED and history.rates_have_room(one) and history.slots_have_room(one):
                found[_fault(one, of_key, history, together)].append(_told(one, of_key))
    # Whoever is too strict with one key alone, or charges its refusals, is so beside another as well.
    if found[Fault.PLAN]:
        _blame(found, Fault.PLAN, Fault.CHARGED, Fault.NEIGHBOUR)
    elif found[Fault.CHARGED]:
        _blame(found, Fault.CHARGED, Fault.NEIGHBOUR)
    return found


def _blame(found: dict[Fault, list[str]], one: Fault, *others: Fault) -> None:
    for other in others:
        found[one] += found[other]
        found[other] = []


def _fault(one: Observation, of_key: Sequence[Observation], history: History, together: History) -> Fault:
    # Where two keys meet and nothing else is tried, one budget for both explains more than anything else.
    if one.profile == isolation.PROFILE and not together.rates_have_room(one):
        return Fault.NEIGHBOUR
    held = sum(1 for other in of_key if other.held and other.sent_us < one.sent_us)
    if held and not history.slots_have_room(one, lost=held):
        return Fault.SLOT
    if not history.rates_have_room(one, refusals_charged=True):
        return Fault.CHARGED
    return Fault.PLAN


def _told(one: Observation, of_key: Sequence[Observation]) -> str:
    earlier = [other for other in of_key if other.outcome is Outcome.ADMITTED and other.sent_us < one.sent_us]
    since = f", {seconds(one.sent_us - earlier[-1].sent_us)} after the last that was let in" if earlier else ""
    return f"in the profile {one.profile}, with room for certain, a request was refused{since}"
