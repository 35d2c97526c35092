"""A clock of events, and the cores on which simulated programs run."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol, TypeAlias

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


def _as_usual() -> float:
    return 1.0


class OwnCore:
    """A core for each program that runs there. A step takes `luck()` times as long as usual."""

    def __init__(self, simulation: Simulation, luck: Callable[[], float] = _as_usual) -> None:
        self._simulation = simulation
        self._luck = luck
        self.used_s = 0.0

    def run(self, work_s: float, done: Act) -> None:
        """See Cores."""
        work_s *= self._luck()
        self.used_s += work_s
        self._simulation.after(work_s, done)


class SharedCores:
    """So many cores for all programs that run there. They take equal shares if there are more programs than cores.

    A share is counted in `_each_s`: the processor time that a program would have received that ran from the beginning.
    """

    def __init__(self, simulation: Simulation, cores: int, luck: Callable[[], float] = _as_usual) -> None:
        self._simulation = simulation
        self._cores = cores
        self._luck = luck
        self._running: list[tuple[float, int, Act]] = []
        self._count = 0
        self._each_s = 0.0
        self._since_s = 0.0
        self._version = 0
        self.used_s = 0.0

    def run(self, work_s: float, done: Act) -> None:
        """See Cores."""
        self._go_on()
        work_s *= self._luck()
        self.used_s += work_s
        self._count += 1
        heappush(self._running, (self._each_s + work_s, self._count, done))
        self._plan()

    def _speed(self) -> float:
        return min(1.0, self._cores / len(self._running))

    def _go_on(self) -> None:
        """Give every program what it has received until now."""
        now_s = self._simulation.now_s
        if self._running:
            self._each_s += (now_s - self._since_s) * self._speed()
        self._since_s = now_s

    def _plan(self) -> None:
        """Look at the program that ends first, when it ends; what was planned before is void."""
        self._version += 1
        if self._running:
            left_s = max(0.0, self._running[0][0] - self._each_s) / self._speed()
            version = self._version
            self._simulation.after(left_s, lambda: self._end(version))

    def _end(self, version: int) -> None:
        if version != self._version:
            return
        self._go_on()
        _, _, done = heappop(self._running)
        self._plan()
        done()
