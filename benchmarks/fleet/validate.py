"""Compares simulations with real runs on this machine: ``python -m benchmarks.fleet validate``.

Processes and their server compete for the cores of this machine, so the simulation has these cores too. A run counts
only if other programs used little of the machine meanwhile, and is repeated until enough runs count. The machine
becomes faster and slower, so only times of about one speed are compared, and the simulation has a machine of that
speed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from signal import SIGCONT, SIGSTOP
from statistics import fmean, median
from typing import Self

from benchmarks.fleet.costs import KINDS, Costs
from benchmarks.fleet.quiet import MAX_OTHERS, wait_until_quiet
from benchmarks.fleet.real import WINDOW_S, Observed, Window, observe
from benchmarks.fleet.running import RunningServer, also_of, running
from benchmarks.fleet.scenario import Population, Scenario, Trouble
from benchmarks.fleet.simulate import Result, simulate
from benchmarks.fleet.speed import Watch
from benchmarks.fleet.subjects import Admitted
from benchmarks.fleet.worker import Work

from awx_ratelimit import Rate

TOLERANCE = 0.2
RUNS, MAX_TRIES = 3, 8
#: About one speed is within this factor of the median.
MAX_SPEED_RATIO = 1.15
SUBJECTS = 1_000
SECONDS, WARM_UP_S = 2.0, 0.5
#: asyncio waits for timers in milliseconds.
TICK_S = 0.001
LIMIT = Rate("rate", 600, 60_000, burst=100)
WATCHED = 3
OUTAGE_PROCESSES, OUTAGE_RATE = 2, 1_500.0
OUTAGE_SECONDS, HANG_AT_S, HANG_S = 8.0, 2.0, 3.0


@dataclass(frozen=True, slots=True)
class Point:
    """One load on one server."""

    kind: str
    processes: int
    tasks: int = 0
    rate: float = 0.0

    def __str__(self) -> str:
        load = f"{self.tasks} tasks each" if self.tasks else f"{self.rate:,.0f} claims/s"
        return f"{self.kind}, {self.processes} process{'es' if self.processes > 1 else ''}, {load}"

    def scenario(self) -> Scenario:
        """The load for the simulation."""
        return Scenario(
            self.processes, Population(SUBJECTS), self.kind, rate=self.rate, tasks=self.tasks,
            machine_cores=os.cpu_count(), tick_s=TICK_S if self.rate else 0.0, seconds=SECONDS, warm_up_s=WARM_UP_S,
        )  # fmt: skip

    def work(self, url: str) -> Work:
        """The load of each process."""
        return Work(
            url, SECONDS, WARM_UP_S, SUBJECTS, 1, tasks=self.tasks, rate=self.rate / self.processes,
            service=bool(also_of(self.kind)),
        )  # fmt: skip


POINTS = (
    *(Point("redis", processes, tasks=100) for processes in (1, 2, 4)),
    Point("redis", 1, tasks=10),
    *(Point("redis", processes, rate=3_000) for processes in (1, 2)),
    Point("redis, service budget", 2, tasks=100),
    Point("redis cluster", 2, tasks=100),
    *(Point("postgres", processes, tasks=100) for processes in (1, 2)),
    Point("postgres", 2, rate=1_000),
    Point("postgres, service budget", 2, tasks=100),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A figure that was predicted and measured. `measured` is None if other programs used the machine all the time."""

    what: str
    unit: str
    predicted: float
    measured: float | None

    @property
    def holds(self) -> bool:
        """Whether the prediction is within the tolerance."""
        return self.measured is not None and abs(self.predicted - self.measured) <= TOLERANCE * self.measured

    def __str__(self) -> str:
        if self.measured is None:
            return f"| {self.what} | {self._shown(self.predicted)} | the machine was busy | | not measured |"
        figures = f"{self._shown(self.predicted)} | {self._shown(self.measured)} | {self.predicted / self.measured:.2f}"
        return f"| {self.what} | {figures} | {'yes' if self.holds else 'NO'} |"

    def _shown(self, figure: float) -> str:
        return f"{figure:,.0f} {self.unit}" if figure >= 100 else f"{figure:.2f} {self.unit}"


@dataclass(frozen=True, slots=True)
class AtOneSpeed:
    """What was measured in the windows in which the machine had about the same speed."""

    slowness: float
    claims_s: float
    p99_s: float

    @classmethod
    def of(cls, runs: Sequence[Observed]) -> Self:
        windows = [window for run in runs for window in run.windows]
        usual = median(window.slowness for window in windows)
        alike = [each for each in windows if 1 / MAX_SPEED_RATIO <= each.slowness / usual <= MAX_SPEED_RATIO]
        claims = sum(len(window.took_s) for window in alike)
        slowness = fmean(window.slowness for window in alike)
        return cls(slowness, claims / len(alike) / WINDOW_S, p99_s(alike))


