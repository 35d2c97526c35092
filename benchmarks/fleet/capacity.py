"""How many claims a fleet and its servers carry, as lines of tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from benchmarks.fleet.costs import Costs
from benchmarks.fleet.scenario import Population, Scenario
from benchmarks.fleet.simulate import Result, simulate

#: A network within one data centre.
RTT_S = 0.000_5
#: What a request takes besides its claim: processor time, as that of a small app, and how long it has its slot.
APP_S, HOLD_S = 0.000_1, 0.05
#: A server is large enough if claims are answered in this time at p99, with as many more claims than usual.
MAX_P99_S, PEAK = 0.005, 1.5
#: Processes, and claims per second.
FLEETS = (
    (10, 1_000), (10, 10_000), (100, 1_000), (100, 10_000), (100, 100_000), (1_000, 10_000), (1_000, 100_000),
    (1_000, 1_000_000),
)  # fmt: skip
SUBJECTS = (1_000, 10_000_000)
SIZES = (1, 2, 4, 8, 16, 32, 64)
#: About as many claims in each simulation, after the warm-up.
_CLAIMS, _WARM_UP_S = 40_000, 0.1
#: Where the search for the largest rate begins, and how often it halves what is left.
_LOW, _STEPS = 500, 4


def fleet(processes: int, rate: float, subjects: int) -> Scenario:
    """A fleet of the tables, with one Redis server."""
    usual = Scenario(processes, Population(subjects), app_s=APP_S, hold_s=HOLD_S, rtt_s=RTT_S, warm_up_s=_WARM_UP_S)
    return at_rate(usual, rate)


def at_rate(load: Scenario, rate: float) -> Scenario:
    """The same fleet with so many claims per second."""
    return replace(load, rate=rate, seconds=min(1.0, max(0.05, _CLAIMS / rate)))


def on_cluster(load: Scenario, primaries: int) -> Scenario:
    """The same load on so many primaries. One is a server without a cluster."""
    kind = load.kind.replace("redis", "redis cluster") if primaries > 1 else load.kind
    return replace(load, kind=kind, servers=primaries)


def on_cores(load: Scenario, cores: int) -> Scenario:
    """The same load on a PostgreSQL with so many cores."""
    return replace(load, kind=load.kind.replace("redis", "postgres"), server_cores=cores)


def is_enough(result: Result, load: Scenario) -> bool:
    """Whether the servers keep up."""
    return result.claims_s > 0.95 * load.rate and result.p99_s <= MAX_P99_S


def smallest(
    load: Scenario, costs: dict[str, Costs], sized: Callable[[Scenario, int], Scenario]
) -> tuple[int, Result] | None:
    """The smallest size of a server that is large enough, and what the fleet does there; None if no size is."""
    size = 0
    while size < SIZES[-1]:
        size = next(each for each in SIZES if each > size)
        peak = at_rate(sized(load, size), PEAK * load.rate)
        result = simulate(peak, costs[peak.kind])
        if is_enough(result, peak):
            usual = sized(load, size)
            return size, simulate(usual, costs[usual.kind])
        # If much is missing, the next sizes are not tried.
        size = max(size, *(each for each in SIZES if each < size * peak.rate / max(1.0, result.claims_s) / 2), 0)
    return None


def most(load: Scenario, costs: Costs) -> tuple[float, Result]:
    """The largest rate that the servers of `load` keep up with, within a few percent, and what the fleet does there."""
    low, high = (0.0, simulate(at_rate(load, _LOW), costs)), float(_LOW)
    while is_enough(result := simulate(at_rate(load, high), costs), at_rate(load, high)):
        low, high = (high, result), 2 * high
    for _ in range(_STEPS):
        middle = (low[0] + high) / 2
        result = simulate(at_rate(load, middle), costs)
        if is_enough(result, at_rate(load, middle)):
            low = middle, result
        else:
            high = middle
    return low


def fleets(costs: dict[str, Costs]) -> Iterator[str]:
    """Which server each fleet needs."""
    yield (
        "| processes | claims/s | subjects | Redis primaries | busiest | calls/s | p50 | p99 "
        "| or PostgreSQL cores | busy | p50 | p99 |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for processes, rate in FLEETS:
        for subjects in SUBJECTS:
            load = fleet(processes, rate, subjects)
            redis, postgres = smallest(load, costs, on_cluster), smallest(load, costs, on_cores)
            yield f"| {processes:,} | {rate:,} | {subjects:,} | {_redis(redis)} | {_postgres(postgres)} |"


def _redis(found: tuple[int, Result] | None) -> str:
    if found is None:
        return "none is enough | | | | "
    size, result = found
    calls_s = result.calls_s + result.releases_s
    return f"{size} | {result.server_busy:.0%} | {calls_s:,.0f} | {ms(result.p50_s)} | {ms(result.p99_s)}"


def _postgres(found: tuple[int, Result] | None) -> str:
    if found is None:
        return "none is enough | | | "
    size, result = found
    return f"{size} | {result.server_busy:.0%} | {ms(result.p50_s)} | {ms(result.p99_s)}"


def ms(seconds: float) -> str:
    """A time in milliseconds."""
    return f"{seconds * 1_000:.1f} ms"


def _designs() -> Sequence[tuple[str, Scenario]]:
    redis, hot = fleet(100, 1.0, 10**6), Population(10**6, hot_share=1.0)
    service = replace(redis, kind="redis, service budget")
    return (
        ("one Redis, many subjects", redis),
        ("the same, plans without slots", replace(redis, hold_s=None)),
        ("the same, 10 processes", replace(redis, processes=10)),
        ("one Redis, one subject", replace(redis, population=hot)),
        ("one Redis, a budget of the service", service),
        ("8 primaries, many subjects", on_cluster(redis, 8)),
        ("8 primaries, one subject", replace(on_cluster(redis, 8), population=hot)),
        ("8 primaries, a budget of the service", on_cluster(service, 8)),
        ("the same, in 8 shares", replace(on_cluster(service, 8), shares=8)),
        ("PostgreSQL with 8 cores, many subjects", on_cores(redis, 8)),
        ("PostgreSQL with 8 cores, one subject", replace(on_cores(redis, 8), population=hot)),
        ("PostgreSQL with 8 cores, a budget of the service", on_cores(service, 8)),
        ("the same, in 8 shares", replace(on_cores(service, 8), shares=8)),
    )


def limits(costs: dict[str, Costs]) -> Iterator[str]:
    """Where each design ends."""
    yield "| 100 processes and | claims/s at most | claims in a call | busiest server | p99 |"
    yield "| --- | --- | --- | --- | --- |"
    for name, load in _designs():
        rate, result = most(load, costs[load.kind])
        figures = f"{rate:,.0f} | {result.claims_in_call:.1f} | {result.server_busy:.0%} | {ms(result.p99_s)}"
        yield f"| {name} | {figures} |"
