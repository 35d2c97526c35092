"""The laws of the simulation of a fleet in `benchmarks/fleet`."""

import random
from dataclasses import replace
from functools import partial
from statistics import mean

import pytest
from benchmarks.fleet.cores import FULL_SPEED, SharedCores
from benchmarks.fleet.costs import ClientCosts, Costs, Linear, ServerCosts
from benchmarks.fleet.events import OwnCore, Simulation
from benchmarks.fleet.scenario import Population, Scenario, Trouble
from benchmarks.fleet.servers import Call, Claim, Redis
from benchmarks.fleet.simulate import Result, simulate
from benchmarks.fleet.speed import Course

from awx_ratelimit import Rate
from awx_ratelimit.backends.remote.batching import MAX_BATCH_CLAIMS

US = 1e-6
#: About what an idle machine takes. The laws hold for any numbers.
COSTS = Costs(
    ClientCosts(Linear(5 * US, 4 * US), Linear(30 * US, US), Linear(25 * US, 2 * US), Linear(3 * US, 5 * US), 2 * US),
    ServerCosts(Linear(20 * US, 6 * US), Linear(20 * US, 2 * US), heal_s=10 * US, connect_s=100 * US),
    pauses_s=(40 * US,),
)
LIMIT = Rate("minute", 600, 60_000, burst=100)
WATCHED = frozenset(range(3))
#: Two processes that are guarded, and a server that hangs for three seconds.
OUTAGE = Scenario(
    2, Population(1_000), rate=800, limit=LIMIT, workers=2, hold_s=0.01, warm_up_s=0, seconds=7, ends_s=7,
    troubles=[Trouble(3, 3)], watched=WATCHED,
)  # fmt: skip


def test_queue_of_one_server() -> None:
    """Calls that come at random wait for a server with one thread as long as the formula for M/D/1 says."""
    service_s, busy = 20 * US + 6 * US, 0.7
    simulation, chance, taken = Simulation(), random.Random(1), list[float]()
    server = Redis(OwnCore(simulation), simulation, COSTS.server, lambda: 0.0, turn_calls=1)
    for at_s in _times(chance, busy / service_s, 30_000):
        call = Call(partial(_note, simulation, at_s, taken), claims=[_claim()])
        simulation.at(at_s, partial(server.submit, call))
    simulation.run(60)

    assert mean(taken) == pytest.approx(service_s * (1 + busy / (2 * (1 - busy))), rel=0.04)


def test_programs_that_share_a_core() -> None:
    """Programs in slices of a core take as long as the formula for M/D/1 with processor sharing says."""
    work_s, busy = 0.02, 0.6
    simulation, chance, taken = Simulation(), random.Random(1), list[float]()
    cores = SharedCores(simulation, [FULL_SPEED])
    for at_s in _times(chance, busy / work_s, 5_000):
        simulation.at(at_s, partial(cores.program().run, work_s, partial(_note, simulation, at_s, taken)))
    simulation.run(1_000)

    assert len(taken) == 5_000
    assert mean(taken) == pytest.approx(work_s / (1 - busy), rel=0.06)


def test_one_program_at_a_time() -> None:
    """A program does one thing after another, also where cores are idle."""
    simulation, ends_s = Simulation(), list[float]()
    program = SharedCores(simulation, [FULL_SPEED] * 2).program()
    for work_s in (0.003, 0.002):
        program.run(work_s, lambda: ends_s.append(simulation.now_s))
    simulation.run(1)

    assert ends_s == pytest.approx([0.003, 0.005])


def test_program_that_wakes_up() -> None:
    """A program that has received less takes the core of one that was ahead, and that one goes on afterwards."""
    simulation, ends_s = Simulation(), dict[str, float]()
    cores = SharedCores(simulation, [FULL_SPEED])
    long, short = cores.program(), cores.program()
    long.run(0.1, lambda: ends_s.update(long=simulation.now_s))
    simulation.at(0.0102, partial(short.run, 0.0001, lambda: ends_s.update(short=simulation.now_s)))
    simulation.run(1)

    assert ends_s["long"] == pytest.approx(0.1001)
    assert ends_s["short"] < 0.0102 + 0.0008


def test_core_of_changing_speed() -> None:
    """A core takes as much longer as it did in the course of a run."""
    simulation, ends_s = Simulation(), list[float]()
    program = SharedCores(simulation, [Course(0.01, [1.0, 3.0])]).program()
    program.run(0.02, lambda: ends_s.append(simulation.now_s))
    simulation.run(1)

    assert ends_s == pytest.approx([0.01 + 3 * 0.01], rel=0.05)


def test_stopped_core() -> None:
    """A core that is stopped does nothing, and nobody knows it: a program that wakes up there waits."""
    simulation, ends_s = Simulation(), list[float]()
    cores = SharedCores(simulation, [Course(1.0, [1.0], stops=[(0.001, 0.05), (0.2, 0.01)])])
    runs, waits = cores.program(), cores.program()
    runs.run(0.004, lambda: ends_s.append(simulation.now_s))
    simulation.at(0.205, partial(waits.run, 0.001, lambda: ends_s.append(simulation.now_s)))
    simulation.run(1)

    assert ends_s == pytest.approx([0.054, 0.211])


