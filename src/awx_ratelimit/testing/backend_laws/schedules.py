"""Random schedules of claims, played to a backend and to the reference model at once.

A schedule changes plans, lets time pass, steps the clock back, releases, refunds and resets. Its seed determines it.
"""

from random import Random

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, Concurrency, Rate
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing.backend_laws.reference_model import Expected, Model
from awx_ratelimit.testing.clock import ManualClock

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
    Plan("slots", (), Concurrency(3, _TTL_MS)),
    Plan(
        "shadowed",
        (Rate("minute", 20, 60_000, shadow=True), Rate("day", 50, 3_600_000)),
        Concurrency(2, _TTL_MS, shadow=True),
    ),
    Plan("shadow", (Rate("minute", 5, 30_000), Rate("second", 1, 1_000)), Concurrency(1, _TTL_MS), shadow=True),
)
_STEPS_MS = (0, 1, 1, 7, 333, 1_000, 8_571, 20_000, 60_000, 61_000, -1, -500, -30_000, -61_000)


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
        actual = as_expected(decision)
        where = f"{self.subject}, step {step}, plan {decision.plan.name}"
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
