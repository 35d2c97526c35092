"""A cache of denials around a backend: it answers a flood of refused claims without a call.

For up to a second after a refusal, this process does not see what another process gives back to the subject by a reset,
a refund or another plan.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar, NamedTuple

from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.backends.resilience.wrapper import AsyncWrapper
from awx_ratelimit.backends.validation import checked_async_backend
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decide import preview
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan

_MAX_AGE_MS = 1_000
_MAX_ENTRIES = 10_000
_NS_IN_MS = 1_000_000


class AsyncDenialCacheBackend(AsyncWrapper):
    """Caches up to 10,000 denials of `backend`, for the tasks of event loops."""

    checks_claims: ClassVar[bool] = True

    def __init__(self, backend: AsyncBackend | Backend) -> None:
        self.backend = checked_async_backend(backend, "AsyncDenialCacheBackend")
        self._denials = DenialCache(time.monotonic_ns)

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        subject, plan, cost = checked_claim(subject, plan, cost)
        denial = self._denials.get(subject, plan, cost)
        if denial is not None:
            return denial
        sent_ns = self._denials.now_ns()
        decision: Decision = await self.backend.acquire(subject, plan, cost)
        self._denials.update(decision, sent_ns)
        return decision

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend. Always asks the backend."""
        decision: Decision = await self.backend.peek(subject, plan, cost)
        return decision

    async def refund(self, decision: Decision) -> None:
        self._denials.remove(decision.subject)
        await self.backend.refund(decision)
        self._denials.remove(decision.subject)

    async def reset(self, subject: str) -> None:
        subject = checked_subject(subject)
        self._denials.remove(subject)
        await self.backend.reset(subject)
        self._denials.remove(subject)


class _Entry(NamedTuple):
    decision: Decision
    answered_ns: int
    until_ns: int


class DenialCache:
    """The latest denial of each subject. Any thread may use it: every step is one step of a dict.

    Later claims are computed from the denial with the arithmetic of the core. A denial is used for at most a second,
    because other processes reset, refund and upgrade. A denial by slots alone is not cached: a slot may be free at any
    moment. `now_ns` is a monotonic clock.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def get(self, subject: str, plan: Plan, cost: int) -> Decision | None:
        """A denial of this claim, if one of the same plan object and at most the same cost is cached."""
        entry = self._entries.get(subject)
        if entry is None:
            return None
        decision, answered_ns, until_ns = entry
        now_ns = self.now_ns()
        if now_ns >= until_ns:
            self._entries.pop(subject, None)
            return None
        if decision.plan is not plan or cost < decision.cost:
            return None
        now_ms = decision.decided_at_ms + (now_ns - answered_ns) // _NS_IN_MS
        exceeded, levels = preview(plan, decision.levels, decision.held, cost, now_ms)
        if not exceeded & _enforced_rates(plan):
            return None
        return Decision(subject, plan, cost, now_ms, exceeded, levels, decision.held, 0, None, decision.slot_wait_ms)

    def update(self, decision: Decision, sent_ns: int) -> None:
        """Cache `decision` if it is a denial by rates. Its claim was sent at `sent_ns`."""
        if not decision.exceeded & _enforced_rates(decision.plan):
            # It was charged, so the wait of an older denial is too short.
            self._entries.pop(decision.subject, None)
            return
        max_age_ms = min(decision.retry_after_ms, _MAX_AGE_MS)
        while len(self._entries) >= _MAX_ENTRIES:
            # The oldest entries expire first.
            with suppress(KeyError):  # another thread may remove it at the same time
                self._entries.popitem(last=False)
        self._entries[decision.subject] = _Entry(decision, self.now_ns(), sent_ns + max_age_ms * _NS_IN_MS)

    def remove(self, subject: str) -> None:
        """Forget the denial of `subject`: this process changes its state."""
        self._entries.pop(subject, None)


def _enforced_rates(plan: Plan) -> int:
    """The bits of the rates that can refuse."""
    return plan.enforced & ~plan.slot_bit
