"""A model of the laws in `fractions.Fraction`: slow, obvious, and written without the integers of the core.

It counts tokens, not units of debt, forgets nothing, and knows one subject at a time. Backends are compared with it.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate


class Answer(NamedTuple):
    """What a Decision must say: allowed, the wait for rates alone, and how each rate and the slots stand."""

    allowed: bool
    rate_wait_ms: int
    remaining: tuple[int, ...]
    reset_after_ms: tuple[int, ...]
    slots_free: int | None


@dataclass
class _Debt:
    tokens: Fraction
    at_ms: int
    unit: int


@dataclass
class Model:
    """One subject: its debts in tokens by the name of the limit, and its open leases."""

    debts: dict[str, _Debt] = field(default_factory=dict)
    leases: int = 0

    def acquire(self, plan: Plan, cost: int, now_ms: int) -> Answer:
        """Decide and charge as the laws say."""
        owed, waits = self._judged(plan, cost, now_ms)
        answer = self._answer(plan, owed, waits, now_ms)
        if not answer.allowed:
            return answer
        for rate, debt, wait_ms in zip(plan.rates, owed, waits, strict=True):
            if not wait_ms:
                debt.tokens += cost
            self.debts[rate.name] = debt
        self.leases += self._has_room(plan) and plan.concurrency is not None
        return self._answer(plan, owed, waits, now_ms)._replace(allowed=True, rate_wait_ms=0)

    def peek(self, plan: Plan, cost: int, now_ms: int) -> Answer:
        """What `acquire` would decide; nothing changes but a clock that was set back."""
        return self._answer(plan, *self._judged(plan, cost, now_ms), now_ms)

    def refund(self, plan: Plan, cost: int, over: int, decided_at_ms: int, now_ms: int) -> None:
        """Law 12: what time has not given back already, of each rate that was charged."""
        for index, rate in enumerate(plan.rates):
            stored = self.debts.get(rate.name)
            if over >> index & 1 or stored is None:
                continue
            elapsed_ms = max(0, now_ms - decided_at_ms)
            tokens = max(Fraction(0), cost - Fraction(rate.tokens * elapsed_ms, rate.period_ms))
            if rate.refill == "calendar":
                tokens = Fraction(cost) if now_ms // rate.period_ms <= decided_at_ms // rate.period_ms else Fraction(0)
            # In whole units of the state as it is now; what is not a whole one is not given.
            stored.tokens = max(Fraction(0), stored.tokens - Fraction(floor(tokens * stored.unit), stored.unit))

    def _judged(self, plan: Plan, cost: int, now_ms: int) -> tuple[list[_Debt], list[int]]:
        owed = [self._owed(rate, now_ms) for rate in plan.rates]
        return owed, [self._wait_ms(rate, debt, cost, now_ms) for rate, debt in zip(plan.rates, owed, strict=True)]

    def _has_room(self, plan: Plan) -> bool:
        return plan.concurrency is None or self.leases < plan.concurrency.slots

    def _answer(self, plan: Plan, owed: list[_Debt], waits: list[int], now_ms: int) -> Answer:
        pairs = list(zip(plan.rates, owed, strict=True))
        enforced = [wait for rate, wait in zip(plan.rates, waits, strict=True) if not (rate.shadow or plan.shadow)]
        slots_matter = plan.concurrency is not None and not (plan.concurrency.shadow or plan.shadow)
        allowed = not any(enforced) and (self._has_room(plan) or not slots_matter)
        return Answer(
            allowed,
            max(enforced, default=0),
            tuple(floor(rate.burst - debt.tokens) for rate, debt in pairs),
            tuple(self._wait_ms(rate, debt, rate.burst, now_ms) for rate, debt in pairs),
            None if plan.concurrency is None else max(0, plan.concurrency.slots - self.leases),
        )

    def release(self) -> None:
        """One lease less."""
        self.leases -= 1

    def reset(self) -> None:
        """No debts."""
        self.debts.clear()

    def _owed(self, rate: Rate, now_ms: int) -> _Debt:
        """Law 7, then laws 1 and 6: clamp, and only then drain from the time of the last charge."""
        stored = self.debts.get(rate.name)
        if stored is None:
            return _Debt(Fraction(0), now_ms, rate.unit)
        if stored.at_ms - now_ms > rate.period_ms:
            stored.at_ms = now_ms
        # Law 7 counts in whole units of the rate, rounded up; for a debt that this rate made, nothing changes.
        tokens = min(Fraction(ceil(stored.tokens * rate.unit), rate.unit), Fraction(rate.burst))
        elapsed_ms = max(0, now_ms - stored.at_ms)
        if rate.refill == "calendar":
            boundary = (stored.at_ms // rate.period_ms + 1) * rate.period_ms
            tokens = Fraction(0) if now_ms >= boundary else tokens
        else:
            tokens = max(Fraction(0), tokens - Fraction(rate.tokens * elapsed_ms, rate.period_ms))
        return _Debt(tokens, max(stored.at_ms, now_ms) if tokens else now_ms, rate.unit)

    @staticmethod
    def _wait_ms(rate: Rate, debt: _Debt, cost: int, now_ms: int) -> int:
        excess = debt.tokens + cost - rate.burst
        if excess <= 0:
            return 0
        if rate.refill == "calendar":
            return (debt.at_ms // rate.period_ms + 1) * rate.period_ms - now_ms
        return ceil(excess * rate.period_ms / rate.tokens) + debt.at_ms - now_ms
