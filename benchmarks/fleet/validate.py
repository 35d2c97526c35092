"""Compares simulations with real runs on this machine: ``python -m benchmarks.fleet validate``.

Processes and their server compete for the cores of this machine, so the simulation has these cores too. A run counts
only if other programs used little of the machine meanwhile, and is repeated until enough runs count. The cores become
faster and slower, so each run is compared with a simulation whose cores have the speed of that run, and the stops that
they had shortly before.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from signal import SIGCONT, SIGSTOP
from statistics import median
from typing import Self

from benchmarks.fleet.cores import FULL_SPEED
from benchmarks.fleet.costs import KINDS, Costs
from benchmarks.fleet.quiet import MAX_OTHERS, wait_until_quiet
from benchmarks.fleet.real import Observed, observe
from benchmarks.fleet.running import RunningServer, also_of, running
from benchmarks.fleet.scenario import Population, Scenario, Trouble
from benchmarks.fleet.simulate import Result, simulate
from benchmarks.fleet.speed import Course, Watch
from benchmarks.fleet.stops import observed_stops
from benchmarks.fleet.subjects import Admitted
from benchmarks.fleet.worker import Work

from awx_ratelimit import Rate

TOLERANCE = 0.2
RUNS, MAX_TRIES = 5, 10
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

    def scenario(self, machine: Sequence[Course]) -> Scenario:
        """The load for the simulation, on a machine whose cores have these speeds."""
        return Scenario(
            self.processes, Population(SUBJECTS), self.kind, rate=self.rate, tasks=self.tasks,
            machine=machine, tick_s=TICK_S if self.rate else 0.0, seconds=SECONDS, warm_up_s=WARM_UP_S,
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
    """A figure that was predicted and measured, as the median of some runs, with the lowest and the highest of them.

    `measured` is None if other programs used the machine all the time.
    """

    what: str
    unit: str
    predicted: float
    measured: float | None
    lowest: float = 0.0
    highest: float = 0.0

    @classmethod
    def of(cls, what: str, unit: str, predicted: Sequence[float], measured: Sequence[float]) -> Self:
        """The figures of some runs and of their simulations."""
        if not measured:
            return cls(what, unit, median(predicted), None)
        return cls(what, unit, median(predicted), median(measured), min(measured), max(measured))

    @property
    def holds(self) -> bool:
        """Whether the prediction is within the tolerance."""
        return self.measured is not None and abs(self.predicted - self.measured) <= TOLERANCE * self.measured

    def __str__(self) -> str:
        if self.measured is None:
            return f"| {self.what} | {self._shown(self.predicted)} | the machine was busy | | | not measured |"
        measured = f"{self._shown(self.measured)} | {_figure(self.lowest)} to {_figure(self.highest)}"
        ratio = f"{self.predicted / self.measured:.2f} | {'yes' if self.holds else 'NO'}"
        return f"| {self.what} | {self._shown(self.predicted)} | {measured} | {ratio} |"

    def _shown(self, figure: float) -> str:
        return f"{_figure(figure)} {self.unit}"


def _figure(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


def p99_s(run: Observed) -> float:
    """The time in which 99 % of the claims of a run had an answer."""
    took_s = sorted(run.took_s)
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
        runs = self._runs(
            WARM_UP_S + SECONDS, lambda: observe(point.work(server.url), point.processes, server, self._speed)
        )
        predicted = self._simulated(runs, point.scenario, point.kind)
        if point.tasks:
            claims_s = [len(run.took_s) / SECONDS for run in runs]
            yield Row.of(f"{point}: throughput", "claims/s", [each.claims_s for each in predicted], claims_s)
        yield _p99(str(point), predicted, runs)

    def _simulated(
        self, runs: Sequence[Observed], scenario: Callable[[Sequence[Course]], Scenario], kind: str
    ) -> list[Result]:
        """A simulation for each run, on a machine of its speed; one at full speed if no run counts."""
        machines = [run.machine for run in runs] or [[FULL_SPEED] * (os.cpu_count() or 1)]
        return [simulate(scenario(machine), self._costs[kind]) for machine in machines]

    def _runs(self, seconds: float, once: Callable[[], Observed]) -> list[Observed]:
        """The runs of so many seconds that count."""
        runs = list[Observed]()
        for _ in range(MAX_TRIES):
            self._patience_s = wait_until_quiet(self._patience_s)
            if not self._patience_s or len(runs) == RUNS:
                break
            stops, run = observed_stops(seconds), once()
            if run.others <= MAX_OTHERS:
                machine = [replace(course, stops=each) for course, each in zip(run.machine, stops, strict=True)]
                runs.append(replace(run, machine=machine))
        return runs

    def _outage(self) -> Iterator[Row]:
        """Two guarded processes, and a server that hangs."""
        runs = self._runs(OUTAGE_SECONDS, lambda: _observed_outage(self._speed))
        predicted = self._simulated(runs, _outage_scenario, "redis")
        what = f"redis hangs for {HANG_S:g} s, {OUTAGE_PROCESSES} processes, {OUTAGE_RATE:,.0f} claims/s"
        yield _p99(what, predicted, runs)
        yield Row.of(f"{what}: over the limit", "claims", list(map(_mean_over, predicted)), list(map(_over, runs)))


def _p99(what: str, predicted: Sequence[Result], runs: Sequence[Observed]) -> Row:
    return Row.of(
        f"{what}: p99", "ms", [each.p99_s * 1_000 for each in predicted], [p99_s(run) * 1_000 for run in runs]
    )


def _observed_outage(speed: Watch) -> Observed:
    # Each run has its own server: the subjects of an earlier one would have used their limits.
    with running("redis") as server:
        work = Work(
            server.url, OUTAGE_SECONDS, 0.0, SUBJECTS, 1, rate=OUTAGE_RATE / OUTAGE_PROCESSES, budget_ms=50,
            workers=OUTAGE_PROCESSES, limit=(LIMIT.tokens, LIMIT.period_ms, LIMIT.burst), watched=WATCHED,
        )  # fmt: skip
        return observe(work, OUTAGE_PROCESSES, server, speed, [(HANG_AT_S, SIGSTOP), (HANG_AT_S + HANG_S, SIGCONT)])


def _outage_scenario(machine: Sequence[Course]) -> Scenario:
    return Scenario(
        OUTAGE_PROCESSES, Population(SUBJECTS), rate=OUTAGE_RATE, limit=LIMIT, workers=OUTAGE_PROCESSES, hold_s=None,
        machine=machine, tick_s=TICK_S, seconds=OUTAGE_SECONDS, warm_up_s=0.0,
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
