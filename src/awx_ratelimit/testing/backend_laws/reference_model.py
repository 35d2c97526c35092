"""A reference model of the laws in `fractions.Fraction`: slow, simple, and independent of the core's integers.

It counts tokens instead of units of debt, evicts nothing, and models one subject. A `Schedule` of random claims is
played to a backend and to the model at once.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from random import Random
from typing import NamedTuple

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, Concurrency, Rate
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock

#: Longer than any schedule, because the model does not expire leases.
_TTL_MS = 2_000_000_000
#: Plans whose limits have the same names and differ in everything else.
PLANS = (
    Plan("starter", (Rate("minute", 60, 60_000), Rate("day", 10_000, 86_400_000)), Concurrency(5, _TTL_MS)),
    Plan("growth", (Rate("minute", 300, 60_000), Rate("day", 100_000, 86_400_000)), Concurrency(25, _TTL_MS)),
    Plan("odd", (Rate("minute", 7, 60_000), Rate("second", 3, 1_000, burst=2)), Concurrency(2, _TTL_MS)),
    Plan("tight", (Rate("minute", 50, 60_000, burst=10),)),
    Plan("other-period", (Rate("minute", 13, 47_000), Rate("day", 40, 3_600_000, burst=11))),
    Plan("calendar", (Rate("minute", 9, 60_000, refill="calendar"), Rate("second", 4, 1_000)), Concurrency(1, _TTL_MS)),
    Plan(
        "month", (Rate("day", 60, period="month", anchor_day=31, timezone="Europe/Berlin"), Rate("minute", 9, 60_000))
    ),
    Plan("slots", (), Concurrency(3, _TTL_MS)),
    Plan(
        "shadowed",
        (Rate("minute", 20, 60_000, shadow=True), Rate("day", 50, 3_600_000)),
        Concurrency(2, _TTL_MS, shadow=True),
    ),
    Plan("shadow", (Rate("minute", 5, 30_000), Rate("second", 1, 1_000)), Concurrency(1, _TTL_MS), shadow=True),
)
_STEPS_MS = (0, 1, 1, 7, 333, 1_000, 8_571, 20_000, 60_000, 61_000, -1, -500, -30_000, -61_000)


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
    burst: int


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
                tokens = Fraction(cost) if now_ms < _boundary_ms(rate, decided_at_ms) else Fraction(0)
            # Backends store whole units, so they round a refund down.
            stored.tokens = max(Fraction(0), stored.tokens - Fraction(floor(tokens * stored.unit), stored.unit))

    def _debts_and_waits(self, plan: Plan, cost: int, now_ms: int) -> tuple[list[_Debt], list[int]]:
        debts = [self.drained_debt(rate, now_ms) for rate in plan.rates]
        return debts, [self.wait_ms(rate, debt, cost, now_ms) for rate, debt in zip(plan.rates, debts, strict=True)]

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
            tuple(max(0, floor(rate.burst - debt.tokens)) for rate, debt in pairs),
            tuple(self.wait_ms(rate, debt, rate.burst, now_ms) for rate, debt in pairs),
            None if plan.concurrency is None else max(0, plan.concurrency.slots - self.leases),
        )

    def release(self) -> None:
        """Close one lease."""
        self.leases -= 1

    def reset(self) -> None:
        """Clear all debts."""
        self.debts.clear()

    def drained_debt(self, rate: Rate, now_ms: int) -> _Debt:
        """Law 7, then laws 1 and 6: cut the debt to the burst, then drain it since the last charge."""
        stored = self.debts.get(rate.name)
        if stored is None:
            return _Debt(Fraction(0), now_ms, rate.unit, rate.burst)
        if stored.at_ms - now_ms > _period_ms(rate, stored.at_ms):
            stored.at_ms = now_ms
        tokens = stored.tokens
        if (stored.unit, stored.burst) != (rate.unit, rate.burst):
            # Law 7: the debt is rounded up to whole units of the rate, and cut to the burst.
            tokens = min(Fraction(ceil(tokens * rate.unit), rate.unit), Fraction(rate.burst))
        elapsed_ms = max(0, now_ms - stored.at_ms)
        if rate.refill == "calendar":
            tokens = Fraction(0) if now_ms >= _boundary_ms(rate, stored.at_ms) else tokens
        else:
            tokens = max(Fraction(0), tokens - Fraction(rate.tokens * elapsed_ms, rate.period_ms))
        return _Debt(tokens, max(stored.at_ms, now_ms) if tokens else now_ms, rate.unit, rate.burst)

    @staticmethod
    def wait_ms(rate: Rate, debt: _Debt, cost: int, now_ms: int) -> int:
        excess = debt.tokens + cost - rate.burst
        if excess <= 0:
            return 0
        if rate.refill == "calendar":
            return _boundary_ms(rate, debt.at_ms) - now_ms
        return ceil(excess * rate.period_ms / rate.tokens) + debt.at_ms - now_ms


def _boundary_ms(rate: Rate, at_ms: int) -> int:
    """The end of the period of a calendar rate that contains an instant."""
    if rate.period is None:
        return (at_ms // rate.period_ms + 1) * rate.period_ms
    return rate.periods.bounds(at_ms)[1]


def _period_ms(rate: Rate, at_ms: int) -> int:
    if rate.period is None:
        return rate.period_ms
    start_ms, end_ms = rate.periods.bounds(at_ms)
    return end_ms - start_ms


class Schedule:
    """The claims of one subject, played to a limiter and to the model."""

    def __init__(self, limiter: AsyncLimiter, clock: ManualClock, seed: int) -> None:
        self._limiter = limiter
        self._clock = clock
        self._random = Random(seed)
        self._model = Model()
        self._open: list[Decision] = []
        self._charged: list[Decision] = []
        self.subject = f"subject-{seed}"
        self.refusals = 0

    async def play(self, steps: int) -> None:
        """Play `steps` random steps. Raises AssertionError at the first difference from the model."""
        for step in range(steps):
            await self._random.choices(
                (self._acquire, self._pass_time, self._release, self._refund, self._peek, self._reset),
                weights=(60, 25, 10, 4, 5, 0.3),
            )[0](step)

    async def _acquire(self, step: int) -> None:
        plan, cost = self._draw_claim()
        expected = self._model.acquire(plan, cost, self._clock.now_ms())

        decision = await self._limiter.acquire(self.subject, plan, cost)

        self._compare(step, decision, expected)
        self.refusals += not decision.allowed
        if decision.lease is not None:
            self._open.append(decision)
        if decision.allowed:
            self._charged = [*self._charged[-20:], decision]

    async def _peek(self, step: int) -> None:
        plan, cost = self._draw_claim()
        expected = self._model.peek(plan, cost, self._clock.now_ms())

        self._compare(step, await self._limiter.peek(self.subject, plan, cost), expected)

    async def _pass_time(self, _: int) -> None:
        self._clock.advance(self._random.choice(_STEPS_MS))

    async def _release(self, _: int) -> None:
        if self._open:
            decision = self._open.pop(self._random.randrange(len(self._open)))
            for _twice in range(self._random.choice((1, 1, 2))):
                await self._limiter.release(decision)
            self._model.release()

    async def _refund(self, _: int) -> None:
        if self._charged:
            decision = self._charged.pop(self._random.randrange(len(self._charged)))
            for _twice in range(self._random.choice((1, 2))):
                await self._limiter.refund(decision)
            given = (decision.plan, decision.cost, decision.exceeded, decision.decided_at_ms)
            self._model.refund(*given, self._clock.now_ms())

    async def _reset(self, _: int) -> None:
        await self._limiter.reset(self.subject)
        self._model.reset()

    def _draw_claim(self) -> tuple[Plan, int]:
        plan = self._random.choice(PLANS)
        max_cost = min((rate.burst for rate in plan.rates if plan.max_cost >= rate.burst), default=1)
        return plan, self._random.choice((1, 1, 1, 2, max_cost // 2 or 1, max_cost))

    def _compare(self, step: int, decision: Decision, expected: Expected) -> None:
        actual, where = as_expected(decision), f"{self.subject}, step {step}, plan {decision.plan.name}"
        assert actual == expected, f"{where}: expected {expected}, got {actual}"


def as_expected(decision: Decision) -> Expected:
    """The fields of `decision` that the model predicts."""
    rates = [usage for usage in decision.usages if usage.limit != CONCURRENT]
    slots = [usage.remaining for usage in decision.usages if usage.limit == CONCURRENT]
    return Expected(
        decision.allowed,
        max((usage.retry_after_ms for usage in rates if not usage.shadow), default=0),
        tuple(usage.remaining for usage in rates),
        tuple(usage.reset_after_ms for usage in rates),
        slots[0] if slots else None,
    )
