"""A clock of events, and where simulated programs run."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol, Self, TypeAlias

Act: TypeAlias = Callable[[], object]


class Simulation:
    """Calls what is due, in the order of time. What is due at the same time is called in the order of `at`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Act]] = []
        self._count = 0

    def at(self, time_s: float, act: Act) -> None:
        """Call `act` at a time that is not in the past."""
        self._count += 1
        heappush(self._heap, (time_s, self._count, act))

    def after(self, delay_s: float, act: Act) -> None:
        """Call `act` after a delay."""
        self.at(self.now_s + delay_s, act)

    def run(self, until_s: float) -> None:
        """Call everything that is due before `until_s`."""
        heap = self._heap
        while heap and heap[0][0] < until_s:
            self.now_s, _, act = heappop(heap)
            act()
        self.now_s = until_s


class Cores(Protocol):
    """Where programs run."""

    def run(self, work_s: float, done: Act) -> None:
        """Call `done` after `work_s` of processor time."""


def as_usual() -> float:
    """A step takes its usual time."""
    return 1.0


class OwnCore:
    """A core for each program that runs there. A step takes `luck()` times as long as usual."""

    def __init__(self, simulation: Simulation, luck: Callable[[], float] = as_usual) -> None:
        self._simulation = simulation
        self._luck = luck
        self.used_s = 0.0

    def program(self) -> Self:
        """The one program."""
        return self

    def run(self, work_s: float, done: Act) -> None:
        """See Cores."""
        work_s *= self._luck()
        self.used_s += work_s
        self._simulation.after(work_s, done)
