"""Honest wait: who comes back after ``Retry-After`` is let in, and who comes more than a second earlier is not.

Judged are pairs: a refusal by rates, and the next request of that key, with nothing else of the key under way from
the one to the other. Whole seconds are rounded up, so a wait is a second too long at most.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Final

from awx_ratelimit.loadtest.audit.contract import retry_after_s
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome, by_key
from awx_ratelimit.loadtest.audit.tolerances import Terms, Verdict, seconds, verdict
from awx_ratelimit.loadtest.audit.worst_case import History

NAME: Final = "honest wait"
_SECOND_US = 1_000_000
_NEVER_US = 1 << 62


def audit(observations: Sequence[Observation], terms: Terms) -> Verdict:
    """Whether waits are as long as was said: not longer, and not more than a second shorter."""
    judged = [pair for of_key in by_key(observations).values() for pair in _pairs(of_key, terms)]
    late = [pair for pair in judged if _is_late(*pair, terms)]
    early = [pair for pair in judged if _is_early(*pair, terms)]
    faults = [_told(*pair, "was refused again") for pair in late if pair[1].outcome is Outcome.REFUSED]
    faults += [_told(*pair, "was let in already") for pair in early if pair[1].outcome is Outcome.ADMITTED]
    detail = f"{len(late)} came back after the wait and were let in, {len(early)} more than 1 s early and were refused"
    return verdict(NAME, faults, bool(late), detail)


def _pairs(observations: Sequence[Observation], terms: Terms) -> Iterable[tuple[Observation, Observation]]:
    """A refusal by rates, and what came next, where each was alone until it was answered."""
    history = History(observations, terms)
    busy_until_us, thens = 0, chain((one.sent_us for one in observations[2:]), [_NEVER_US])
    for (before, after), then_us in zip(pairwise(observations), thens, strict=False):
        alone = busy_until_us <= before.sent_us and before.ended_us <= after.sent_us and after.answered_us <= then_us
        busy_until_us = max(busy_until_us, before.ended_us)
        if alone and before.outcome is Outcome.REFUSED and retry_after_s(before) and history.slots_have_room(before):
            yield before, after


def _promised_us(refused: Observation) -> int:
    return (retry_after_s(refused) or 0) * _SECOND_US


def _is_late(refused: Observation, after: Observation, terms: Terms) -> bool:
    due_us = refused.answered_us + _promised_us(refused) + terms.tolerance_us
    return after.sent_us >= due_us and after.cost <= refused.cost and after.outcome is not Outcome.FAILED


def _is_early(refused: Observation, after: Observation, terms: Terms) -> bool:
    latest_us = refused.sent_us + _promised_us(refused) - _SECOND_US - terms.tolerance_us
    return after.answered_us <= latest_us and after.cost >= refused.cost and after.outcome is not Outcome.FAILED


def _told(refused: Observation, after: Observation, what: str) -> str:
    waited_us = after.sent_us - refused.answered_us
    return f"told to wait {retry_after_s(refused)} s, a client that came after {seconds(waited_us)} {what}"
