"""Law 18: a malformed claim raises an error and affects no other claim; a decision of another backend does nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import STARTER, Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.backend_under_test import BackendUnderTest


class HostileText(str):
    """A string that collides with ``"s"`` in every dict and raises from every other method."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash("s")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("the backend called __eq__ of the subject")

    def encode(self, *_: Any, **__: Any) -> bytes:
        """Raise RuntimeError."""
        raise RuntimeError("the backend called encode() of the subject")

    def __len__(self) -> int:
        raise RuntimeError("the backend called __len__ of the subject")


#: Subject, plan and cost; each claim raises TypeError or ValueError.
MALFORMED: dict[str, tuple[Any, Any, Any]] = {
    "subject-int": (42, STARTER, 1),
    "subject-none": (None, STARTER, 1),
    "subject-bytes": (b"s", STARTER, 1),
    "subject-list": (["s"], STARTER, 1),
    "plan-none": ("s", None, 1),
    "plan-name": ("s", "starter", 1),
    "plan-rate": ("s", STARTER.rates[0], 1),
    "cost-text": ("s", STARTER, "1"),
    "cost-none": ("s", STARTER, None),
    "cost-float": ("s", STARTER, 1.5),
    "cost-nan": ("s", STARTER, float("nan")),
    "cost-infinite": ("s", STARTER, float("inf")),
    "cost-bool": ("s", STARTER, True),
    "cost-negative": ("s", STARTER, -1),
    "cost-huge": ("s", STARTER, 10**400),
    "cost-beyond-doubles": ("s", STARTER, 2**53 + 1),
}
#: Unusual but valid claims: a backend decides them or raises BackendUnavailable or ValueError.
STRANGE: dict[str, tuple[str, Plan, int]] = {
    "subject-of-a-megabyte": ("x" * 1_000_000, STARTER, 1),
    "subject-not-encodable": ("\ud800", STARTER, 1),
    "subject-hostile": (HostileText("hostile"), STARTER, 1),
    "plan-of-40-limits": ("many", Plan("many", tuple(Rate(f"limit_{n}", 9, 60_000 + n) for n in range(40))), 1),
    "plan-of-60-limits": ("more", Plan("more", tuple(Rate(f"limit_{n}", 9, 60_000 + n) for n in range(60))), 1),
    "cost-of-2**53": ("much", Plan.of("much", per_minute=1, shadow=True), 2**53),
}
_FOREIGN_PLAN = Plan("foreign", (Rate("minute", 100, 60_000),), Concurrency(10))
#: How a claim is made whose decision another backend gets.
FOREIGN: dict[str, dict[str, Any]] = {
    "plain": {},
    "scope": {"scope": "x"},
    "budgets": {"also": [Budget("a", _FOREIGN_PLAN, scope="account")]},
    "declared": {"also": [Budget("a", _FOREIGN_PLAN, scope="account")], "settle": True},
}
_VALID_CLAIMS = 6
_VALID_PLAN = Plan.of("others", per_minute=1_000, concurrent=1_000)


class MalformedClaimLaws(BackendUnderTest):
    """What a backend promises about malformed claims."""

    @pytest.mark.parametrize("name", MALFORMED)
    async def test_law_18_malformed_claim(self, limiter: AsyncLimiter, name: str) -> None:
        """A malformed claim raises TypeError or ValueError; concurrent and later claims are decided as usual."""
        await limiter.release(await limiter.acquire("s", STARTER, 7))

        for verb in (limiter.backend.acquire, limiter.backend.peek):
            errors = await _send_among_valid_claims(limiter, verb, *MALFORMED[name])
            assert [error for error in errors if not isinstance(error, TypeError | ValueError)] == []

        await _assert_unharmed(limiter)

    @pytest.mark.parametrize("name", STRANGE)
    async def test_law_18_strange_claim(self, limiter: AsyncLimiter, name: str) -> None:
        """An unusual claim is decided or raises; concurrent and later claims are decided as usual."""
        await limiter.release(await limiter.acquire("s", STARTER, 7))

        answers = await _send_among_valid_claims(limiter, limiter.backend.acquire, *STRANGE[name])

        decided = (Decision, BackendUnavailable, ValueError)
        assert [answer for answer in answers if not isinstance(answer, decided)] == []
        await _assert_unharmed(limiter)

    async def test_law_18_hostile_subject(self, limiter: AsyncLimiter) -> None:
        """An instance of a str subclass is decided as the plain string of its text, which the Decision contains."""
        decision = await limiter.backend.acquire(HostileText("hostile"), STARTER, 1)

        assert type(decision.subject) is str
        assert (await limiter.peek("hostile", STARTER)).usages[0].remaining == 59

    @pytest.mark.parametrize("terms", FOREIGN.values(), ids=FOREIGN)
    async def test_law_18_decision_of_another_backend(
        self, limiter: AsyncLimiter, clock: ManualClock, terms: dict[str, Any]
    ) -> None:
        """Settling, refunding or releasing a decision of another backend changes neither backend nor the decision."""
        other = AsyncLimiter(MemoryBackend(clock=clock))
        for owner, stranger in ((limiter, other), (other, limiter)):
            await stranger.acquire("s", _FOREIGN_PLAN, 5, **terms)
            decision = await owner.acquire("s", _FOREIGN_PLAN, 3, **terms)
            before = await _remaining(stranger, terms), await _remaining(owner, terms)
            assert not await stranger.backend.settle(decision, {"requests": 7})
            assert not await stranger.backend.refund(decision)
            await stranger.release(decision)

            assert (await _remaining(stranger, terms), await _remaining(owner, terms)) == before
            await owner.settle(decision, 1)
            await owner.release(decision)
            used = [was - now for was, now in zip(before[1], await _remaining(owner, terms), strict=True)]
            assert used == [-2, -1] * (len(used) // 2)
        assert (await limiter.health())["state"] == "ok"


async def _remaining(limiter: AsyncLimiter, terms: Mapping[str, Any]) -> list[int]:
    asked = {name: value for name, value in terms.items() if name != "settle"}
    return [usage.remaining for usage in (await limiter.peek("s", _FOREIGN_PLAN, **asked)).usages]


async def _send_among_valid_claims(
    limiter: AsyncLimiter, verb: Callable[..., Awaitable[Any]], *claim: Any
) -> list[Any]:
    """Send the claim three times among valid claims, which must all be allowed; return its three results."""
    sent: list[Awaitable[Any]] = []
    for number in range(_VALID_CLAIMS):
        sent.append(limiter.acquire(f"other_{number}", _VALID_PLAN))
        if number % 2:
            sent.append(verb(*claim))
    answers = await asyncio.gather(*sent, return_exceptions=True)
    results = answers[2::3]
    del answers[2::3]
    assert [getattr(answer, "allowed", answer) for answer in answers] == [True] * _VALID_CLAIMS
    return results


async def _assert_unharmed(limiter: AsyncLimiter) -> None:
    usages = (await limiter.peek("s", STARTER)).usages
    assert [usage.remaining for usage in usages] == [53, 9_993, 5]
    held = await limiter.acquire("s", STARTER)
    await limiter.release(held)
    await limiter.renew_leases()
    assert (await limiter.peek("s", STARTER)).usages[-1].remaining == 5
    assert (await limiter.health())["state"] == "ok"
