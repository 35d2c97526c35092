"""What a process decides without its server. The circuit breaker and the share of a limit are those of the library."""

import random
from collections import deque
from collections.abc import Sequence
from math import inf

from benchmarks.fleet.measured import Measured
from benchmarks.fleet.servers import Claim
from benchmarks.fleet.subjects import Buckets

from awx_ratelimit import Plan
from awx_ratelimit.backends.resilience.circuit_breaker import CircuitBreaker
from awx_ratelimit.backends.resilience.local_share import Shares
from awx_ratelimit.core.rate import Rate

#: As in `reconciliation`: the records of one call, and how many are kept.
HEAL_BATCH = 64
MAX_DECIDED = 100_000
#: As in `denial_cache`: how long a refusal is repeated at most.
MAX_REPEATED_S = 1.0


class Guard:
    """The guard of one process: a circuit breaker for each server, the local share of `limit`, and known refusals."""

    def __init__(
        self, limit: Rate, workers: int, budget_s: float, servers: int, chance: random.Random, measured: Measured
    ) -> None:
        self._breakers = [CircuitBreaker() for _ in range(servers)]
        self._budget_s = budget_s
        self._whole = limit
        self._share = Shares(workers).of(Plan("simulated", (limit,)), 1).rates[0]
        self._local = Buckets(self._share)
        self._refused_until_s: dict[int, float] = {}
        self._decided: list[dict[int, None]] = [{} for _ in range(servers)]
        self._reported: dict[int, tuple[int, int]] = {}
        self._chance = chance
        self._measured = measured
        self._answered = 0
        #: Claims in the order in which they began, until they are done.
        self._open: deque[Claim] = deque()

    def permits(self, claim: Claim, now_s: float) -> bool:
        """Whether the claim may go to its server. Otherwise it is decided here."""
        until_s = self._refused_until_s.get(claim.subject, 0.0)
        if now_s < until_s:
            claim.wait_ms = int((until_s - now_s) * 1000) + 1
            self._measured.repeated += self._measured.is_warm(now_s)
            return False
        breaker = self._breakers[claim.server]
        ticket = breaker.permit(now_s)
        if ticket is None:
            self._decide(claim, now_s)
            return False
        claim.ticket, claim.failures = ticket, breaker.failures
        self._open.append(claim)
        return True

    def deadline_s(self) -> float:
        """The deadline of the oldest claim that has no answer."""
        while self._open and self._open[0].is_done:
            self._open.popleft()
        return self._open[0].begun_s + self._budget_s if self._open else inf

    def late(self, now_s: float) -> list[Claim]:
        """The claims without an answer whose time is over."""
        late: list[Claim] = []
        while self.deadline_s() <= now_s:
            late.append(self._open.popleft())
        return late

    def fail(self, claim: Claim, now_s: float) -> None:
        """A claim had no answer in time: it is decided here. Claims that share a call count once."""
        breaker = self._breakers[claim.server]
        if claim.failures == breaker.failures:
            self._measured.outages += breaker.on_failure(claim.ticket, now_s, self._chance.random())
        self._decide(claim, now_s)

    def _decide(self, claim: Claim, now_s: float) -> None:
        self._measured.local += self._measured.is_warm(now_s)
        claim.wait_ms = self._local.charge(claim.subject, now_s)
        if claim.wait_ms:
            self._refused_until_s[claim.subject] = now_s + min(claim.wait_ms / 1000, MAX_REPEATED_S)
            return
        self._measured.admitted.note(claim.subject, now_s)
        decided = self._decided[claim.server]
        if len(decided) < MAX_DECIDED:
            decided[claim.subject] = None

    def answered(self, claims: Sequence[Claim], now_s: float) -> bool:
        """The server has decided these claims of one call. Returns whether to add local decisions there now."""
        self._answered += 1
        for claim in claims:
            self._breakers[claim.server].on_success(claim.ticket, self._answered)
            if claim.wait_ms:
                self._refused_until_s[claim.subject] = claim.begun_s + min(claim.wait_ms / 1000, MAX_REPEATED_S)
            else:
                self._measured.admitted.note(claim.subject, now_s)
        return bool(claims) and bool(self._decided[claims[0].server])

    def owed(self, server: int, now_s: float) -> list[tuple[int, int]]:
        """The debts that the next call adds to a server, in its units. They count as reported from now on."""
        decided, now_ms, owed = self._decided[server], int(now_s * 1000), []
        for _ in range(min(HEAL_BATCH, len(decided))):
            subject, _ = decided.popitem()
            debt = self._local.debt(subject, now_ms)
            known, at_ms = self._reported.get(subject, (0, now_ms))
            unreported = debt - max(0, known - self._share.drain * (now_ms - at_ms))
            if unreported > 0:
                self._reported[subject] = debt, now_ms
                owed.append((subject, min(self._whole.capacity, -(-unreported * self._whole.unit // self._share.unit))))
        return owed
