"""Decides with as few calls as possible: in an event loop without coroutines if the backend never blocks it."""

from typing import Any

from awx_ratelimit.backends.base import NonBlocking, checks_claims
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


def acquire_of(limiter: Any) -> Any:
    """`limiter.claim`, or the backend's own `acquire` if the limiter adds nothing to claims of cost 1.

    It adds to them if it has listeners, checks claims for its backend, or is of your own kind. Plans with limits in
    shadow always need `claim`.
    """
    adds_nothing = type(limiter) in (AsyncLimiter, Limiter) and not limiter.listeners and checks_claims(limiter.backend)
    return limiter.backend.acquire if adds_nothing else limiter.claim
