"""What a call costs a process and its server while tasks claim again and again, as those of `worker` do."""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from statistics import fmean, quantiles

from benchmarks.fleet.client_costs import Stamps, claim_together, some_subjects, watch
from benchmarks.fleet.costs import Linear
from benchmarks.fleet.running import PLAN, RunningServer, limiter_at
from benchmarks.fleet.worker import Work, Worker

from awx_ratelimit import AsyncLimiter, Budget

#: About half of the tasks claim in one call, and the others meanwhile in the next one.
TASKS = (1, 4, 8, 32, 96)
_ROUNDS, _SECONDS = 7, 0.25
_PAUSES, _BATCHES, _BATCH = 1_000, 500, 16


@dataclass(frozen=True, slots=True)
class Used:
    """One call: its claims, and the processor time that it takes the process and the server."""

    claims: float
    client_s: float
    server_s: float


async def usage_of_calls(server: RunningServer, work: Work, numbers: Sequence[int] = TASKS) -> list[Used]:
    """What a call uses with each of these numbers of tasks. They take turns, and the extreme rounds do not count."""
    limiter, stamps = limiter_at(server.url), Stamps()
    await limiter.acquire("first", PLAN)
    watch(limiter, stamps)
    rounds: list[list[Used]] = [[] for _ in numbers]
    for number in range(_ROUNDS):
        for tasks, seen in zip(numbers, rounds, strict=True):
            worker = Worker(replace(work, tasks=tasks, seed=number, seconds=_SECONDS, warm_up_s=0.0))
            used, client_s, calls = server.used_s(), time.thread_time(), stamps.calls
            await worker.work(limiter, time.monotonic())
            client_s, calls = time.thread_time() - client_s, stamps.calls - calls
            seen.append(Used(len(worker.took_ns) / calls, client_s / calls, server.used_since_s(used) / calls))
    await limiter.aclose()
    return [_usual(seen) for seen in rounds]


def _usual(seen: Sequence[Used]) -> Used:
    return Used(*(fmean(sorted(values)[1:-1]) for values in zip(*map(astuple, seen), strict=True)))


def client_line(used: Sequence[Used]) -> Linear:
    """The processor time of a process for a call, by its claims."""
    return Linear.fit({each.claims: each.client_s for each in used})


def server_line(used: Sequence[Used]) -> Linear:
    """The processor time of a server for a call, by its claims."""
    return Linear.fit({each.claims: each.server_s for each in used})


async def pauses_s(server: RunningServer) -> list[float]:
    """How long single calls take besides processor time, as 99 quantiles.

    It is the time until the other program wakes up, and that in which this machine's host runs other machines.
    """
    limiter, paused_s = limiter_at(server.url), list[float]()
    for number in range(_PAUSES):
        begin_s, own_s, used = time.perf_counter(), time.thread_time(), server.used_s()
        await _claim(limiter, f"subject {number % 100}")
        elapsed_s, own_s = time.perf_counter() - begin_s, time.thread_time() - own_s
        paused_s.append(max(0.0, elapsed_s - own_s - server.used_since_s(used)))
    await limiter.aclose()
    return quantiles(paused_s, n=100)


async def spread(server: RunningServer, also: Sequence[Budget]) -> list[float]:
    """How many times longer than its mean a batch takes the process, as 99 quantiles."""
    limiter, stamps, taken_s = limiter_at(server.url), Stamps(), list[float]()
    for number in range(_BATCHES):
        begin_s = time.thread_time()
        await claim_together(limiter, some_subjects(number, _BATCH), also, stamps)
        taken_s.append(time.thread_time() - begin_s)
    await limiter.aclose()
    mean_s = fmean(taken_s)
    return quantiles((each / mean_s for each in taken_s), n=100)


async def _claim(limiter: AsyncLimiter, subject: str) -> None:
    await limiter.release(await limiter.acquire(subject, PLAN))
