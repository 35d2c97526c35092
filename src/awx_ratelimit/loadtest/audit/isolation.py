"""Isolation: while one key floods a gateway, another key's requests get no slower, and its budget stays its own.

This module compares medians of one key before and during the flood, because one slow request may be a busy machine.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from awx_ratelimit.loadtest.audit.observation import Observation, Outcome, group_by_key
from awx_ratelimit.loadtest.audit.tolerances import Tolerances
from awx_ratelimit.loadtest.audit.verdict import Verdict, judge

NAME = PROFILE = "isolation"
_MIN_SAMPLES: Final = 3
#: A gateway on a single core shares it with the flood, so this growth is allowed.
_MAX_GROWTH = 4


def check(observations: Sequence[Observation], tolerances: Tolerances, shared_budget: list[str]) -> Verdict:
    """Whether a flood of one key affects no other key. `shared_budget`: refusals that a shared budget explains."""
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
    return judge(NAME, shared_budget + slowed, bool(medians), detail)


def _medians_us(observations: Sequence[Observation]) -> dict[int, tuple[float, float]]:
    """The median latency of each key except the flooding key 0, before and during the flood."""
    keys = group_by_key(one for one in observations if one.profile == PROFILE)
    flood = keys.pop(0, [])
    if not flood:
        return {}
    begin_us, end_us = flood[0].sent_us, max(one.answered_us for one in flood)
    medians = {}
    for key, of_key in keys.items():
        answered = [one for one in of_key if one.outcome is not Outcome.FAILED]
        before = [_latency_us(one) for one in answered if one.answered_us <= begin_us]
        during = [_latency_us(one) for one in answered if begin_us <= one.sent_us <= end_us]
        if min(len(before), len(during)) >= _MIN_SAMPLES:
            medians[key] = median(before), median(during)
    return medians


def _ms(us: float) -> str:
    return f"{us / 1_000:.1f} ms"


def _latency_us(one: Observation) -> int:
    return one.answered_us - one.sent_us
