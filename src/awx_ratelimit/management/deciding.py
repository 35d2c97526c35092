"""A limiter for functions that block: a synchronous one as it is, an async one asked on its own event loop."""

from collections.abc import Callable
from functools import partial

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.limiter import AsyncLimiter, Limiter
from awx_ratelimit.threads import on_the_loop

Ask = Callable[[str, Plan], Decision]


class Deciding:
    """`acquire` and `peek` of a limiter. An async one can be asked only from a thread of its loop's `Threads`."""

    def __init__(self, limiter: Limiter | AsyncLimiter) -> None:
        self.needs_loop = isinstance(limiter, AsyncLimiter)
        self.acquire: Ask
        self.peek: Ask
        if isinstance(limiter, AsyncLimiter):
            self.acquire, self.peek = partial(on_the_loop, limiter.acquire), partial(on_the_loop, limiter.peek)
        else:
            self.acquire, self.peek = limiter.acquire, limiter.peek
