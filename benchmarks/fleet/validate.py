"""Compares simulations with real runs on this machine: ``python -m benchmarks.fleet validate``.

Processes and their server compete for the cores of this machine, so the simulation has these cores too. A run counts
only if other programs used little of the machine meanwhile. It is repeated until enough runs count. Costs are scaled
by the speed of the machine before and after the runs.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from signal import SIGCONT, SIGSTOP
from statistics import fmean, median

from benchmarks.fleet.costs import KINDS, Costs
from benchmarks.fleet.quiet import MAX_OTHERS, wait_until_quiet
from benchmarks.fleet.real import Observed, observe
from benchmarks.fleet.running import RunningServer, also_of, running
from benchmarks.fleet.scenario import Population, Scenario, Trouble
from benchmarks.fleet.simulate import Result, simulate
from benchmarks.fleet.speed import work_s
from benchmarks.fleet.subjects import Admitted
from benchmarks.fleet.worker import Work

from awx_ratelimit import Rate

TOLERANCE = 0.2
RUNS, MAX_TRIES = 3, 8
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


class Validation:
    """All comparisons. Together they wait for a quiet machine for `patience_s` at most.

    `work_s` is what `speed.work_s` returned when the costs were measured.
    """

    def __init__(self, costs: dict[str, Costs], work_s: dict[str, float], patience_s: float) -> None:
        self._costs = costs
        self._work_s = work_s
        self._patience_s = patience_s

    def rows(self, points: Sequence[Point] = POINTS) -> Iterator[Row]:
        """Compare the points, and an outage."""
        for kind in KINDS:
            chosen = [point for point in points if point.kind == kind]
            if chosen:
                with running(kind) as server:
                    for point in chosen:
                        yield from self._compare(point, server)
        with running("redis") as server:
            yield from self._outage(server)

    def _compare(self, point: Point, server: RunningServer) -> Iterator[Row]:
        runs, factor = self._runs(point.kind, point.work(server.url), point.processes, server)
        predicted = simulate(point.scenario(), self._costs[point.kind].times(factor))
        if point.tasks:
            yield _row(f"{point}: throughput", "claims/s", predicted.claims_s, [run.claims_s for run in runs])
        yield _row(f"{point}: p99", "ms", predicted.p99_s * 1_000, [run.p99_s * 1_000 for run in runs])

    def _runs(
        self, kind: str, work: Work, processes: int, server: RunningServer, during: Sequence[tuple[float, int]] = ()
    ) -> tuple[list[Observed], float]:
        """The runs that count, and how many times longer than at the calibration the machine took meanwhile."""
        runs, works_s = list[Observed](), [work_s()]
        for _ in range(MAX_TRIES):
            self._patience_s = wait_until_quiet(self._patience_s)
            if not self._patience_s or len(runs) == RUNS:
                break
            run = observe(work, processes, server, during)
            if run.others <= MAX_OTHERS:
                runs.append(run)
                works_s.append(work_s())
        return runs, fmean(works_s) / self._work_s[kind]

    def _outage(self, server: RunningServer) -> Iterator[Row]:
        """Two guarded processes, and a server that hangs."""
        work = Work(
            server.url, OUTAGE_SECONDS, 0.0, SUBJECTS, 1, rate=OUTAGE_RATE / OUTAGE_PROCESSES, budget_ms=50,
            workers=OUTAGE_PROCESSES, limit=(LIMIT.tokens, LIMIT.period_ms, LIMIT.burst), watched=WATCHED,
        )  # fmt: skip
        signals = [(HANG_AT_S, SIGSTOP), (HANG_AT_S + HANG_S, SIGCONT)]
        runs, factor = self._runs("redis", work, OUTAGE_PROCESSES, server, signals)
        predicted = simulate(_outage_scenario(), self._costs["redis"].times(factor))
        what = f"redis hangs for {HANG_S:g} s, {OUTAGE_PROCESSES} processes, {OUTAGE_RATE:,.0f} claims/s"
        yield _row(f"{what}: p99", "ms", predicted.p99_s * 1_000, [run.p99_s * 1_000 for run in runs])
        yield _row(f"{what}: over the limit", "claims", _mean_over(predicted), [_over(run) for run in runs])


def _outage_scenario() -> Scenario:
    return Scenario(
        OUTAGE_PROCESSES, Population(SUBJECTS), rate=OUTAGE_RATE, limit=LIMIT, workers=OUTAGE_PROCESSES, hold_s=None,
        machine_cores=os.cpu_count(), tick_s=TICK_S, seconds=OUTAGE_SECONDS, warm_up_s=0.0,
        troubles=[Trouble(HANG_AT_S, HANG_S)], watched=frozenset(range(WATCHED)),
    )  # fmt: skip


def _row(what: str, unit: str, predicted: float, measured: list[float]) -> Row:
    return Row(what, unit, predicted, median(measured) if measured else None)


def _over(run: Observed) -> float:
    admitted = Admitted(frozenset(run.admitted_s))
    for subject, times_s in run.admitted_s.items():
        begin_s = min(times_s)
        for time_s in times_s:
            admitted.note(subject, time_s - begin_s)
    return sum(admitted.over(subject, LIMIT) for subject in run.admitted_s) / WATCHED


def _mean_over(result: Result) -> float:
    return sum(result.over.values()) / WATCHED
