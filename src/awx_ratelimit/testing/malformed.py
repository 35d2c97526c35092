"""Claims that are wrong in every way, and the law that each of them fails alone: a part of the backend contract."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import STARTER, Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.limiter import AsyncLimiter


class HostileText(str):
    """A string that collides with ``"s"`` in every dict, and raises whatever is asked of it."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash("s")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("a subject was compared by its own method")

    def encode(self, *_: Any, **__: Any) -> bytes:
        """Raise."""
        raise RuntimeError("a subject was encoded by its own method")

    def __len__(self) -> int:
        raise RuntimeError("a subject was measured by its own method")


#: Subject, plan and cost; each is a TypeError or a ValueError.
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
#: Claims that are strange and not wrong: a backend decides them, or says that it cannot.
STRANGE: dict[str, tuple[str, Plan, int]] = {
    "subject-of-a-megabyte": ("x" * 1_000_000, STARTER, 1),
    "subject-not-encodable": ("\ud800", STARTER, 1),
    "subject-hostile": (HostileText("hostile"), STARTER, 1),
    "plan-of-40-limits": ("many", Plan("many", tuple(Rate(f"limit_{n}", 9, 60_000 + n) for n in range(40))), 1),
    "plan-of-60-limits": ("more", Plan("more", tuple(Rate(f"limit_{n}", 9, 60_000 + n) for n in range(60))), 1),
    "cost-of-2**53": ("much", Plan.of("much", per_minute=1, shadow=True), 2**53),
}
_OTHERS = 6
_OTHERS_PLAN = Plan.of("others", per_minute=1_000, concurrent=1_000)


class MalformedClaims:
    """Law 18. `limiter` is a fixture of the contract that inherits this."""

    @pytest.mark.parametrize("name", MALFORMED)
    async def test_law_18_a_malformed_claim_fails_alone(self, limiter: AsyncLimiter, name: str) -> None:
        """It raises a TypeError or a ValueError; the claims beside and behind it, and health, are as ever."""
        await limiter.release(await limiter.acquire("s", STARTER, 7))

        for verb in (limiter.backend.acquire, limiter.backend.peek):
            errors = await self._beside_others(limiter, verb, *MALFORMED[name])
            assert [error for error in errors if not isinstance(error, TypeError | ValueError)] == []

        await self._unharmed(limiter)

    @pytest.mark.parametrize("name", STRANGE)
    async def test_law_18_a_strange_claim_is_decided_or_fails_alone(self, limiter: AsyncLimiter, name: str) -> None:
        """Whatever becomes of it, the claims beside and behind it, and health, are as ever."""
        await limiter.release(await limiter.acquire("s", STARTER, 7))

        answers = await self._beside_others(limiter, limiter.backend.acquire, *STRANGE[name])

        decided = (Decision, BackendUnavailable, ValueError)
        assert [answer for answer in answers if not isinstance(answer, decided)] == []
        await self._unharmed(limiter)

    async def test_law_18_a_hostile_subject_is_its_text(self, limiter: AsyncLimiter) -> None:
        """A subclass of str is decided as the plain string of its text, and is such a string in the Decision."""
        decision = await limiter.backend.acquire(HostileText("hostile"), STARTER, 1)

        assert type(decision.subject) is str
        assert (await limiter.peek("hostile", STARTER)).usages[0].remaining == 59

    async def _beside_others(
        self, limiter: AsyncLimiter, verb: Callable[..., Awaitable[Any]], *claim: Any
    ) -> list[Any]:
        """What became of three such claims, sent among others that are all decided."""
        sent: list[Awaitable[Any]] = []
        for number in range(_OTHERS):
            sent.append(limiter.acquire(f"other_{number}", _OTHERS_PLAN))
            if number % 2:
                sent.append(verb(*claim))
        answers = await asyncio.gather(*sent, return_exceptions=True)
        wrong = answers[2::3]
        del answers[2::3]
        assert [getattr(answer, "allowed", answer) for answer in answers] == [True] * _OTHERS
        return wrong

    async def _unharmed(self, limiter: AsyncLimiter) -> None:
        now = await limiter.peek("s", STARTER)
        assert [usage.remaining for usage in now.usages] == [53, 9_993, 5]
        held = await limiter.acquire("s", STARTER)
        await limiter.release(held)
        await limiter.renew_leases()
        assert (await limiter.peek("s", STARTER)).usages[-1].remaining == 5
        assert (await limiter.health())["state"] == "ok"
