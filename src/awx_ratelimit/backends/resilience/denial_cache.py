"""A cache of denials around a backend: it answers a flood of refused claims without a call.

For up to a second after a refusal, this process does not see what another process gives back to the subject by a reset,
a refund or another plan, nor what claims of other budgets have used of those that did not refuse.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import ClassVar, NamedTuple, TypeAlias

from awx_ratelimit.backends.base import AsyncBackend, Backend, SettlesSoon
from awx_ratelimit.backends.resilience.wrapper import AsyncWrapper
from awx_ratelimit.backends.validation import checked_async_backend
from awx_ratelimit.core.budget import Record, subject_of
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decide import decide_by_rate, preview, uncharge
from awx_ratelimit.core.decision import Decision, JointDecision, joint_decision
from awx_ratelimit.core.joint_claim import Charge, JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import NOTHING, ActualCost, charges
from awx_ratelimit.core.usage import RecordState
from awx_ratelimit.errors import BackendUnavailable

_MAX_AGE_MS = 1_000
_MAX_ENTRIES = 10_000
_NS_IN_MS = 1_000_000
#: The subject of a plain claim, or the records of a JointClaim.
_Key: TypeAlias = str | tuple[Record, ...]


class AsyncDenialCacheBackend(AsyncWrapper):
    """Caches up to 10,000 denials of `backend`, for the tasks of event loops.

    A denial answers only claims of the same plan and at least the same cost. A denial of several budgets answers only
    claims of exactly these budgets at the same cost.
    """

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

    async def acquire_joint(self, claim: JointClaim) -> Decision:
        denial = self._denials.get_joint(claim)
        if denial is not None:
            return denial
        sent_ns = self._denials.now_ns()
        decision: Decision = await self.backend.acquire_joint(claim)
        self._denials.update(decision, sent_ns)
        return decision

    async def peek_joint(self, claim: JointClaim) -> Decision:
        """See Backend. Always asks the backend."""
        decision: Decision = await self.backend.peek_joint(claim)
        return decision

    async def refund(self, decision: Decision) -> bool:
        return await self.settle(decision, NOTHING)

    async def settle(self, decision: Decision, actual: ActualCost) -> bool:
        self._denials.remove_charged(decision)
        is_first: bool = await self.backend.settle(decision, actual)
        self._denials.remove_charged(decision)
        return is_first

    def settle_soon(
        self, decision: Decision, actual: ActualCost, failed: Callable[[BackendUnavailable], None]
    ) -> bool | None:
        """See SettlesSoon."""
        self._denials.remove_charged(decision)
        return self.backend.settle_soon(decision, actual, failed) if isinstance(self.backend, SettlesSoon) else None

    async def reset(self, subject: str, scope: str | None = None) -> bool:
        subject = checked_subject(subject)
        self._denials.remove_subject(subject)
        found: bool = await self.backend.reset(subject, scope)
        self._denials.remove_subject(subject)
        return found


class _Entry(NamedTuple):
    decision: Decision
    answered_ns: int
    until_ns: int
    #: The records of which a rate refused.
    refused_by: list[Record]


class DenialCache:
    """The latest denial of each subject, and of each combination of records. Any thread may use it.

    Every step is one step of a dict. A denial that is stored while another thread charges its record may stay; it is
    used for at most a second all the same, because other processes reset, refund and upgrade.

    Later claims are computed from the denial with the arithmetic of the core. A denial by slots alone is not cached: a
    slot may be free at any moment. `now_ns` is a monotonic clock.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        #: The entries that each record has refused.
        self._keys: dict[Record, dict[_Key, None]] = {}

    def get(self, subject: str, plan: Plan, cost: int) -> Decision | None:
        """A denial of this claim, if one of the same plan object and at most the same cost is cached."""
        entry = self._fresh(subject)
        if entry is None or entry.decision.plan is not plan or cost < entry.decision.cost:
            return None
        decision, now_ms = entry.decision, self._now_ms(entry)
        exceeded, levels = preview(plan, decision.levels, decision.held, cost, now_ms)
        if not exceeded & _enforced_rates(plan):
            return None
        return Decision(subject, plan, cost, now_ms, exceeded, levels, decision.held, 0, None, decision.slot_wait_ms)

    def get_joint(self, claim: JointClaim) -> Decision | None:
        """A denial of this claim, if one of the same records, plans, scopes and cost is cached."""
        entry = self._fresh(claim.records)
        if entry is None or not isinstance(entry.decision, JointDecision):
            return None
        decision, now_ms = entry.decision, self._now_ms(entry)
        shape = decision.joint_claim.shape
        if shape is not claim.shape and shape != claim.shape:
            return None
        pairs = zip(shape.charges, decision.states, strict=True)
        states = [_later(charge, state, now_ms) for charge, state in pairs]
        return joint_decision(claim, now_ms, states, 0, None) if _refused_by(claim, states) else None

    def _fresh(self, key: _Key) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and self.now_ns() >= entry.until_ns:
            self._drop(key)
            return None
        return entry

    def _now_ms(self, entry: _Entry) -> int:
        return entry.decision.decided_at_ms + (self.now_ns() - entry.answered_ns) // _NS_IN_MS

    def update(self, decision: Decision, sent_ns: int) -> None:
        """Cache `decision` if it is a denial by rates. Its claim was sent at `sent_ns`."""
        key: _Key
        if isinstance(decision, JointDecision):
            key, refused_by = decision.joint_claim.records, _refused_by(decision.joint_claim, decision.states)
        else:
            key = decision.subject
            refused_by = [key] if decision.exceeded & _enforced_rates(decision.plan) else []
        self._drop(key)
        if not refused_by:
            # If it was charged, the waits of older denials are too short.
            self.remove_charged(decision)
            return
        while len(self._entries) >= _MAX_ENTRIES:
            # The oldest entries expire first.
            with suppress(StopIteration, RuntimeError):  # another thread may change it at the same time
                self._drop(next(iter(self._entries)))
        max_age_ms = min(decision.retry_after_ms, _MAX_AGE_MS)
        for record in refused_by:
            self._keys.setdefault(record, {})[key] = None
        self._entries[key] = _Entry(decision, self.now_ns(), sent_ns + max_age_ms * _NS_IN_MS, refused_by)

    def remove_charged(self, decision: Decision) -> None:
        """Forget the denials by what `decision` has charged: this process changes it."""
        if decision.allowed:
            for record, _, _ in charges(decision):
                self._remove(record)

    def remove_subject(self, subject: str) -> None:
        """Forget the denials by `subject` in all its scopes: this process changes its state."""
        for record in self._keys.copy():
            if subject_of(record) == subject:
                self._remove(record)

    def _remove(self, record: Record) -> None:
        for key in self._keys.pop(record, ()):
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        for record in entry.refused_by if entry is not None else ():
            keys = self._keys.get(record, {})
            keys.pop(key, None)
            if not keys:
                self._keys.pop(record, None)


def _enforced_rates(plan: Plan) -> int:
    """The bits of the rates that can refuse."""
    return plan.enforced & ~plan.slot_bit


def _refused_by(claim: JointClaim, states: Iterable[RecordState]) -> list[Record]:
    """The records of which a rate refused."""
    parts = zip(claim.records, claim.shape.charges, states, strict=True)
    return [record for record, charge, state in parts if state[0] & _enforced_rates(charge.plan)]


def _later(charge: Charge, state: RecordState, now_ms: int) -> RecordState:
    """What a refused claim would find later in a record."""
    _, before, held, slot_wait_ms = state
    if charge.costs is None:
        exceeded, levels = preview(charge.plan, before, held, charge.cost, now_ms)
    else:
        exceeded, levels = decide_by_rate(charge.plan, before, held, charge.costs, now_ms)
        if not exceeded & charge.plan.enforced:
            uncharge(charge, levels, exceeded)
    return exceeded, levels, held, slot_wait_ms
