"""Runs one scenario."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.fleet.cores import FULL_SPEED, SharedCores
from benchmarks.fleet.costs import Costs
from benchmarks.fleet.events import OwnCore, Simulation
from benchmarks.fleet.measured import Measured
from benchmarks.fleet.process import Process
from benchmarks.fleet.scenario import Scenario, Trouble
from benchmarks.fleet.servers import Postgres, Redis, Server
from benchmarks.fleet.subjects import Buckets


@dataclass(frozen=True, slots=True)
class Result:
    """What a fleet did after the warm-up. `server_busy` is the share of the busiest server's cores that it used.

    `over` is by how many claims the worst interval of each watched subject exceeded its limit.
    """

    begun: int
    claims: int
    claims_s: float
    calls_s: float
    releases_s: float
    claims_in_call: float
    p50_s: float
    p99_s: float
    server_busy: float
    process_busy: float
    refused_s: float
    repeated_s: float
    local_s: float
    outages: int
    heals: int
    over: dict[int, float]
    admitted: dict[int, int]


def simulate(scenario: Scenario, costs: Costs) -> Result:
    """Run `scenario` with these costs. The same scenario has the same result."""
    simulation = Simulation()
    chance = random.Random(scenario.seed)  # noqa: S311  # no secret
    measured = Measured(scenario.warm_up_s, scenario.watched)
    luck = partial(random.Random(scenario.seed).choice, costs.spread)  # noqa: S311  # no secret
    shared = SharedCores(simulation, scenario.machine, luck) if scenario.machine else None
    servers = [_server(simulation, shared, scenario, costs, luck) for _ in range(scenario.servers)]
    cores = [shared or OwnCore(simulation, luck) for _ in range(scenario.processes)]
    for number, core in enumerate(cores):
        seed = random.Random(chance.getrandbits(64))  # noqa: S311  # no secret
        Process(simulation, core.program(), costs.client, scenario, servers, measured, seed, number).begin()
    for trouble in scenario.troubles:
        _plan(simulation, servers[trouble.server], trouble)
    simulation.run(scenario.warm_up_s)
    before = [server.used_s for server in servers], [core.used_s for core in cores]
    simulation.run(scenario.warm_up_s + scenario.seconds)
    return _result(scenario, measured, servers, cores, before)


def _server(
    simulation: Simulation,
    shared: SharedCores | None,
    scenario: Scenario,
    costs: Costs,
    luck: Callable[[], float],
) -> Server:
    message_s, buckets = _message_s(scenario, costs), scenario.limit and Buckets(scenario.limit)
    if scenario.kind.startswith("postgres"):
        cores = shared or SharedCores(simulation, [FULL_SPEED] * scenario.server_cores, luck)
        wakes_s = _message_s(replace(scenario, rtt_s=None), costs)
        return Postgres(
            cores, wakes_s, simulation, costs.server, message_s, buckets, has_service="service" in scenario.kind
        )
    program = (shared or OwnCore(simulation, luck)).program()
    return Redis(program, simulation, costs.server, message_s, buckets)


def _message_s(scenario: Scenario, costs: Costs) -> Callable[[], float]:
    """How long messages travel: on one machine, half of what its pauses add to a call."""
    times_s = [pause_s / 2 for pause_s in costs.pauses_s] if scenario.rtt_s is None else [scenario.rtt_s / 2]
    return partial(random.Random(scenario.seed).choice, times_s)  # noqa: S311  # no secret


def _plan(simulation: Simulation, server: Server, trouble: Trouble) -> None:
    end_s = trouble.begin_s + trouble.seconds
    if trouble.slowness is not None:
        simulation.at(trouble.begin_s, partial(setattr, server, "slowness", trouble.slowness))
        simulation.at(end_s, partial(setattr, server, "slowness", 1.0))
        return
    simulation.at(trouble.begin_s, server.stop)
    if trouble.lost_s is not None:
        kept: dict[int, tuple[int, int]] = {}
        assert server.buckets is not None, "a failover loses charges: name a limit"
        states = server.buckets
        simulation.at(trouble.begin_s - trouble.lost_s, lambda: kept.update(states.states))
        simulation.at(end_s, lambda: server.take_over(kept))
    else:
        simulation.at(end_s, server.resume)


def _result(
    scenario: Scenario,
    measured: Measured,
    servers: list[Server],
    cores: list[OwnCore | SharedCores],
    before: tuple[list[float], list[float]],
) -> Result:
    seconds, limit = scenario.seconds, scenario.limit
    busy = [server.used_s - was for server, was in zip(servers, before[0], strict=True)]
    used = [core.used_s - was for core, was in zip(cores, before[1], strict=True)]
    return Result(
        begun=measured.begun,
        claims=measured.claims,
        claims_s=measured.claims / seconds,
        calls_s=measured.calls / seconds,
        releases_s=measured.releases / seconds,
        claims_in_call=(measured.claims - measured.repeated - measured.local) / max(1, measured.calls),
        p50_s=measured.quantile_s(0.5),
        p99_s=measured.quantile_s(0.99),
        server_busy=max(busy) / seconds / scenario.server_cores,
        process_busy=max(used) / seconds / max(1, len(scenario.machine)),
        refused_s=measured.refused / seconds,
        repeated_s=measured.repeated / seconds,
        local_s=measured.local / seconds,
        outages=measured.outages,
        heals=measured.heals,
        over={subject: measured.admitted.over(subject, limit) for subject in scenario.watched} if limit else {},
        admitted={subject: measured.admitted.number(subject) for subject in scenario.watched},
    )
