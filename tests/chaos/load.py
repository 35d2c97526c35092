"""Claims without end, from several threads, and what became of each."""

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from awx_ratelimit import BackendUnavailable, Plan, Rate

SECONDS = float(os.environ.get("AWX_CHAOS_SECONDS", "4"))
#: Nothing to speak of comes back while a test lasts: what is owed in the end is all that was charged.
TOKENS = Rate("decade", 1_000_000, 315_360_000_000)
PLAN = Plan("load", (TOKENS,))
_THREADS = 3
_PAUSE_S = 0.001


class Claim(NamedTuple):
    """One claim: when it began and ended, and why it failed, if it did."""

    subject: str
    began_s: float
    ended_s: float
    error: str = ""


class Load:
    """`limiters` claim for `subjects`, each in threads of its own."""

    def __init__(self, limiters: Sequence[Any], subjects: Sequence[str]) -> None:
        self._limiters = limiters
        self._subjects = subjects
        self.claims: list[Claim] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Claim for the length of a block."""
        over = threading.Event()
        threads = [
            threading.Thread(target=self._claim, args=(limiter, seed, over))
            for limiter in self._limiters
            for seed in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _claim(self, limiter: Any, seed: int, over: threading.Event) -> None:
        draw = random.Random(seed)
        while not over.wait(_PAUSE_S):
            subject, began_s, error = draw.choice(self._subjects), time.monotonic(), ""
            try:
                if not limiter.acquire(subject, PLAN).allowed:
                    error = "refused"
            except BackendUnavailable as failed:
                error = str(failed)
            self.claims.append(Claim(subject, began_s, time.monotonic(), error))

    def granted(self) -> Counter[str]:
        """How many claims of each subject were."""
        return Counter(claim.subject for claim in self.claims if not claim.error)

    def failed(self) -> list[Claim]:
        """Those that were not, in order."""
        return [claim for claim in sorted(self.claims, key=lambda claim: claim.ended_s) if claim.error]

    def slowest_ms(self) -> float:
        """How long the slowest of them all took."""
        return max(claim.ended_s - claim.began_s for claim in self.claims) * 1000


def charged(limiter: Any, subject: str) -> int:
    """What is owed."""
    (usage, *_) = limiter.peek(subject, PLAN).usages
    return int(usage.capacity - usage.remaining)


def say(figures: str) -> None:
    """For who reads the output of the test."""
    sys.stdout.write(f"{figures}\n")