def _times(chance: random.Random, a_second: float, number: int) -> list[float]:
    times_s, now_s = [], 0.0
    for _ in range(number):
        now_s += chance.expovariate(a_second)
        times_s.append(now_s)
    return times_s


def _note(simulation: Simulation, begun_s: float, taken: list[float]) -> None:
    taken.append(simulation.now_s - begun_s)


def _claim() -> Claim:
    return Claim(0.0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [
        ("redis", Trouble(2, 3)),
        ("redis", Trouble(2, 3, slowness=2_000)),
        ("redis cluster, service budget", Trouble(2, 2, lost_s=0.5)),
        ("postgres", Trouble(2, 3)),
    ],
)
def test_every_claim_is_answered_once(kind: str, trouble: Trouble) -> None:
    """Every claim has one answer, whatever its server does."""
    result = simulate(replace(OUTAGE, kind=kind, servers=2, seconds=20, troubles=[trouble]), COSTS)

    assert result.begun > 5_000
    assert result.claims == result.begun
    assert result.outages > 0
    assert result.local_s > 0


def test_same_seed() -> None:
    """A scenario has the same result each time, and another one with another seed."""
    result = simulate(OUTAGE, COSTS)

    assert simulate(OUTAGE, COSTS) == result
    assert simulate(replace(OUTAGE, seed=2), COSTS) != result


@pytest.mark.parametrize(
    ("processes", "workers"),
    [(2, 2), (8, 2), pytest.param(8, 8, marks=pytest.mark.full), pytest.param(3, 1, marks=pytest.mark.full)],
)
@pytest.mark.parametrize("lost_s", [None, 0.5])
def test_bound_of_an_outage(processes: int, workers: int, lost_s: float | None) -> None:
    """In an outage no subject is admitted more than the guard promises, and a busy one more than half of it."""
    trouble = Trouble(3, 3, lost_s=lost_s)
    scenario = replace(OUTAGE, processes=processes, workers=workers, troubles=[trouble])

    over = simulate(scenario, COSTS).over

    # Processes notice the end of an outage up to two seconds apart.
    local = processes / workers * (LIMIT.burst + _refilled(trouble.seconds + 2)) + processes
    lost = _refilled(lost_s) if lost_s else 0
    assert all(0 < subject_over <= local + lost for subject_over in over.values())
    assert over[0] > processes / workers * LIMIT.burst / 2


def _refilled(seconds: float) -> float:
    return seconds * LIMIT.tokens * 1_000 / LIMIT.period_ms


def test_no_trouble() -> None:
    """Without an outage, no subject is admitted more than its limit, and nothing is decided without the server."""
    result = simulate(replace(OUTAGE, troubles=()), COSTS)

    # An answer reaches its process later than it was decided.
    assert max(result.over.values()) < _refilled(0.005)
    assert result.local_s == 0
    assert result.refused_s > result.repeated_s > 0


def test_batches() -> None:
    """Tasks that always claim travel in two halves, and a batch has at most 128 claims."""
    few, many = (_saturated(tasks) for tasks in (100, 1_000))

    assert few.claims_in_call == pytest.approx(50, abs=1)
    assert 0.9 * MAX_BATCH_CLAIMS < many.claims_in_call <= MAX_BATCH_CLAIMS


def _saturated(tasks: int) -> Result:
    return simulate(Scenario(1, Population(1_000), tasks=tasks, seconds=0.3, warm_up_s=0.1), COSTS)


def test_hot_row() -> None:
    """A row that every call locks serves one call at a time, also with eight cores; other rows do not wait."""
    server = replace(COSTS.server, call=Linear(300 * US, 50 * US))
    load = Scenario(32, Population(10**6, 0), "postgres", tasks=4, server_cores=8, seconds=0.2, warm_up_s=0.1)
    apart = simulate(load, replace(COSTS, server=server))
    hot = simulate(replace(load, population=Population(1)), replace(COSTS, server=server))

    assert apart.server_busy > 0.9
    assert hot.server_busy < 0.3
    assert hot.claims_s < apart.claims_s / 3


def test_slower_machine() -> None:
    """On a machine that takes twice as long, so do all steps, and a saturated process makes half as many claims."""
    load = Scenario(1, Population(1_000), tasks=100, seconds=0.3, warm_up_s=0.1)
    fast, slow = (simulate(replace(load, machine=[Course(1.0, [factor])] * 2), COSTS) for factor in (1.0, 2.0))

    assert slow.claims_s == pytest.approx(fast.claims_s / 2, rel=0.05)


def test_steps_with_a_known_total() -> None:
    """Steps that were measured one by one are scaled to what they take together."""
    client = COSTS.client.with_total(Linear(126 * US, 24 * US))

    assert client.enter(1) == pytest.approx(18 * US)
    assert sum(step(50) for step in (client.enter, client.send, client.read, client.leave)) == pytest.approx(1_326 * US)


def test_uneven_steps() -> None:
    """Steps that take unequally long delay the slowest claims, and hardly change how many are made."""
    load = Scenario(1, Population(1_000), rate=3_000, seconds=0.8, warm_up_s=0.1)
    even, uneven = (simulate(load, replace(COSTS, spread=spread)) for spread in ((1.0,), (*[0.8] * 48, 5.6, 5.6)))

    assert uneven.claims_s == pytest.approx(even.claims_s, rel=0.01)
    assert uneven.p99_s > 1.5 * even.p99_s
