"""The laws of the simulation of a fleet in `benchmarks/fleet`."""

import random
from dataclasses import replace
from functools import partial
from statistics import mean

import pytest
from benchmarks.fleet.costs import ClientCosts, Costs, Linear, ServerCosts
from benchmarks.fleet.events import OwnCore, SharedCores, Simulation
from benchmarks.fleet.scenario import Population, Scenario, Trouble
from benchmarks.fleet.servers import Call, Claim, Redis
from benchmarks.fleet.simulate import Result, simulate

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
    server = Redis(simulation, OwnCore(simulation), COSTS.server, lambda: 0.0, turn_calls=1)
    for at_s in _times(chance, busy / service_s, 30_000):
        call = Call(partial(_note, simulation, at_s, taken), claims=[_claim()])
        simulation.at(at_s, partial(server.submit, call))
    simulation.run(60)

    assert mean(taken) == pytest.approx(service_s * (1 + busy / (2 * (1 - busy))), rel=0.04)


def test_programs_that_share_a_core() -> None:
    """Programs that share a core equally take as long as the formula for M/D/1 with processor sharing says."""
    work_s, busy = 50 * US, 0.6
    simulation, chance, taken = Simulation(), random.Random(1), list[float]()
    cores = SharedCores(simulation, 1)
    for at_s in _times(chance, busy / work_s, 30_000):
        simulation.at(at_s, partial(cores.run, work_s, partial(_note, simulation, at_s, taken)))
    simulation.run(60)

    assert mean(taken) == pytest.approx(work_s / (1 - busy), rel=0.04)


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


@pytest.mark.parametrize(("processes", "workers"), [(2, 2), (8, 2), (8, 8), (3, 1)])
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


def test_costs_of_a_slower_machine() -> None:
    """On a machine that takes twice as long, so do all steps, and a saturated process makes half as many claims."""
    load = Scenario(1, Population(1_000), tasks=100, seconds=0.3, warm_up_s=0.1)

    assert simulate(load, COSTS.times(2)).claims_s == pytest.approx(simulate(load, COSTS).claims_s / 2, rel=0.03)


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
