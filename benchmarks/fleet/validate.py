"""Compares simulations with real runs on this machine: ``python -m benchmarks.fleet validate``.

Processes and their server compete for the cores of this machine, so the simulation has these cores too. A run counts
only if other programs used little of the machine meanwhile. It is repeated until enough runs count.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from signal import SIGCONT, SIGSTOP
from statistics import median

from benchmarks.fleet.costs import Costs
from benchmarks.fleet.real import Observed, observe
from benchmarks.fleet.running import RunningServer, also_of, running
from benchmarks.fleet.scenario import Population, Scenario, Trouble
from benchmarks.fleet.simulate import Result, simulate
from benchmarks.fleet.subjects import Admitted
from benchmarks.fleet.worker import Work

from awx_ratelimit import Rate

TOLERANCE = 0.2
#: Other programs may use this share of the machine during a run.
MAX_OTHERS = 0.08
RUNS, MAX_TRIES = 3, 8
SUBJECTS = 1_000
SECONDS, WARM_UP_S = 2.0, 0.5
#: asyncio waits for timers in milliseconds.
TICK_S = 0.001
LIMIT = Rate("rate", 600, 60_000, burst=100)
WATCHED = 3
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
        return f"{self.kind}, {self.processes} processes, {load}".replace("1 processes", "1 process")


POINTS = (
    *(Point("redis", processes, tasks=100) for processes in (1, 2, 4)),
    Point("redis", 1, tasks=10),
    *(Point("redis", processes, rate=3_000) for processes in (1, 2)),
    Point("redis, service budget", 2, tasks=100),
    *(Point("postgres", processes, tasks=100) for processes in (1, 2)),
    Point("postgres", 2, rate=1_000),
    Point("postgres, service budget", 2, tasks=100),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A figure that was predicted and measured. `runs` counted; None of them: the machine was never quiet."""

    what: str
    unit: str
    predicted: float
    measured: float | None
    runs: int
    others: float

    @property
    def holds(self) -> bool:
        """Whether the prediction is within the tolerance."""
        return self.measured is not None and abs(self.predicted - self.measured) <= TOLERANCE * self.measured

    def __str__(self) -> str:
        if self.measured is None:
            busy = f"other programs used {self.others:.0%} of the machine"
            return f"| {self.what} | {self.predicted:,.2f} {self.unit} | {busy} | | NOT measured |"
        return (
            f"| {self.what} | {self.predicted:,.2f} {self.unit} | {self.measured:,.2f} {self.unit} "
            f"| {self.predicted / self.measured:.2f} | {'holds' if self.holds else 'OUTSIDE'} |"
        )


def validate(costs: dict[str, Costs], points: Sequence[Point] = POINTS) -> list[Row]:
    """Compare all points, and an outage. Prints each row."""
    print("| what | predicted | measured | ratio | within 20 % |\n| --- | --- | --- | --- | --- |")
    rows: list[Row] = []
    with ExitStack() as servers:
        known: dict[str, RunningServer] = {}
        for point in points:
            name = point.kind.split(",", maxsplit=1)[0]
            if name not in known:
                known[name] = servers.enter_context(running(name))
            rows += _shown(_compared(point, known[name], costs[point.kind]))
    with running("redis") as server:
        rows += _shown(_outage(server, costs["redis"]))
    return rows


def _shown(rows: list[Row]) -> list[Row]:
    for row in rows:
        print(row, flush=True)
    return rows


def _compared(point: Point, server: RunningServer, costs: Costs) -> list[Row]:
    predicted = simulate(scenario_of(point), costs)
    work = Work(
        server.url, SECONDS, WARM_UP_S, SUBJECTS, 1, tasks=point.tasks, rate=point.rate / point.processes,
        service=bool(also_of(point.kind)),
    )  # fmt: skip
    runs, others = _quiet_runs(work, point.processes, server)
    p99_ms = [run.p99_s * 1_000 for run in runs]
    rows = [_row(f"{point}, p99", "ms", predicted.p99_s * 1_000, p99_ms, others)]
    if point.tasks:
        claims_s = [run.claims_s for run in runs]
        rows.insert(0, _row(f"{point}, throughput", "claims/s", predicted.claims_s, claims_s, others))
    return rows


def scenario_of(point: Point) -> Scenario:
    """The same load for the simulation."""
    return Scenario(
        point.processes,
        Population(SUBJECTS),
        point.kind,
        rate=point.rate,
        tasks=point.tasks,
        machine_cores=os.cpu_count(),
        tick_s=TICK_S if point.rate else 0.0,
        seconds=SECONDS,
        warm_up_s=WARM_UP_S,
    )


def _quiet_runs(
    work: Work, processes: int, server: RunningServer, during: Sequence[tuple[float, int]] = ()
) -> tuple[list[Observed], float]:
    """The runs that count, and the least share of the machine that other programs used in one that does not."""
    runs: list[Observed] = []
    others = 1.0
    for _ in range(MAX_TRIES):
        run = observe(work, processes, server, during)
        if run.others <= MAX_OTHERS:
            runs.append(run)
        others = min(others, run.others)
        if len(runs) == RUNS:
            break
    return runs, others


def _row(what: str, unit: str, predicted: float, measured: list[float], others: float) -> Row:
    return Row(what, unit, predicted, median(measured) if measured else None, len(measured), others)


def _outage(server: RunningServer, costs: Costs) -> list[Row]:
    """Two guarded processes, and a server that hangs."""
    processes, rate = 2, 1_500.0
    scenario = Scenario(
        processes, Population(SUBJECTS), rate=rate, limit=LIMIT, workers=processes, hold_s=None,
        machine_cores=os.cpu_count(), tick_s=TICK_S, seconds=OUTAGE_SECONDS, warm_up_s=0.0,
        troubles=[Trouble(HANG_AT_S, HANG_S)], watched=frozenset(range(WATCHED)),
    )  # fmt: skip
    predicted = simulate(scenario, costs)
    work = Work(
        server.url, OUTAGE_SECONDS, 0.0, SUBJECTS, 1, rate=rate / processes, budget_ms=50, workers=processes,
        limit=(LIMIT.tokens, LIMIT.period_ms, LIMIT.burst), watched=WATCHED,
    )  # fmt: skip
    runs, others = _quiet_runs(work, processes, server, [(HANG_AT_S, SIGSTOP), (HANG_AT_S + HANG_S, SIGCONT)])
    what = f"Redis hangs for {HANG_S:g} s, {processes} guarded processes, {rate:,.0f} claims/s"
    over = [_over(run) for run in runs]
    return [
        _row(f"{what}, p99", "ms", predicted.p99_s * 1_000, [run.p99_s * 1_000 for run in runs], others),
        _row(f"{what}, over the limit", "claims", _mean_over(predicted), over, others),
    ]


def _over(run: Observed) -> float:
    admitted = Admitted(frozenset(run.admitted_s))
    for subject, times_s in run.admitted_s.items():
        begin_s = min(times_s)
        for time_s in times_s:
            admitted.note(subject, time_s - begin_s)
    return sum(admitted.over(subject, LIMIT) for subject in run.admitted_s) / WATCHED


def _mean_over(result: Result) -> float:
    return sum(result.over.values()) / WATCHED


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """What the results keep of rows."""
    return [asdict(row) | {"holds": row.holds} for row in rows]
