"""One real process of a validation: ``python -m benchmarks.fleet.worker JSON``.

It writes a line when it is ready, reads a line with the time to begin, and prints what it measured as JSON. Its
requests are tasks that claim and release. With `rate`, a timer of the event loop begins them at random times; otherwise
each task claims again as soon as it has released.
"""

import asyncio
import gc
import json
import random
import sys
import time
from array import array
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.fleet.running import PLAN, SERVICE, limiter_at, subject_names
from benchmarks.fleet.scenario import Population

from awx_ratelimit import AsyncLimiter, Plan, Rate


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker does. It measures after `warm_up_s`.

    `tokens` for each `period_ms` up to `burst`, if given, are the limit of each subject. `watched` is how many of the
    subjects that claim most often are watched: the times of their admitted claims are reported. `service`: each claim
    charges a budget of the service too. `scope` is that of the subjects.
    """

    url: str
    seconds: float
    warm_up_s: float
    subjects: int
    seed: int
    tasks: int = 0
    rate: float = 0.0
    service: bool = False
    scope: str | None = None
    budget_ms: int = 5_000
    workers: int = 1
    limit: tuple[int, int, int] | None = None
    watched: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Worker:
    """See the module."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._plan = PLAN if work.limit is None else Plan("limited", (Rate("rate", *work.limit),))
        self._also = SERVICE if work.service else ()
        self._draw = Population(work.subjects).drawer(random.Random(work.seed))  # noqa: S311  # no secret
        self._names = subject_names(work.subjects)
        self._from_ns = 0
        self._until_s = 0.0
        #: How long each claim after the warm-up took. An array gives the garbage collector no work.
        self.taken_us = array("q")
        self.admitted_s: dict[int, list[float]] = {subject: [] for subject in range(work.watched)}

    async def run(self) -> dict[str, Any]:
        limiter = limiter_at(self._work.url, self._work.budget_ms, self._work.workers)
        # The connections are opened before the clock starts.
        await limiter.acquire("first", PLAN)
        no_full_collections()
        print("ready", flush=True)
        begin_s = float(sys.stdin.readline())
        await asyncio.sleep(begin_s - time.monotonic())
        await self.work(limiter, begin_s)
        await limiter.aclose()
        return {"taken_us": self.taken_us.tolist(), "admitted_s": self.admitted_s}

    async def work(self, limiter: AsyncLimiter, begin_s: float) -> None:
        """Claim until the time is over, which began at `begin_s` of the monotonic clock."""
        self._from_ns = int((begin_s + self._work.warm_up_s) * 1e9)
        self._until_s = begin_s + self._work.warm_up_s + self._work.seconds
        if self._work.rate:
            await self._requests(limiter)
        else:
            await asyncio.gather(*(self._again(limiter) for _ in range(self._work.tasks)))

    async def _again(self, limiter: AsyncLimiter) -> None:
        while time.monotonic() < self._until_s:
            await self._claim(limiter)
            # A claim that is decided without a call does not yield to the other tasks.
            if self._work.limit:
                await asyncio.sleep(0)

    async def _requests(self, limiter: AsyncLimiter) -> None:
        chance = random.Random(self._work.seed + 1)  # noqa: S311  # no secret
        next_s, tasks = time.monotonic(), set[asyncio.Task[None]]()
        while next_s < self._until_s:
            now_s = time.monotonic()
            while next_s <= now_s:
                task = asyncio.create_task(self._claim(limiter))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                next_s += chance.expovariate(self._work.rate)
            await asyncio.sleep(next_s - now_s)
        await asyncio.gather(*tasks)

    async def _claim(self, limiter: AsyncLimiter) -> None:
        subject = self._draw()
        begun_ns = time.monotonic_ns()
        decision = await limiter.acquire(self._names[subject], self._plan, scope=self._work.scope, also=self._also)
        ended_ns = time.monotonic_ns()
        await limiter.release(decision)
        if begun_ns >= self._from_ns:
            self.taken_us.append((ended_ns - begun_ns) // 1000)
        if decision.allowed and subject in self.admitted_s:
            self.admitted_s[subject].append(ended_ns / 1e9)


def no_full_collections() -> None:
    """Do as a server should: the garbage collector does not look again at what was loaded, for 50 ms each time."""
    gc.collect()
    gc.freeze()


def main() -> None:
    """Do the work that the first argument describes."""
    given = json.loads(sys.argv[1])
    given["limit"] = given["limit"] and tuple(given["limit"])
    print(json.dumps(asyncio.run(Worker(Work(**given)).run())))


if __name__ == "__main__":
    main()
