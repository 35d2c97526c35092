"""Isolation: while one key floods, another's requests take no longer, and its budget is its own.

Compared are medians of one key, before the flood and within it: a single slow request is the machine's.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from awx_ratelimit.loadtest.audit.observation import Observation, Outcome, by_key
from awx_ratelimit.loadtest.audit.tolerances import Terms

PROFILE: Final = "isolation"
#: With fewer than these a median says nothing.
LEAST: Final = 3
#: A gateway on one core shares it with whoever floods; so much longer it may take anyway.
_FACTOR = 4


def latencies_us(observations: Sequence[Observation]) -> dict[int, tuple[float, float]]:
    """The median latency of each key that did not flood, before the flood and within it."""
    keys = by_key(one for one in observations if one.profile == PROFILE)
    flood = keys.pop(0, [])
    if not flood:
        return {}
    begin_us, end_us = flood[0].sent_us, max(one.answered_us for one in flood)
    found = {}
    for key, of_key in keys.items():
        answered = [one for one in of_key if one.outcome is not Outcome.FAILED]
        before = [_latency_us(one) for one in answered if one.answered_us <= begin_us]
        within = [_latency_us(one) for one in answered if begin_us <= one.sent_us <= end_us]
        if min(len(before), len(within)) >= LEAST:
            found[key] = median(before), median(within)
    return found


def slowed(observations: Sequence[Observation], terms: Terms) -> list[str]:
    """Keys that had to wait for another's flood, in a sentence each."""
    return [
        f"while another key flooded, a request took {within / 1_000:.0f} ms, and {before / 1_000:.0f} ms before"
        for before, within in latencies_us(observations).values()
        if within > before + max(terms.latency_us, _FACTOR * before)
    ]


def _latency_us(one: Observation) -> int:
    return one.answered_us - one.sent_us