def p99_s(windows: Sequence[Window]) -> float:
    """The time in which 99 % of the claims of these windows had an answer."""
    took_s = sorted(took_s for window in windows for took_s in window.took_s)
    return took_s[int(len(took_s) * 0.99)] if took_s else 0.0


class Validation:
    """All comparisons. Together they wait for a quiet machine for `patience_s` at most."""

    def __init__(self, costs: dict[str, Costs], speed: Watch, patience_s: float) -> None:
        self._costs = costs
        self._speed = speed
        self._patience_s = patience_s

    def rows(self, points: Sequence[Point] = POINTS) -> Iterator[Row]:
        """Compare the points, and an outage."""
        for kind in KINDS:
            chosen = [point for point in points if point.kind == kind]
            if chosen:
                with running(kind) as server:
                    for point in chosen:
                        yield from self._compare(point, server)
        yield from self._outage()

    def _compare(self, point: Point, server: RunningServer) -> Iterator[Row]:
        runs = self._runs(lambda: observe(point.work(server.url), point.processes, server, self._speed))
        measured = AtOneSpeed.of(runs) if runs else None
        predicted = simulate(point.scenario(), self._costs[point.kind].times(measured.slowness if measured else 1.0))
        if point.tasks:
            yield Row(f"{point}: throughput", "claims/s", predicted.claims_s, measured.claims_s if measured else None)
        yield Row(f"{point}: p99", "ms", predicted.p99_s * 1_000, measured.p99_s * 1_000 if measured else None)

    def _runs(self, once: Callable[[], Observed]) -> list[Observed]:
        """The runs that count."""
        runs = list[Observed]()
        for _ in range(MAX_TRIES):
            self._patience_s = wait_until_quiet(self._patience_s)
            if not self._patience_s or len(runs) == RUNS:
                break
            run = once()
            if run.others <= MAX_OTHERS:
                runs.append(run)
        return runs

    def _outage(self) -> Iterator[Row]:
        """Two guarded processes, and a server that hangs."""
        runs = self._runs(lambda: _observed_outage(self._speed))
        windows = [window for run in runs for window in run.windows]
        slowness = fmean(window.slowness for window in windows) if runs else 1.0
        predicted = simulate(_outage_scenario(), self._costs["redis"].times(slowness))
        what = f"redis hangs for {HANG_S:g} s, {OUTAGE_PROCESSES} processes, {OUTAGE_RATE:,.0f} claims/s"
        yield Row(f"{what}: p99", "ms", predicted.p99_s * 1_000, p99_s(windows) * 1_000 if runs else None)
        over = median(map(_over, runs)) if runs else None
        yield Row(f"{what}: over the limit", "claims", _mean_over(predicted), over)


def _observed_outage(speed: Watch) -> Observed:
    # Each run has its own server: the subjects of an earlier one would have used their limits.
    with running("redis") as server:
        work = Work(
            server.url, OUTAGE_SECONDS, 0.0, SUBJECTS, 1, rate=OUTAGE_RATE / OUTAGE_PROCESSES, budget_ms=50,
            workers=OUTAGE_PROCESSES, limit=(LIMIT.tokens, LIMIT.period_ms, LIMIT.burst), watched=WATCHED,
        )  # fmt: skip
        return observe(work, OUTAGE_PROCESSES, server, speed, [(HANG_AT_S, SIGSTOP), (HANG_AT_S + HANG_S, SIGCONT)])


def _outage_scenario() -> Scenario:
    return Scenario(
        OUTAGE_PROCESSES, Population(SUBJECTS), rate=OUTAGE_RATE, limit=LIMIT, workers=OUTAGE_PROCESSES, hold_s=None,
        machine_cores=os.cpu_count(), tick_s=TICK_S, seconds=OUTAGE_SECONDS, warm_up_s=0.0,
        troubles=[Trouble(HANG_AT_S, HANG_S)], watched=frozenset(range(WATCHED)),
    )  # fmt: skip


def _over(run: Observed) -> float:
    admitted = Admitted(frozenset(run.admitted_s))
    for subject, times_s in run.admitted_s.items():
        begin_s = min(times_s)
        for time_s in times_s:
            admitted.note(subject, time_s - begin_s)
    return sum(admitted.over(subject, LIMIT) for subject in run.admitted_s) / WATCHED


def _mean_over(result: Result) -> float:
    return sum(result.over.values()) / WATCHED
