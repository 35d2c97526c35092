"""Decides in an event loop with backends that never block it, without coroutines."""

from collections.abc import Awaitable, Callable

from awx_ratelimit.backends.base import NonBlocking
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter


def claim_of(limiter: AsyncLimiter) -> Callable[[str, Plan, int], Decision | Awaitable[Decision]]:
    """`limiter.claim`, or a synchronous one without its two coroutines if the backend never blocks."""
    backend = limiter.backend
    if isinstance(backend, NonBlocking):
        synchronous = Limiter(backend.backend, listeners=limiter.listeners)
        synchronous.shadow = limiter.shadow
        return synchronous.claim
    return limiter.claim
