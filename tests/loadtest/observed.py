"""A gateway in a test's own time: what a client of it would have seen of a schedule."""

import heapq
from collections.abc import Sequence
from itertools import count
from typing import Any

from tests.strategies import Asked

from awx_ratelimit import Decision, Limiter, MemoryBackend, Plan
from awx_ratelimit.http import limit_headers
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.testing import ManualClock

START_MS = 1_750_000_000_123


def observed(schedule: Sequence[Asked], plan: Plan) -> list[Observation]:
    """What is seen of a gateway that decides by this library's limiter, each time at a moment of its own."""
    clock = ManualClock(start_ms=START_MS)
    limiter = Limiter(MemoryBackend(clock=clock))
    order, events, at_ms = count(), list[tuple[int, int, Any]](), START_MS
    for one in schedule:
        at_ms += one.gap_ms
        heapq.heappush(events, (at_ms + one.deciding_ms, next(order), (one, at_ms)))
    seen = []
    while events:
        now_ms, _, event = heapq.heappop(events)
        clock.set(now_ms)
        if isinstance(event, Decision):
            limiter.release(event)
            continue
        one, sent_ms = event
        decision = limiter.acquire(f"key {one.key}", plan, one.cost)
        if decision.allowed:
            end_ms = now_ms + one.answering_ms + one.hold_ms
            heapq.heappush(events, (end_ms + one.releasing_ms, next(order), decision))
        seen.append(_observation(one, sent_ms, now_ms + one.answering_ms, decision))
    return seen


def _observation(one: Asked, sent_ms: int, answered_ms: int, decision: Decision) -> Observation:
    reply = limit_headers.refusal(decision) if not decision.allowed else None
    lines = reply.headers if reply else limit_headers.headers(decision)
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
        tuple((name.decode(), value.decode()) for name, value in lines),
        reply.body.decode() if reply else "",
    )
