"""How much of this machine other programs use. What is measured next to them says little about an idle machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path

#: Other programs may use this share of the machine.
MAX_OTHERS = 0.08
_LOOK_S = 1.0


class Others:
    """The share of the machine that other programs use from now on. `own_s` is the processor time of our own."""

    def __init__(self, own_s: Callable[[], float] = time.process_time) -> None:
        self._own_s = own_s
        self._before = (*_machine_s(), own_s())

    def share(self) -> float:
        """The share until now, between 0 and 1."""
        total_s, busy_s, own_s = (
            now_s - then_s for now_s, then_s in zip((*_machine_s(), self._own_s()), self._before, strict=True)
        )
        return min(1.0, max(0.0, busy_s - own_s) / total_s) if total_s else 1.0


def wait_until_quiet(patience_s: float) -> float:
    """Wait until other programs use little of this machine, or for `patience_s`. Returns the seconds that are left."""
    until_s = time.monotonic() + patience_s
    while time.monotonic() < until_s:
        others = Others()
        time.sleep(_LOOK_S)
        if others.share() <= MAX_OTHERS:
            break
    return max(0.0, until_s - time.monotonic())


def _machine_s() -> tuple[float, float]:
    """The processor time of this machine, and how much of it was used, also by others of its host."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(fields) / ticks, (sum(fields) - fields[3] - fields[4]) / ticks
