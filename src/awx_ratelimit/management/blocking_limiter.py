"""`BlockingLimiter`: a limiter for blocking code. `live_usage`: how much of its plan each key has used.

An AsyncLimiter is called on its own event loop. Reading the usage only peeks, so it charges nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision, Usage
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.keys.models import Account, ApiKey
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.runtime.event_loops import call_in_event_loop

Subjects = Sequence[tuple[str, Plan]]
PeekMany = Callable[[Subjects], list[Decision]]
#: Peeks per call into the event loop. A backend batches them, and other requests wait for no more than these.
_PEEK_BATCH = 50


class BlockingLimiter:
    """`acquire` and `peek_many` of a limiter. An AsyncLimiter works only in threads that an adapter has started."""

    def __init__(self, limiter: Limiter | AsyncLimiter) -> None:
        if not isinstance(limiter, Limiter | AsyncLimiter):
            raise TypeError(f"limiter: expected the gate's Limiter or AsyncLimiter, got {type_name(limiter)}")
        self.needs_loop = isinstance(limiter, AsyncLimiter)
        self.acquire: Callable[[str, Plan], Decision]
        self.peek_many: PeekMany
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


class KeyUsage(NamedTuple):
    """A key, its plan, and the usage of each enforced limit. A key shares its usage with its predecessors."""

    key: ApiKey
    plan: Plan
    limits: tuple[Usage, ...]


def live_usage(account: Account, keys: Sequence[ApiKey], plans: PlanTable, peek_many: PeekMany) -> list[KeyUsage]:
    """Return the usage of `keys` of `account`, in order. `peek_many` is a method of `BlockingLimiter`.

    Raises InvalidLimit if the account's plan is not in the table, and BackendUnavailable.
    """
    families = dict.fromkeys(key.family_id for key in keys)
    subjects = [
        (family, plans.resolve(Caller(family, account.plan, account.id, account.overrides))) for family in families
    ]
    decisions = dict(zip(families, peek_many(subjects), strict=True))
    return [_key_usage(key, decisions[key.family_id]) for key in keys]


def _key_usage(key: ApiKey, decision: Decision) -> KeyUsage:
    return KeyUsage(key, decision.plan, tuple(usage for usage in decision.usages if not usage.shadow))
