"""A limiter for functions that block: a synchronous one as it is, an async one asked on its own event loop."""

from collections.abc import Callable, Sequence
from functools import partial

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.runtime.event_loops import call_in_event_loop

Ask = Callable[[str, Plan], Decision]
Asks = Sequence[tuple[str, Plan]]
#: Peeks for one visit to the loop: no request waits for more of them, and a server is asked for all at once.
_AT_ONCE = 50


class BlockingLimiter:
    """`acquire` and `peek` of a limiter. An async one can be asked only from a thread of its loop's `Threads`."""

    def __init__(self, limiter: Limiter | AsyncLimiter) -> None:
        if not isinstance(limiter, Limiter | AsyncLimiter):
            raise TypeError(f"limiter is {type_name(limiter)}; use the Limiter or the AsyncLimiter that the gate has")
        self.needs_loop = isinstance(limiter, AsyncLimiter)
        self.acquire: Ask
        self.peek_many: Callable[[Asks], list[Decision]]
        if isinstance(limiter, AsyncLimiter):
            self.acquire, self.peek_many = (
                partial(call_in_event_loop, limiter.acquire),
                partial(_peeks_on_the_loop, limiter),
            )
        else:
            self.acquire, self.peek_many = limiter.acquire, partial(_peeks, limiter)


def _peeks(limiter: Limiter, asks: Asks) -> list[Decision]:
    return [limiter.peek(subject, plan) for subject, plan in asks]


def _peeks_on_the_loop(limiter: AsyncLimiter, asks: Asks) -> list[Decision]:
    # On first use: whoever has no event loop needs it not.
    import asyncio

    async def some(asks: Asks) -> list[Decision]:
        return await asyncio.gather(*(limiter.peek(subject, plan) for subject, plan in asks))

    parts = (asks[begin : begin + _AT_ONCE] for begin in range(0, len(asks), _AT_ONCE))
    return [decision for part in parts for decision in call_in_event_loop(some, part)]
