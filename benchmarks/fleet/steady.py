"""What a call costs a process and its server while tasks claim again and again, as those of `worker` do."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from statistics import fmean, quantiles

from benchmarks.fleet.client_costs import Stamps, claim_together, some_subjects, watch
from benchmarks.fleet.costs import Linear
from benchmarks.fleet.running import CLIENT, PLAN, SERVER, RunningServer, limiter_at
from benchmarks.fleet.speed import Watch
from benchmarks.fleet.worker import Work, Worker

from awx_ratelimit import AsyncLimiter, Budget

#: About half of the tasks claim in one call, and the others meanwhile in the next one.
TASKS = (1, 4, 8, 32, 96)
_ROUNDS, _SECONDS = 9, 0.15
_CALLS, _BATCH = 1_000, 16
#: Rare long steps delay all claims behind them, so that 99 quantiles would be too few.
_QUANTILES = 250


@dataclass(frozen=True, slots=True)
class Used:
    """One call: its claims, and the processor time that it takes the process and the server."""

    claims: float
    client_s: float
    server_s: float


async def usage_of_calls(
    server: RunningServer, speed: Watch, work: Work, numbers: Sequence[int] = TASKS, connections: int = 1
) -> list[Used]:
    """What a call uses with each of these numbers of tasks on each connection. The extreme rounds do not count."""
    limiters, stamps, seeds = [limiter_at(server.url) for _ in range(connections)], Stamps(), count()
    for limiter in limiters:
        await limiter.acquire("first", PLAN)
        watch(limiter, stamps)

    async def once(tasks: int) -> Used:
        load = replace(work, tasks=tasks, seconds=_SECONDS, warm_up_s=0.0)
        workers = [Worker(replace(load, seed=next(seeds))) for _ in limiters]
        used, client_s, calls, begin_s = server.used_s(), time.thread_time(), stamps.calls, time.monotonic()
        await asyncio.gather(*(each.work(limiter, begin_s) for each, limiter in zip(workers, limiters, strict=True)))
        client_s, calls = time.thread_time() - client_s, stamps.calls - calls
        claims = sum(len(worker.taken_us) for worker in workers)
        return Used(claims / calls, client_s / calls, server.used_since_s(used) / calls)

    used = [_usual(await speed.rounds(_ROUNDS, partial(once, tasks))) for tasks in numbers]
    for limiter in limiters:
        await limiter.aclose()
    return used


def _usual(rounds: Sequence[tuple[Used, list[float]]]) -> Used:
    at_full_speed = [
        (used.claims, used.client_s / slowness[CLIENT], used.server_s / slowness[SERVER]) for used, slowness in rounds
    ]
    return Used(*(fmean(sorted(values)[1:-1]) for values in zip(*at_full_speed, strict=True)))


def client_line(used: Sequence[Used]) -> Linear:
    """The processor time of a process for a call, by its claims."""
    return Linear.fit({each.claims: each.client_s for each in used})


def server_line(used: Sequence[Used]) -> Linear:
    """The processor time of a server for a call, by its claims."""
    return Linear.fit({each.claims: each.server_s for each in used})


async def pauses_s(server: RunningServer, speed: Watch) -> list[float]:
    """How long single calls take besides processor time, as quantiles: the time until the other program wakes up."""
    limiter = limiter_at(server.url)

    async def paused_s() -> float:
        begin_s, own_s, used = time.perf_counter(), time.thread_time(), server.used_s()
        await _claim(limiter, "subject 1")
        elapsed_s, own_s = time.perf_counter() - begin_s, time.thread_time() - own_s
        return max(0.0, elapsed_s - own_s - server.used_since_s(used))

    taken_s = await speed.times_s(_CALLS, paused_s, CLIENT)
    await limiter.aclose()
    return quantiles(taken_s, n=_QUANTILES)


async def spread(server: RunningServer, speed: Watch, also: Sequence[Budget]) -> list[float]:
    """How many times longer than its mean a batch takes the process, as quantiles."""
    limiter, stamps, numbers = limiter_at(server.url), Stamps(), count()

    async def batch_s() -> float:
        begin_s = time.thread_time()
        await claim_together(limiter, some_subjects(next(numbers), _BATCH), also, stamps)
        return time.thread_time() - begin_s

    taken_s = await speed.times_s(_CALLS, batch_s, CLIENT)
    await limiter.aclose()
    mean_s = fmean(taken_s)
    return quantiles((each / mean_s for each in taken_s), n=_QUANTILES)


async def _claim(limiter: AsyncLimiter, subject: str) -> None:
    await limiter.release(await limiter.acquire(subject, PLAN))
