"""Claims without end, from several threads, and what became of each; and how late this machine is by itself."""

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any, NamedTuple

from awx_ratelimit import BackendUnavailable, Plan, Rate

SECONDS = float(os.environ.get("AWX_CHAOS_SECONDS", "4"))
#: Nothing to speak of comes back while a test lasts: what is owed in the end is all that was charged.
TOKENS = Rate("decade", 1_000_000, 315_360_000_000)
PLAN = Plan("load", (TOKENS,))
REFUSED = "refused"
_THREADS = 3
_PAUSE_S = 0.001


class Claim(NamedTuple):
    """One claim: when it began and ended, and why it failed, if it did."""

    subject: str
    began_s: float
    ended_s: float
    error: str = ""

    @property
    def took_ms(self) -> float:
        """How long it took."""
        return (self.ended_s - self.began_s) * 1000


class Load:
    """`limiters` claim for `subjects`, each in threads of its own."""

    def __init__(self, limiters: Sequence[Any], subjects: Sequence[str], plan: Plan = PLAN) -> None:
        self._limiters = limiters
        self._subjects = subjects
        self._plan = plan
        self.claims: list[Claim] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Claim for the length of a block."""
        acts = [
            lambda over, limiter=limiter, seed=seed: self._claim(limiter, seed, over)
            for limiter in self._limiters
            for seed in range(_THREADS)
        ]
        with _until_over(acts):
            yield

    def _claim(self, limiter: Any, seed: int, over: threading.Event) -> None:
        draw = random.Random(seed)
        while not over.wait(_PAUSE_S):
            subject, began_s, error = draw.choice(self._subjects), time.monotonic(), ""
            try:
                if not limiter.acquire(subject, self._plan).allowed:
                    error = REFUSED
            except BackendUnavailable as failed:
                error = str(failed)
            self.claims.append(Claim(subject, began_s, time.monotonic(), error))

    def granted(self, since_s: float = 0.0) -> Counter[str]:
        """How many claims of each subject were, of those that began since then."""
        return Counter(claim.subject for claim in self.claims if not claim.error and claim.began_s >= since_s)

    def failed(self) -> list[Claim]:
        """Those that were neither granted nor refused, in order."""
        claims = sorted(self.claims, key=lambda claim: claim.ended_s)
        return [claim for claim in claims if claim.error not in {"", REFUSED}]

    def slowest_ms(self) -> float:
        """How long the slowest of them all took."""
        return max(claim.took_ms for claim in self.claims)

    def middle_ms(self, from_s: float, to_s: float) -> float:
        """How long those took that began between the two, at the median."""
        return median(claim.took_ms for claim in self.claims if from_s <= claim.began_s < to_s)


class Control:
    """Waits as long as a claim may, again and again, beside the load: what it is late by, so may a claim be."""

    def __init__(self, limiters: dict[str, Any], wait_ms: int) -> None:
        self._wait_s = wait_ms / 1000
        self._portal = limiters["tasks"].portal
        #: When each wait began and ended, and what it was late by.
        self._waits: list[tuple[float, float, float]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Wait for the length of a block, as a thread does and as a task does."""
        in_thread = lambda _: threading.Event().wait(self._wait_s)  # noqa: E731  # one of two alike
        in_task = lambda _: self._portal.call(asyncio.sleep, self._wait_s)  # noqa: E731
        acts = [lambda over, wait=wait: self._measure(wait, over) for wait in (in_thread, in_task) * 2]
        with _until_over(acts):
            yield

    def _measure(self, wait: Callable[[Any], Any], over: threading.Event) -> None:
        while not over.is_set():
            began_s = time.monotonic()
            wait(None)
            ended_s = time.monotonic()
            late_ms = (ended_s - began_s - self._wait_s) * 1000
            self._waits.append((began_s, ended_s, late_ms))

    def late_ms(self, claim: Claim) -> float:
        """What it was late by, at most, while a claim waited."""
        there = [late for began_s, ended_s, late in self._waits if began_s < claim.ended_s and ended_s > claim.began_s]
        return max(there, default=0.0)

    @property
    def p99_ms(self) -> float:
        """What one in a hundred is late by, or more."""
        return quantiles((late_ms for _, _, late_ms in self._waits), n=100)[-1]

    @property
    def worst_ms(self) -> float:
        """What the latest of all is late by."""
        return max(late_ms for _, _, late_ms in self._waits)

    def __str__(self) -> str:
        return f"control late by {self.p99_ms:.0f} ms at p99, {self.worst_ms:.0f} at most"


@contextmanager
def _until_over(acts: Sequence[Callable[[threading.Event], Any]]) -> Iterator[None]:
    over = threading.Event()
    threads = [threading.Thread(target=act, args=(over,)) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def charged(limiter: Any, subject: str, plan: Plan = PLAN) -> int:
    """What is owed of the first rate."""
    usage = limiter.peek(subject, plan).usages[0]
    return int(usage.capacity - usage.remaining)


#: Event, what was measured, and what is published of it: a table of all tests of one run.
ROWS: list[tuple[str, str, str]] = []


def say(event: str, measured: str, bound: str) -> None:
    """A row of the table."""
    ROWS.append((event, measured, bound))
