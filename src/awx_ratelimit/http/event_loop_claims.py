"""Decides in an event loop with backends that never block it, without coroutines."""

from awx_ratelimit.backends.base import NonBlocking
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter


def claiming_limiter(limiter: AsyncLimiter) -> AsyncLimiter | Limiter:
    """`limiter`, or a synchronous one without its two coroutines if the backend never blocks."""
    backend = limiter.backend
    if not isinstance(backend, NonBlocking):
        return limiter
    synchronous = Limiter(backend.backend, listeners=limiter.listeners)
    synchronous.shadow = limiter.shadow
    return synchronous
