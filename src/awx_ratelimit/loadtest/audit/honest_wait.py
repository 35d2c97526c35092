"""Honest wait: a client that waits for ``Retry-After`` is admitted; one that returns over a second early is refused.

This module judges pairs: a refusal by rates and the next request of the same key, with no other request of the key in
flight between them. ``Retry-After`` is rounded up to whole seconds, so a wait may be up to a second too long.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Final

from awx_ratelimit.loadtest.audit.contract import retry_after_s
from awx_ratelimit.loadtest.audit.observation import SECOND_US, Observation, Outcome, group_by_key
from awx_ratelimit.loadtest.audit.tolerances import Tolerances
from awx_ratelimit.loadtest.audit.verdict import Verdict, judge, seconds
from awx_ratelimit.loadtest.audit.worst_case import WorstCase

NAME: Final = "honest wait"
_NEVER_US = 1 << 62


def check(observations: Sequence[Observation], tolerances: Tolerances) -> Verdict:
    """Whether every wait is as long as ``Retry-After`` says: not longer, and at most one second shorter."""
    pairs = [pair for of_key in group_by_key(observations).values() for pair in _pairs(of_key, tolerances)]
    late = [pair for pair in pairs if _is_late(*pair, tolerances)]
    early = [pair for pair in pairs if _is_early(*pair, tolerances)]
    faults = [_describe(*pair, "was refused again") for pair in late if pair[1].outcome is Outcome.REFUSED]
    faults += [_describe(*pair, "was admitted") for pair in early if pair[1].outcome is Outcome.ADMITTED]
    detail = f"{len(late)} requests after the wait were admitted, {len(early)} more than 1 s early were refused"
    return judge(NAME, faults, bool(late), detail)


def _pairs(observations: Sequence[Observation], tolerances: Tolerances) -> Iterable[tuple[Observation, Observation]]:
    """Each refusal by rates and the next request, if no other request overlapped with either of them."""
    worst_case = WorstCase(observations, tolerances)
    busy_until_us = 0
    next_sent_us = chain((one.sent_us for one in observations[2:]), [_NEVER_US])
    for (before, after), next_us in zip(pairwise(observations), next_sent_us, strict=False):
        alone = busy_until_us <= before.sent_us and before.ended_us <= after.sent_us and after.answered_us <= next_us
        busy_until_us = max(busy_until_us, before.ended_us)
        refused = before.outcome is Outcome.REFUSED and retry_after_s(before)
        if alone and refused and worst_case.slots_have_room(before):
            yield before, after


def _wait_us(refused: Observation) -> int:
    return (retry_after_s(refused) or 0) * SECOND_US


def _is_late(refused: Observation, after: Observation, tolerances: Tolerances) -> bool:
    due_us = refused.answered_us + _wait_us(refused) + tolerances.tolerance_us
    return after.sent_us >= due_us and after.cost <= refused.cost and after.outcome is not Outcome.FAILED


def _is_early(refused: Observation, after: Observation, tolerances: Tolerances) -> bool:
    latest_us = refused.sent_us + _wait_us(refused) - SECOND_US - tolerances.tolerance_us
    return after.answered_us <= latest_us and after.cost >= refused.cost and after.outcome is not Outcome.FAILED


def _describe(refused: Observation, after: Observation, what: str) -> str:
    waited_us = after.sent_us - refused.answered_us
    return f"the promised wait was {retry_after_s(refused)} s; a client that waited {seconds(waited_us)} {what}"
