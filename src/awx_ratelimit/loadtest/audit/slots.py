"""Slots: what is surely under way at one moment, and never more of it than the plan has.

A body that has not ended holds its slot from the head of the answer on. What is counted is therefore less than what was
held, never more.
"""

from collections.abc import Iterable, Sequence

from awx_ratelimit.loadtest.audit.observation import Observation, admitted


def under_way(observations: Iterable[Observation]) -> list[tuple[int, int]]:
    """The number surely under way from each time (us) on, in the order of time."""
    held = [one for one in admitted(observations) if one.held]
    # An end at the moment of a beginning comes first: they need not have met.
    turns = sorted([(one.answered_us, 1) for one in held] + [(one.alive_us, -1) for one in held])
    steps, number = [], 0
    for at_us, change in turns:
        number += change
        steps.append((at_us, number))
    return steps


def most_under_way(observations: Sequence[Observation]) -> int:
    """The most that were surely under way at once; 1 where requests were answered one by one."""
    most = max((number for _, number in under_way(observations)), default=0)
    return max(most, 1 if admitted(observations) else 0)
