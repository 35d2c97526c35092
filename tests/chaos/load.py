"""Load from several threads with the outcome of each claim, and a control that measures how late the machine is."""

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from statistics import median, quantiles
from typing import Any, NamedTuple

import redis

from awx_ratelimit import BackendUnavailable, Plan, Rate

SECONDS = float(os.environ.get("AWX_CHAOS_SECONDS", "3"))
#: Refills so slowly that the debt at the end of a test is everything that was charged.
TOKENS = Rate("decade", 1_000_000, 315_360_000_000)
PLAN = Plan("load", (TOKENS,))
REFUSED = "refused"
_THREADS = 3
_PAUSE_S = 0.001


class Claim(NamedTuple):
    """One claim: when it began and ended, and the error if it failed."""

    subject: str
    began_s: float
    ended_s: float
    error: str = ""

    @property
    def took_ms(self) -> float:
        """The duration of the claim."""
        return (self.ended_s - self.began_s) * 1000


class Load:
    """Each of `limiters` claims for random `subjects` from several threads."""

    def __init__(self, limiters: Sequence[Any], subjects: Sequence[str], plan: Plan = PLAN) -> None:
        self._limiters = limiters
        self._subjects = subjects
        self._plan = plan
        self.claims: list[Claim] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Claim for the duration of a block."""
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
        """The number of granted claims by subject, of those that began at `since_s` or later."""
        return Counter(claim.subject for claim in self.claims if not claim.error and claim.began_s >= since_s)

    def failed(self) -> list[Claim]:
        """The claims that were neither granted nor refused, in order."""
        claims = sorted(self.claims, key=lambda claim: claim.ended_s)
        return [claim for claim in claims if claim.error not in {"", REFUSED}]

    def slowest_ms(self) -> float:
        """The duration of the slowest claim."""
        return max(claim.took_ms for claim in self.claims)

    def median_ms(self, from_s: float, to_s: float) -> float:
        """The median duration of the claims that began between the two times."""
        return median(claim.took_ms for claim in self.claims if from_s <= claim.began_s < to_s)


class Control:
    """Waits as long as a claim may, again and again, during a load. A claim may be as late as these waits are."""

    def __init__(self, limiters: dict[str, Any], wait_ms: int) -> None:
        self._wait_s = wait_ms / 1000
        self._portal = limiters["tasks"].portal
        #: When each wait began and ended, and how late it was.
        self._waits: list[tuple[float, float, float]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Wait for the duration of a block, in threads and in tasks."""
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
        """How late the latest of the waits was that overlapped `claim`."""
        delays = [late for began_s, ended_s, late in self._waits if began_s < claim.ended_s and ended_s > claim.began_s]
        return max(delays, default=0.0)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the delays."""
        return quantiles((late_ms for _, _, late_ms in self._waits), n=100)[-1]

    @property
    def worst_ms(self) -> float:
        """The longest delay."""
        return max(late_ms for _, _, late_ms in self._waits)

    def __str__(self) -> str:
        return f"control late by {self.p99_ms:.0f} ms at p99, {self.worst_ms:.0f} at most"


class Pings:
    """Pings servers again and again during a load, without a limiter. Shows how late the servers themselves are."""

    def __init__(self, clients: Sequence[Any]) -> None:
        self._clients = clients
        self._took_ms: list[float] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ping for the duration of a block, or until a server is killed."""
        with _until_over([partial(self._ping, client) for client in self._clients]):
            yield

    def _ping(self, client: Any, over: threading.Event) -> None:
        with suppress(redis.ConnectionError):
            while not over.wait(_PAUSE_S):
                began_s = time.monotonic()
                client.ping()
                self._took_ms.append((time.monotonic() - began_s) * 1000)

    @property
    def worst_ms(self) -> float:
        """The longest duration of a ping."""
        return max(self._took_ms)


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
    """How many tokens of the first rate are in use."""
    usage = limiter.peek(subject, plan).usages[0]
    return int(usage.capacity - usage.remaining)


#: The table of a run: event, measurement, and the bound that the documentation promises.
ROWS: list[tuple[str, str, str]] = []


def add_row(event: str, measured: str, bound: str) -> None:
    """Add a row to the table."""
    ROWS.append((event, measured, bound))
