"""The processor time of code, next to that of its control.

A processor changes its speed from one moment to the next. Code and control are measured in turn and many times, and
the least times are compared, so both have had the same fast moments.
"""

import time
import timeit
from collections.abc import Callable

_ROUNDS = 40


def least_cpu_s(*timed: Callable[[], object], number: int, rounds: int) -> tuple[float, ...]:
    """Return the least processor time of each for `number` calls, in seconds."""
    measured = [[cpu_s(one, number) for one in timed] for _ in range(rounds)]
    return tuple(map(min, zip(*measured, strict=True)))


def cpu_ratio(ours: Callable[[], object], control: Callable[[], object], *, most: float) -> float:
    """Return the ratio of their least processor times, from no more rounds than show that it is far below `most`."""
    ours_s = control_s = float("inf")
    for _ in range(_ROUNDS):
        ours_s, control_s = min(ours_s, cpu_s(ours)), min(control_s, cpu_s(control))
        if ours_s < most / 2 * control_s:
            break
    return ours_s / control_s


def cpu_s(timed: Callable[[], object], number: int = 1) -> float:
    """Return the processor time of `number` calls, in seconds, all threads included."""
    return timeit.timeit(timed, number=number, timer=time.process_time)
