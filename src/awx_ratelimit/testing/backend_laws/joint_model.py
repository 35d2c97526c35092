"""The reference model of joint claims: the models of several records, decided together. See `reference_model`.

`JointSchedule` plays random claims of several budgets, scopes and measures to a backend and to the model.
`SettledBucket` recomputes a bucket from its whole history each time, as if every claim had cost from the start what it
was settled at.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from math import floor
from random import Random
from typing import Any

from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.reference_model import PLANS, Model

_TTL_MS = 2_000_000_000
_TOKENS = Plan(
    "tokens",
    (
        Rate("minute", 20, 60_000),
        Rate("tokens", 1_000, 60_000, burst=700, measure="tokens"),
        Rate("day", 5_000, 86_400_000, refill="calendar", measure="tokens"),
    ),
    Concurrency(3, _TTL_MS),
)
_OTHER_TOKENS = Plan("other tokens", (Rate("tokens", 90, 1_000, measure="tokens"), Rate("minute", 7, 60_000)))
_ALL_PLANS = (*PLANS, _TOKENS, _OTHER_TOKENS)
_SCOPES = (None, "account", "login", "service")
_STEPS_MS = (0, 1, 7, 333, 1_000, 8_571, 20_000, 61_000, -1, -500, -30_000, -61_000)

#: What a Usage must contain: limit, remaining, the time until it is full, and whether it refused.
ExpectedUsage = tuple[str, int, int, bool]


@dataclass
class JointModel:
    """The records of a backend, by subject and scope."""

    records: dict[tuple[str, str | None], Model] = field(default_factory=dict)

    def decide(
        self, budgets: list[Budget], cost: int | Mapping[str, int], now_ms: int, *, charges: bool = True
    ) -> tuple[bool, list[ExpectedUsage]]:
        """Whether a claim is allowed, and the usages after it. It is charged if it is allowed and `charges`."""
        parts = [_Part(self._record(budget), budget, cost, now_ms) for budget in budgets]
        allowed = not any(part.refuses for part in parts)
        if allowed and charges:
            for part in parts:
                part.charge()
        return allowed, [usage for part in parts for usage in part.usages()]

    def release(self, budgets: list[Budget], taken: list[bool]) -> None:
        """Free the slots that a claim took."""
        for budget, had in zip(budgets, taken, strict=True):
            self._record(budget).leases -= had

    def reset(self, subject: str, scope: str | None) -> None:
        """Clear the debts of a subject, in one scope or in all."""
        for (owner, its), record in self.records.items():
            if owner == subject and scope in (None, its):
                record.reset()

    def _record(self, budget: Budget) -> Model:
        return self.records.setdefault((budget.subject, budget.scope), Model())


class _Part:
    """One budget of one claim."""

    def __init__(self, model: Model, budget: Budget, cost: int | Mapping[str, int], now_ms: int) -> None:
        self._model, self._budget, self._now_ms = model, budget, now_ms
        plan, by_measure = budget.plan, {"requests": cost} if isinstance(cost, int) else cost
        self._tokens = [by_measure.get(rate.measure, 0) for rate in plan.rates]
        self._debts = [
            # A rate that is not named is not rebased either.
            (model if tokens else Model({name: copy(debt) for name, debt in model.debts.items()})).drained_debt(
                rate, now_ms
            )
            for rate, tokens in zip(plan.rates, self._tokens, strict=True)
        ]
        self._waits = [
            model.wait_ms(rate, debt, tokens, now_ms) if tokens else 0
            for rate, debt, tokens in zip(plan.rates, self._debts, self._tokens, strict=True)
        ]
        self._has_room = plan.concurrency is None or model.leases < plan.concurrency.slots
        slots_count = plan.concurrency is not None and not (plan.concurrency.shadow or plan.shadow)
        enforced = [
            wait for rate, wait in zip(plan.rates, self._waits, strict=True) if not (rate.shadow or plan.shadow)
        ]
        self.refuses = any(enforced) or (slots_count and not self._has_room)

    def charge(self) -> None:
        plan = self._budget.plan
        for rate, debt, tokens, wait in zip(plan.rates, self._debts, self._tokens, self._waits, strict=True):
            if tokens:
                debt.tokens += 0 if wait else tokens
                self._model.debts[rate.name] = debt
        self._model.leases += plan.concurrency is not None and self._has_room

    def usages(self) -> list[ExpectedUsage]:
        plan, prefix = self._budget.plan, f"{self._budget.scope}." if self._budget.scope else ""
        found = [
            (
                prefix + rate.name,
                max(0, floor(rate.burst - debt.tokens)),
                self._model.wait_ms(rate, debt, rate.burst, self._now_ms),
                bool(wait),
            )
            for rate, debt, wait in zip(plan.rates, self._debts, self._waits, strict=True)
        ]
        if plan.concurrency is not None:
            free = max(0, plan.concurrency.slots - self._model.leases)
            found.append((f"{prefix}concurrent", free, 0, not self._has_room))
        return found


class JointSchedule:
    """Random claims of one to four budgets, played to a limiter and to the model."""

    def __init__(self, limiter: AsyncLimiter, clock: ManualClock, seed: int) -> None:
        self._limiter = limiter
        self._clock = clock
        self._random = Random(seed)
        self._subjects = [f"joint-{seed}-{number}" for number in range(3)]
        self._model = JointModel()
        self._open: list[tuple[Decision, list[Budget], list[bool]]] = []
        self.refusals = 0

    async def play(self, steps: int) -> None:
        """Play `steps` random steps. Raises AssertionError at the first difference from the model."""
        for step in range(steps):
            verbs = (self._acquire, self._pass_time, self._release, self._peek, self._reset)
            await self._random.choices(verbs, weights=(60, 25, 20, 5, 1))[0](step)

    async def _acquire(self, step: int) -> None:
        budgets, cost = self._draw()
        leases = [self._model._record(budget).leases for budget in budgets]  # its own model
        expected = self._model.decide(budgets, cost, self._clock.now_ms())

        decision = await self._limiter.acquire(*_arguments(budgets, cost)[0], **_arguments(budgets, cost)[1])

        self._compare(step, decision, expected)
        self.refusals += not decision.allowed
        taken = [self._model._record(budget).leases > before for budget, before in zip(budgets, leases, strict=True)]
        assert (decision.lease is not None) == any(taken), f"step {step}: {decision.lease}, expected slots in {taken}"
        if any(taken):
            self._open.append((decision, budgets, taken))

    async def _peek(self, step: int) -> None:
        budgets, cost = self._draw()
        expected = self._model.decide(budgets, cost, self._clock.now_ms(), charges=False)

        decision = await self._limiter.peek(*_arguments(budgets, cost)[0], **_arguments(budgets, cost)[1])

        self._compare(step, decision, expected)
        assert decision.lease is None

    async def _pass_time(self, _: int) -> None:
        self._clock.advance(self._random.choice(_STEPS_MS))

    async def _release(self, _: int) -> None:
        if self._open:
            decision, budgets, taken = self._open.pop(self._random.randrange(len(self._open)))
            for _twice in range(self._random.choice((1, 1, 2))):
                await self._limiter.release(decision)
            self._model.release(budgets, taken)

    async def _reset(self, _: int) -> None:
        subject, scope = self._random.choice(self._subjects), self._random.choice(_SCOPES)
        await self._limiter.reset(subject, scope=scope)
        self._model.reset(subject, scope)

    def _draw(self) -> tuple[list[Budget], int | dict[str, int]]:
        """Budgets with a scope each, and a cost that none of their bursts makes impossible."""
        scopes = self._random.sample(_SCOPES, self._random.choice((1, 1, 2, 3, 4)))
        budgets = [
            Budget(self._random.choice(self._subjects), self._random.choice(_ALL_PLANS), scope) for scope in scopes
        ]
        requests = self._random.choice((1, 1, 1, 2, _max_cost(budgets, "requests")))
        requests = min(requests, _max_cost(budgets, "requests"))
        if self._random.random() < 0.6:
            return budgets, requests
        tokens = self._random.choice((0, 5, _max_cost(budgets, "tokens") // 3, _max_cost(budgets, "tokens")))
        return budgets, self._random.choice(
            ({"requests": requests, "tokens": tokens}, {"tokens": tokens}, {"requests": 0, "tokens": tokens}, {"x": 1})
        )

    def _compare(self, step: int, decision: Decision, expected: tuple[bool, list[ExpectedUsage]]) -> None:
        usages = [(usage.limit, usage.remaining, usage.reset_after_ms, usage.refused) for usage in decision.usages]
        got = decision.allowed, usages
        assert got == expected, f"step {step}, {decision}:\nexpected {expected},\ngot      {got}"


def _max_cost(budgets: list[Budget], measure: str) -> int:
    bursts = [rate.burst for budget in budgets for rate in budget.plan.rates if rate.measure == measure]
    return min(bursts, default=1)


def _arguments(budgets: list[Budget], cost: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `acquire` and `peek` for a claim."""
    first, *also = budgets
    return (first.subject, first.plan, cost), {"scope": first.scope, "also": also}
