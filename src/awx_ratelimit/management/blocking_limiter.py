"""`BlockingLimiter`: a limiter for blocking code. It calls an AsyncLimiter on its own event loop."""

from collections.abc import Callable, Sequence
from functools import partial

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.runtime.event_loops import call_in_event_loop

Acquire = Callable[[str, Plan], Decision]
Subjects = Sequence[tuple[str, Plan]]
#: Peeks per call into the event loop. A backend batches them, and other requests wait for no more than these.
_PEEK_BATCH = 50


class BlockingLimiter:
    """`acquire` and `peek_many` of a limiter. An AsyncLimiter works only in threads that an adapter has started."""

    def __init__(self, limiter: Limiter | AsyncLimiter) -> None:
        if not isinstance(limiter, Limiter | AsyncLimiter):
            raise TypeError(f"limiter: expected the gate's Limiter or AsyncLimiter, got {type_name(limiter)}")
        self.needs_loop = isinstance(limiter, AsyncLimiter)
        self.acquire: Acquire
        self.peek_many: Callable[[Subjects], list[Decision]]
        if isinstance(limiter, AsyncLimiter):
            self.acquire = partial(call_in_event_loop, limiter.acquire)
            self.peek_many = partial(_peek_many_in_event_loop, limiter)
        else:
            self.acquire = limiter.acquire
            self.peek_many = partial(_peek_many, limiter)


def _peek_many(limiter: Limiter, subjects: Subjects) -> list[Decision]:
    return [limiter.peek(subject, plan) for subject, plan in subjects]


def _peek_many_in_event_loop(limiter: AsyncLimiter, subjects: Subjects) -> list[Decision]:
    import asyncio  # here: apps without an event loop do not need it

    async def peek_batch(batch: Subjects) -> list[Decision]:
        return await asyncio.gather(*(limiter.peek(subject, plan) for subject, plan in batch))

    batches = (subjects[begin : begin + _PEEK_BATCH] for begin in range(0, len(subjects), _PEEK_BATCH))
    return [decision for batch in batches for decision in call_in_event_loop(peek_batch, batch)]
