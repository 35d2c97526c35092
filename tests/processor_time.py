"""The processor time of code, relative to that of a control.

A processor changes its speed from one moment to the next, by a factor of two on some machines. So code and control
are measured one right after the other, and the median of the ratios counts.
"""

import time
import timeit
from collections.abc import Callable
from statistics import median

_ROUNDS = 100


def cpu_ratio(ours: Callable[[], object], control: Callable[[], object], most: float, *, number: int = 1) -> float:
    """Return how many times the processor time of `control` `ours` takes.

    A round measures `number` calls of each. There are no more rounds than show that the ratio is far below `most`.
    """
    ratios = [cpu_s(ours, number) / cpu_s(control, number)]
    while len(ratios) < _ROUNDS and median(ratios) > most / 2:
        ratios.append(cpu_s(ours, number) / cpu_s(control, number))
    return median(ratios)


def cpu_s(timed: Callable[[], object], number: int = 1) -> float:
    """Return the processor time of `number` calls in seconds, all threads of this process included."""
    return timeit.timeit(timed, number=number, timer=time.process_time)
