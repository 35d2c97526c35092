"""Observations for the audit's tests: single ones, and those of a whole schedule with known decision times."""

import heapq
from collections.abc import Sequence
from itertools import count
from typing import Any

from tests.strategies import ScheduledRequest

from awx_ratelimit import Budget, Concurrency, Decision, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.http import limit_headers
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.testing import ManualClock

PLAN = Plan("p", (Rate("rate", 10, 4_000),), Concurrency(3))
SECOND_US = 1_000_000
JSON = ("content-type", "application/json")
BODY = (
    '{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Rate limit exceeded. Retry after 2 seconds."}'
)
REFUSAL: dict[str, Any] = {"headers": (JSON, ("retry-after", "2")), "body": BODY}
#: Send times in seconds of ten requests that use the whole burst of PLAN.
BURST_S = [number / 2_000 for number in range(10)]
_START_MS = 1_750_000_000_123


def admitted(at_s: float, *, until_s: float = 0.0, **fields: Any) -> Observation:
    """A request that was admitted within a millisecond and stayed open until `until_s`."""
    sent_us = round(at_s * SECOND_US)
    end_us = max(round(until_s * SECOND_US), sent_us + 1_000)
    given = {"profile": "test", "key": 0, "outcome": Outcome.ADMITTED, "status": 200, "ended_us": end_us, **fields}
    return Observation(sent_us=sent_us, answered_us=sent_us + 1_000, alive_us=end_us, **given)


def refused(at_s: float, **fields: Any) -> Observation:
    """A request that was refused within a millisecond, with a wait of 2 s."""
    return admitted(at_s, outcome=Outcome.REFUSED, status=429, **{**REFUSAL, **fields})


def observations_of(
    schedule: Sequence[ScheduledRequest], plan: Plan, *, same_account: bool = False
) -> list[Observation]:
    """The observations of a gateway that uses this library's limiter and decides each request at its scheduled time."""
    clock = ManualClock(start_ms=_START_MS)
    limiter = Limiter(MemoryBackend(clock=clock))
    order, events, at_ms = count(), list[tuple[int, int, Any]](), _START_MS
    for one in schedule:
        at_ms += one.gap_ms
        heapq.heappush(events, (at_ms + one.deciding_ms, next(order), (one, at_ms)))
    observations = []
    while events:
        now_ms, _, event = heapq.heappop(events)
        clock.set(now_ms)
        if isinstance(event, Decision):
            limiter.release(event)
            continue
        one, sent_ms = event
        account = "acme" if same_account else f"account {one.key}"
        also = [Budget(account, plan.account, "account")] if plan.account else []
        decision = limiter.acquire(f"key {one.key}", plan, one.cost, also=also)
        if decision.allowed:
            end_ms = now_ms + one.answering_ms + one.hold_ms
            heapq.heappush(events, (end_ms + one.releasing_ms, next(order), decision))
        observations.append(_observation(one, sent_ms, now_ms + one.answering_ms, decision))
    return observations


def _observation(one: ScheduledRequest, sent_ms: int, answered_ms: int, decision: Decision) -> Observation:
    reply = limit_headers.refusal(decision) if not decision.allowed else None
    headers = reply.headers if reply else limit_headers.headers(decision)
    hold_ms = one.hold_ms if decision.allowed else 0
    return Observation(
        "test",
        one.key,
        sent_ms * 1_000,
        answered_ms * 1_000,
        answered_ms * 1_000 + hold_ms * 900,
        (answered_ms + hold_ms) * 1_000,
        Outcome.ADMITTED if decision.allowed else Outcome.REFUSED,
        reply.status if reply else 200,
        one.cost,
        one.hung_up and hold_ms > 0,
        tuple((name.decode(), value.decode()) for name, value in headers),
        reply.body.decode() if reply else "",
    )
