"""Cores that several programs share, as Linux shares them: each core has its own programs, and gives them slices."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from math import log2

from benchmarks.fleet.events import Act, Simulation, as_usual
from benchmarks.fleet.speed import Course

FULL_SPEED = Course(1.0, [1.0])
#: Linux multiplies this by one more than the binary logarithm of the cores, up to 8.
_SLICE_S = 0.0007
#: Less is a rounding error.
_NOTHING_S = 1e-12


@dataclass(slots=True)
class Program:
    """A program with one thread, which does one thing after another.

    `virtual_s` is the processor time that it has received. When it wakes up, it counts as if it had received no less
    than the average of the others on its core.
    """

    cores: "SharedCores"
    core: "Core"
    virtual_s: float = 0.0
    #: It keeps the core until this virtual time, if others wait.
    until_s: float = 0.0
    is_awake: bool = False
    #: What it has to do, and the processor time that is left of the first piece.
    jobs: deque[tuple[float, Act]] = field(default_factory=deque)

    def run(self, work_s: float, done: Act) -> None:
        """See Cores."""
        self.cores.run(self, work_s, done)


class SharedCores:
    """So many cores for all programs that run there.

    A program that wakes up gets an idle core, or waits for the one that it had. It stays there: Linux moves waiting
    programs to another core only now and then.
    """

    def __init__(self, simulation: Simulation, courses: Sequence[Course], luck: Callable[[], float] = as_usual) -> None:
        slice_s = _SLICE_S * (1 + int(log2(min(len(courses), 8))))
        self._cores = [Core(simulation, course, slice_s) for course in courses]
        self._luck = luck
        self._programs = 0
        self.used_s = 0.0

    def program(self) -> Program:
        """A new program."""
        self._programs += 1
        return Program(self, self._cores[self._programs % len(self._cores)])

    def run(self, program: Program, work_s: float, done: Act) -> None:
        """Let the program do this after what it has to do already."""
        work_s *= self._luck()
        self.used_s += work_s
        program.jobs.append((work_s, done))
        if not program.is_awake:
            self._wake_up(program)

    def _wake_up(self, program: Program) -> None:
        core = program.core
        if not core.is_idle:
            core = next((each for each in self._cores if each.is_idle), core)
        core.wake_up(program)


class Core:
    """The program that has received least goes first. One that wakes up takes the core of one that is ahead of it."""

    def __init__(self, simulation: Simulation, course: Course, slice_s: float) -> None:
        self._simulation = simulation
        self._course = course
        self._slice_s = slice_s
        self._running: Program | None = None
        self._is_stopped = False
        #: A program that decides what to do next keeps the core, which takes no time.
        self._is_deciding = False
        self._slowness = 1.0
        self._since_s = 0.0
        #: What is planned with another version is void.
        self._version = 0
        self._waiting: list[tuple[float, int, Program]] = []
        self._count = 0
        #: The virtual times of its programs that run or wait, together.
        self._sum_s = 0.0
        self._awake = 0
        self._average_s = 0.0
        for begin_s, for_s in course.stops:
            simulation.at(begin_s, partial(self._stop, for_s))

    @property
    def is_idle(self) -> bool:
        """Whether no program runs there. Nobody knows whether it is stopped."""
        return self._running is None

    def wake_up(self, program: Program) -> None:
        """The program has something to do, and does it here."""
        self._account()
        self._admit(program)
        running = self._running
        if running and (self._is_deciding or running.until_s <= program.until_s):
            self._wait(program)
            return
        if running:
            self._wait(running)
        self._start(program)

    def _stop(self, for_s: float) -> None:
        self._account()
        self._is_stopped = True
        self._version += 1
        self._simulation.after(for_s, self._resume)

    def _resume(self) -> None:
        self._is_stopped = False
        if self._running:
            self._start(self._running)

    def _admit(self, program: Program) -> None:
        if self._awake:
            self._average_s = self._sum_s / self._awake
        known_s = program.virtual_s if program.core is self else 0.0
        program.core, program.is_awake = self, True
        program.virtual_s = max(known_s, self._average_s)
        program.until_s = program.virtual_s + self._slice_s
        self._sum_s += program.virtual_s
        self._awake += 1

    def _wait(self, program: Program) -> None:
        self._count += 1
        heappush(self._waiting, (program.until_s, self._count, program))

    def _account(self) -> None:
        """Count what the running program has received."""
        now_s, program = self._simulation.now_s, self._running
        received_s, self._since_s = now_s - self._since_s, now_s
        if program and not self._is_deciding and not self._is_stopped:
            self._sum_s += received_s
            program.virtual_s += received_s
            left_s, done = program.jobs[0]
            program.jobs[0] = (left_s - received_s / self._slowness, done)

    def _start(self, program: Program) -> None:
        """Let it run until its job or its slice ends."""
        self._running, self._since_s = program, self._simulation.now_s
        if self._is_stopped:
            return
        self._slowness = self._course.at(self._since_s)
        self._version += 1
        for_s = min(program.jobs[0][0] * self._slowness, max(0.0, program.until_s - program.virtual_s))
        self._simulation.after(for_s, partial(self._end, program, self._version))

    def _end(self, program: Program, version: int) -> None:
        if version != self._version:
            return
        self._account()
        if program.jobs[0][0] <= _NOTHING_S:
            self._is_deciding = True
            program.jobs.popleft()[1]()
            self._is_deciding = False
        if not program.jobs:
            self._sleep(program)
            self._next()
            return
        if program.until_s - program.virtual_s <= _NOTHING_S:
            program.until_s = program.virtual_s + self._slice_s
        if self._waiting and self._waiting[0][0] < program.until_s:
            self._wait(program)
            self._next()
        else:
            self._start(program)

    def _sleep(self, program: Program) -> None:
        program.is_awake = False
        self._average_s = self._sum_s / self._awake
        self._sum_s -= program.virtual_s
        self._awake -= 1

    def _next(self) -> None:
        self._running = None
        if self._waiting:
            self._start(heappop(self._waiting)[2])
