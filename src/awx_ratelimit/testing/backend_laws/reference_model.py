"""A reference model of the laws in `fractions.Fraction`: slow, simple, and independent of the core's integers.

Tests compare backends with it. It counts tokens instead of units of debt, evicts nothing, and models one subject.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate


class Expected(NamedTuple):
    """What a Decision must contain: allowed, the wait for the rates alone, and the state of the rates and slots."""

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
    """One subject: its debt in tokens for each limit name, and the number of its open leases."""

    debts: dict[str, _Debt] = field(default_factory=dict)
    leases: int = 0

    def acquire(self, plan: Plan, cost: int, now_ms: int) -> Expected:
        """Decide the claim and charge it if it is allowed."""
        debts, waits = self._debts_and_waits(plan, cost, now_ms)
        expected = self._expected(plan, debts, waits, now_ms)
        if not expected.allowed:
            return expected
        for rate, debt, wait_ms in zip(plan.rates, debts, waits, strict=True):
            if not wait_ms:
                debt.tokens += cost
            self.debts[rate.name] = debt
        self.leases += self._has_room(plan) and plan.concurrency is not None
        return self._expected(plan, debts, waits, now_ms)._replace(allowed=True, rate_wait_ms=0)

    def peek(self, plan: Plan, cost: int, now_ms: int) -> Expected:
        """What `acquire` would decide. The state changes only if the clock stepped back far."""
        return self._expected(plan, *self._debts_and_waits(plan, cost, now_ms), now_ms)

    def refund(self, plan: Plan, cost: int, exceeded: int, decided_at_ms: int, now_ms: int) -> None:
        """Law 12: return the tokens that have not refilled yet, to each rate that was charged (not in `exceeded`)."""
        for index, rate in enumerate(plan.rates):
            stored = self.debts.get(rate.name)
            if exceeded >> index & 1 or stored is None:
                continue
            elapsed_ms = max(0, now_ms - decided_at_ms)
            tokens = max(Fraction(0), cost - Fraction(rate.tokens * elapsed_ms, rate.period_ms))
            if rate.refill == "calendar":
                tokens = Fraction(cost) if now_ms // rate.period_ms <= decided_at_ms // rate.period_ms else Fraction(0)
            # Backends store whole units, so they round a refund down.
            stored.tokens = max(Fraction(0), stored.tokens - Fraction(floor(tokens * stored.unit), stored.unit))

    def _debts_and_waits(self, plan: Plan, cost: int, now_ms: int) -> tuple[list[_Debt], list[int]]:
        debts = [self._drained_debt(rate, now_ms) for rate in plan.rates]
        return debts, [self._wait_ms(rate, debt, cost, now_ms) for rate, debt in zip(plan.rates, debts, strict=True)]

    def _has_room(self, plan: Plan) -> bool:
        return plan.concurrency is None or self.leases < plan.concurrency.slots

    def _expected(self, plan: Plan, debts: list[_Debt], waits: list[int], now_ms: int) -> Expected:
        pairs = list(zip(plan.rates, debts, strict=True))
        enforced = [wait for rate, wait in zip(plan.rates, waits, strict=True) if not (rate.shadow or plan.shadow)]
        slots_matter = plan.concurrency is not None and not (plan.concurrency.shadow or plan.shadow)
        allowed = not any(enforced) and (self._has_room(plan) or not slots_matter)
        return Expected(
            allowed,
            max(enforced, default=0),
            tuple(floor(rate.burst - debt.tokens) for rate, debt in pairs),
            tuple(self._wait_ms(rate, debt, rate.burst, now_ms) for rate, debt in pairs),
            None if plan.concurrency is None else max(0, plan.concurrency.slots - self.leases),
        )

    def release(self) -> None:
        """Close one lease."""
        self.leases -= 1

    def reset(self) -> None:
        """Clear all debts."""
        self.debts.clear()

    def _drained_debt(self, rate: Rate, now_ms: int) -> _Debt:
        """Law 7, then laws 1 and 6: cut the debt to the burst, then drain it since the last charge."""
        stored = self.debts.get(rate.name)
        if stored is None:
            return _Debt(Fraction(0), now_ms, rate.unit)
        if stored.at_ms - now_ms > rate.period_ms:
            stored.at_ms = now_ms
        # Law 7 rounds a debt up to whole units of the rate. A debt that this rate charged is whole already.
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


def rate_bound_excess(admitted: list[tuple[int, int]], *, burst: int, tokens: int, period_ms: int) -> int:
    """Law 4: how far the admitted (time in ms, cost) pairs exceed the bound of a continuous rate in the worst interval.

    The result is in units of debt (tokens * period_ms). It is positive if the rate admitted too much.
    """
    worst, level, last_ms = -burst * period_ms, 0, admitted[0][0]
    for at_ms, cost in admitted:
        # Kadane's algorithm: the worst interval that ends here, less what the bound allows for its duration.
        level = max(0, level - tokens * (at_ms - last_ms)) + cost * period_ms
        worst, last_ms = max(worst, level - burst * period_ms), at_ms
    return worst
