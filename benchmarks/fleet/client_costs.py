"""Measures the steps of a process with claims, by the processor time of its thread."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from statistics import median
from typing import Any

from benchmarks.fleet.costs import ClientCosts, Linear
from benchmarks.fleet.running import CLIENT, PLAN, RunningServer, limiter_at, remote_backend
from benchmarks.fleet.speed import Watch

from awx_ratelimit import AsyncLimiter, Budget

#: Below the size at which a batch is split in two.
SIZES = (1, 2, 4, 16, 48)
SUBJECTS = 1_000
_ROUNDS, _WARM_UP = 50, 5
_STEPS = {"enter": ("begun", "prepared"), "send": ("prepared", "sent")}
_STEPS |= {"read": ("sent", "resumed"), "leave": ("resumed", "left")}


class Stamps:
    """The processor time of this thread at the steps of one batch, and how many calls were sent."""

    def __init__(self) -> None:
        self.at_ns: dict[str, int] = {}
        self.calls = 0

    def first(self, step: str) -> None:
        """Note the time, unless it was noted before."""
        if step not in self.at_ns:
            self.at_ns[step] = time.thread_time_ns()

    def last(self, step: str) -> None:
        """Note the time, in the place of an earlier one."""
        self.at_ns[step] = time.thread_time_ns()

    def taken_s(self, step: str) -> float:
        """The time of one of the steps."""
        begin, end = _STEPS[step]
        return (self.at_ns[end] - self.at_ns[begin]) / 1e9


def watch(limiter: AsyncLimiter, stamps: Stamps) -> None:
    """Stamp the steps of each batch from now on."""
    # These steps have no public place.
    (channel,) = remote_backend(limiter)._channels._current().values()  # noqa: SLF001
    batching = channel.claims
    prepare, start = batching._prepare, batching._start  # noqa: SLF001

    def stamped_prepare(batch: Any) -> Any:
        stamps.first("prepared")
        return prepare(batch)

    def stamped_start(calls: Any, done: Callable[[Any], Any]) -> None:
        stamps.calls += 1
        start(calls, done)
        stamps.last("sent")

    batching._prepare, batching._start = stamped_prepare, stamped_start  # noqa: SLF001


async def claim_together(
    limiter: AsyncLimiter, subjects: Sequence[str], also: Sequence[Budget], stamps: Stamps
) -> None:
    """One claim of each subject in one batch, each with its release."""
    stamps.at_ns.clear()

    async def one(subject: str) -> None:
        stamps.first("begun")
        decision = await limiter.acquire(subject, PLAN, also=also)
        stamps.first("resumed")
        await limiter.release(decision)
        stamps.last("left")
        assert decision.allowed

    await asyncio.gather(*map(one, subjects))


async def measure_client(server: RunningServer, speed: Watch, also: Sequence[Budget], total: Linear) -> ClientCosts:
    """The costs of a process whose claims have these other budgets, and which take `total` together.

    A batch whose claims all begin at once shows the proportions of its steps.
    """
    steps = {step: Linear.fit(points) for step, points in (await _steps(server, speed, also)).items()}
    return ClientCosts(**steps, task_s=await _task_s()).with_total(total)


async def _steps(server: RunningServer, speed: Watch, also: Sequence[Budget]) -> dict[str, dict[float, float]]:
    """What each step takes, by the size of the batch."""
    limiter, stamps, numbers = limiter_at(server.url), Stamps(), count()
    await limiter.acquire("first", PLAN)
    watch(limiter, stamps)

    async def taken_s(size: int) -> dict[str, float]:
        # A claim is sent at once if the one before was alone too.
        for _ in range(1 + (size == 1)):
            await claim_together(limiter, some_subjects(next(numbers), size), also, stamps)
        return {step: stamps.taken_s(step) for step in _STEPS}

    rounds = {size: (await speed.rounds(_ROUNDS + _WARM_UP, partial(taken_s, size)))[_WARM_UP:] for size in SIZES}
    await limiter.aclose()
    return {
        step: {size: median(each[step] / slowness[CLIENT] for each, slowness in done) for size, done in rounds.items()}
        for step in _STEPS
    }


async def _task_s() -> float:
    """What a task costs the event loop besides what it does."""

    async def nothing() -> None:
        pass

    taken = []
    for _ in range(_ROUNDS):
        begin_ns = time.thread_time_ns()
        await asyncio.gather(*(nothing() for _ in range(100)))
        taken.append((time.thread_time_ns() - begin_ns) / 100e9)
    return median(taken)


def some_subjects(number: int, size: int) -> list[str]:
    """Others in each round."""
    return [f"subject {(number * 61 + each) % SUBJECTS}" for each in range(size)]
