"""What a fleet admits and how long its claims take while a server hangs, fails over or is slow, as lines of tables."""

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.fleet.capacity import RTT_S, fleet, ms
from benchmarks.fleet.costs import Costs
from benchmarks.fleet.scenario import Population, Scenario, Trouble
from benchmarks.fleet.simulate import simulate

from awx_ratelimit import Rate

#: 600 a minute, of which 100 at once. The subject that is watched claims as often as all processes can admit.
LIMIT = Rate("minute", 600, 60_000, burst=100)
_BEGIN_S, _SECONDS, _AFTER_S = 2.0, 5.0, 5.0
_RATE, _HOT_SHARE = 2_000.0, 0.5
TROUBLES = (
    ("hangs for 5 s", Trouble(_BEGIN_S, _SECONDS)),
    ("fails over after 5 s, and loses 0.5 s", Trouble(_BEGIN_S, _SECONDS, lost_s=0.5)),
    ("is 200 times as slow for 5 s", Trouble(_BEGIN_S, _SECONDS, slowness=200.0)),
)
#: Processes, and the `expected_workers` that they were told.
FLEETS = ((10, 10), (10, 1), (100, 100), (1_000, 1_000))


def outages(costs: dict[str, Costs]) -> Iterator[str]:
    """What each fleet does in each outage."""
    yield (
        "| one Redis | processes | `expected_workers` | admitted more than the limit | bound | decided locally "
        "| calls that report it | p99 |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, trouble in TROUBLES:
        for processes, workers in FLEETS:
            result = simulate(_scenario(processes, workers, trouble), costs["redis"])
            figures = f"{result.over[0]:,.0f} | {bound(processes, workers, trouble):,.0f}"
            local = result.local_s * (_SECONDS + _AFTER_S) / max(1, result.claims)
            yield (
                f"| {name} | {processes:,} | {workers:,} | {figures} | {local:.0%} | {result.heals:,} "
                f"| {ms(result.p99_s)} |"
            )


def bound(processes: int, workers: int, trouble: Trouble) -> float:
    """The most that the guard admits more than the limit, in all intervals: see docs/reliability.md.

    Each process has a share of one token at least. Processes notice the end of an outage up to two seconds apart.
    """
    refilled = (trouble.seconds + 2) * LIMIT.tokens * 1_000 / LIMIT.period_ms
    lost = (trouble.lost_s or 0.0) * LIMIT.tokens * 1_000 / LIMIT.period_ms
    return processes / workers * (LIMIT.burst + refilled) + processes + lost


def _scenario(processes: int, workers: int, trouble: Trouble) -> Scenario:
    usual = fleet(processes, _RATE, 1_000)
    return replace(
        usual, population=Population(1_000, hot_share=_HOT_SHARE), limit=LIMIT, workers=workers, hold_s=None,
        rtt_s=RTT_S, warm_up_s=_BEGIN_S, seconds=_SECONDS + _AFTER_S, troubles=[trouble], watched=frozenset([0]),
    )  # fmt: skip
