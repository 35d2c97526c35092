"""Law 16: rates of calendar periods are exact to the second."""

from datetime import UTC, datetime

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.backend_under_test import BackendUnderTest


class CalendarLaws(BackendUnderTest):
    """What a backend promises about calendar periods."""

    async def test_law_16_month(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A month that begins on the 31st ends at midnight of the last day, by the clock of its zone."""
        plan = Plan("m", (Rate("month", 5, period="month", anchor_day=31, timezone="Europe/Berlin"),))
        clock.set(_utc_ms(2024, 2, 10))
        await limiter.acquire("s", plan, 5)

        refused = await limiter.acquire("s", plan)
        clock.set(_utc_ms(2024, 2, 28, 23) - 1)
        early = await limiter.acquire("s", plan)
        clock.advance(1)

        assert refused.retry_after_ms == _utc_ms(2024, 2, 28, 23) - _utc_ms(2024, 2, 10)
        assert early.allowed is False
        assert (await limiter.acquire("s", plan, 5)).allowed is True
        assert (await limiter.peek("s", plan)).retry_after_ms == _utc_ms(2024, 3, 30, 23) - clock.now_ms()

    async def test_law_16_clock_steps_back(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """After a step back over a boundary the period of the last charge counts; after a longer one, the clock's."""
        plan = Plan("m", (Rate("month", 5, period="month"),))
        clock.set(_utc_ms(2024, 3, 1))
        await limiter.acquire("s", plan, 5)
        clock.set(_utc_ms(2024, 2, 20))
        short = await limiter.acquire("s", plan)
        clock.set(_utc_ms(2024, 1, 20))
        long = await limiter.acquire("s", plan)

        assert short.retry_after_ms == _utc_ms(2024, 4, 1) - _utc_ms(2024, 2, 20)
        assert long.retry_after_ms == _utc_ms(2024, 2, 1) - _utc_ms(2024, 1, 20)

    async def test_law_16_overdraft_ends(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """The overdraft of a calendar rate is forgiven when its period ends."""
        plan = Plan("w", (Rate("week", 5, period="week"),))
        await limiter.settle(await limiter.acquire("s", plan), 9)
        waits = (await limiter.acquire("s", plan)).retry_after_ms
        clock.advance(waits)

        assert (await limiter.peek("s", plan)).usages[0].remaining == 5


def _utc_ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1_000
