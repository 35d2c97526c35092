"""Many concurrent callers, in short alternating rounds, so that a slow moment of the machine affects all sides.

A side is what one caller does: it asks a number of times for one subject, times each call, and returns times and
answers. Answers are checked after the clock has stopped.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from statistics import median
from typing import Any, NamedTuple, Self, TypeAlias

#: The times of a caller's calls in ns, and what they answered.
Asked: TypeAlias = tuple[list[int], list[Any]]
_ROUNDS = count()


class Side(NamedTuple):
    """`ready` makes what one caller will do, of its subject and number of calls; it is not timed."""

    name: str
    ready: Callable[[str, int], Callable[[], Any]]
    check: Callable[[list[Any]], bool]


class Round(NamedTuple):
    """One round of one side."""

    a_second: float
    p50_us: float
    p99_us: float


class Spread(NamedTuple):
    """The median of some rounds, and the least and the most of them."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        digits = 0 if self.middle >= 100 else 2
        return f"{self.middle:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


def spread(figures: Sequence[float]) -> Spread:
    return Spread(median(figures), min(figures), max(figures))


class Both(NamedTuple):
    """The rounds of two sides that took turns. They are compared round by round."""

    ours: list[Round]
    theirs: list[Round]

    @classmethod
    def of(cls, measured: Sequence[tuple[Round, Round]]) -> Self:
        return cls([our for our, _ in measured], [their for _, their in measured])

    @property
    def times_theirs(self) -> Spread:
        """Our decisions a second by theirs."""
        return spread([our.a_second / their.a_second for our, their in zip(*self, strict=True)])

    @property
    def times_their_p50(self) -> Spread:
        """The time of our middle call by theirs."""
        return spread([our.p50_us / their.p50_us for our, their in zip(*self, strict=True)])


class Load(NamedTuple):
    """Rounds of `callers` at once. Each caller of a round has a subject of its own, who owes nothing yet."""

    callers: int

    async def in_tasks(self, side: Side, calls: int) -> Round:
        """A round of `calls` in all, in tasks."""
        works = self._works(side, calls)
        begun = time.perf_counter()
        asked = await asyncio.gather(*(work() for work in works))
        return _measured(side, asked, time.perf_counter() - begun)

    def in_threads(self, side: Side, calls: int) -> Round:
        """The same in threads, whose start is not timed."""
        with ThreadPoolExecutor(self.callers) as pool:
            list(pool.map(lambda _: time.sleep(0.002), range(self.callers)))
            works = self._works(side, calls)
            begun = time.perf_counter()
            asked = list(pool.map(lambda work: work(), works))
            return _measured(side, asked, time.perf_counter() - begun)

    def _works(self, side: Side, calls: int) -> "list[Callable[[], Any]]":
        name = f"{side.name}, round {next(_ROUNDS)}"
        return [side.ready(f"{name}, caller {caller}", calls // self.callers) for caller in range(self.callers)]


def _measured(side: Side, asked: Sequence[Asked], took_s: float) -> Round:
    for _, answers in asked:
        if not side.check(answers):
            raise SystemExit(f"{side.name} answered wrongly: {answers[:5]}")
    times = sorted(each for times, _ in asked for each in times)
    return Round(len(times) / took_s, times[len(times) // 2] / 1000, times[len(times) * 99 // 100] / 1000)


def asking(call: Callable[[], Awaitable[Any]], calls: int) -> Callable[[], Awaitable[Asked]]:
    """A caller in a task that makes the same call each time."""

    async def work() -> Asked:
        times, answers = [], []
        for _ in range(calls):
            begun = time.perf_counter_ns()
            answer = await call()
            times.append(time.perf_counter_ns() - begun)
            answers.append(answer)
        return times, answers

    return work
