"""Limits in words for people."""

from datetime import UTC, datetime

import pytest

from awx_ratelimit import Concurrency, MemoryBackend, Plan, Rate
from awx_ratelimit.console import limit_words
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management.usage import LimitUsage
from awx_ratelimit.testing import ManualClock


@pytest.mark.parametrize(
    ("rate", "label"),
    [
        (Rate.parse("5/second"), "this second"),
        (Rate.parse("5/minute"), "this minute"),
        (Rate.parse("5/hour"), "this hour"),
        (Rate.parse("5/day"), "today"),
        (Rate.parse("5/week"), "this week"),
        (Rate.parse("5/month"), "this month"),
        (Rate.parse("5/year"), "this year"),
        (Rate.parse("5/2 hours"), "2hour"),
        (Rate("peak", 5, 60_000), "peak"),
        (Rate("tokens-minute", 5, 60_000, measure="tokens"), "tokens this minute"),
        (Rate("day", 5, 86_400_000, measure="tokens"), "tokens today"),
        (Rate("llm", 5, 60_000, measure="tokens"), "llm (tokens)"),
        (None, "in flight"),
    ],
)
def test_label(rate: Rate | None, label: str) -> None:
    """A bar says what it counts, and of what."""
    assert limit_words.label(rate) == label


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (Rate("month", 5, period="month"), "requests this month"),
        (Rate("t", 5, period="day", timezone="Asia/Tokyo", measure="tokens"), "tokens today"),
        (Rate("d", 5, 86_400_000, refill="calendar"), "requests today"),
        (Rate("day", 5_000, 86_400_000), "5,000 requests per day"),
        (Rate("w", 5, 14 * 86_400_000, refill="calendar"), "5 requests per 14 days"),
    ],
)
def test_quota(rate: Rate, words: str) -> None:
    """The words for a quota name its period; one that refills all the time has no current period."""
    assert limit_words.quota(rate) == words


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        ("minute", "Requests per minute"),
        ("llm", "Tokens per 2 minutes"),
        ("concurrent", "Requests in flight"),
        ("account.month", "All keys together: tokens per month"),
        ("service.minute", "All users together: requests per minute"),
        ("export.concurrent", "export: requests in flight"),
        ("hour", "Requests per hour"),
        ("gone", "gone"),
        ("account.gone", "All keys together: gone"),
    ],
)
def test_limit_name(limit: str, name: str) -> None:
    """A limit that refused says what it counts, as far as the plan still has it or its name is a usual one."""
    shared = Plan("p.account", (Rate("month", 5, period="month", measure="tokens"),))
    plan = Plan("p", (Rate.parse("5/minute"), Rate("llm", 5, 120_000, measure="tokens")), account=shared)

    assert limit_words.limit_name(limit, plan) == name


def limit_usage(rate: Rate, at: datetime) -> LimitUsage:
    """The usage of a rate that nobody has used."""
    at_ms = int(at.timestamp() * 1_000)
    usage = Limiter(MemoryBackend(clock=ManualClock(at_ms))).peek("s", Plan("p", (rate,))).usages[0]
    return LimitUsage(usage, rate, rate.periods.bounds(at_ms)[1] if rate.calendar else None)


@pytest.mark.parametrize(
    ("rate", "note"),
    [
        (Rate("month", 5, period="month", anchor_day=15), "resets on 15 December"),
        (Rate("month", 5, period="month"), "resets on 1 December"),
        (
            Rate("month", 5, period="month", anchor_day=15, timezone="Europe/Berlin"),
            "resets on 15 December (Europe/Berlin time)",
        ),
        (
            Rate("month", 5, period="month", anchor_day=15, timezone="America/New_York"),
            "resets on 15 December (America/New York time)",
        ),
        (Rate("week", 5, period="week"), "resets on Monday, 30 November"),
        (Rate("week", 5, period="week", anchor_day=3), "resets on Wednesday, 2 December"),
        (Rate("year", 5, period="year"), "resets on 1 January 2027"),
        (Rate("day", 5, period="day"), "resets at midnight UTC"),
        (Rate("day", 5, period="day", timezone="Asia/Tokyo"), "resets at midnight (Asia/Tokyo time)"),
        (Rate("day", 5, 86_400_000, refill="calendar"), "resets at midnight UTC"),
        (Rate("hour", 5, 3_600_000, refill="calendar"), "resets at 13:00 UTC"),
        (Rate("minute", 5, 60_000, refill="calendar"), ""),
        (Rate("day", 5, 86_400_000), ""),
    ],
)
def test_reset_note(rate: Rate, note: str) -> None:
    """A limit of the calendar says when it resets, by the clock of its time zone; others refill all the time."""
    assert limit_words.reset_note(limit_usage(rate, datetime(2026, 11, 29, 12, 30, tzinfo=UTC))) == note


def test_reset_where_midnight_is_missing() -> None:
    """Where clocks jump over midnight, a day begins when they have jumped, and a month on its day."""
    before = datetime(2025, 9, 6, 12, tzinfo=UTC)
    day = Rate("day", 5, period="day", timezone="America/Santiago")
    month = Rate("month", 5, period="month", anchor_day=7, timezone="America/Santiago")

    assert limit_words.reset_note(limit_usage(day, before)) == "resets at 01:00 (America/Santiago time)"
    assert limit_words.reset_note(limit_usage(month, before)) == "resets on 7 September (America/Santiago time)"


@pytest.mark.parametrize(
    ("rate", "rule"),
    [
        (Rate("month", 5, period="month"), "resets on the 1st"),
        (Rate("month", 5, period="month", anchor_day=22), "resets on the 22nd"),
        (Rate("month", 5, period="month", anchor_day=13), "resets on the 13th"),
        (Rate("month", 5, period="month", anchor_day=31), "resets on the 31st or the last day"),
        (Rate("week", 5, period="week", anchor_day=7), "resets on Sundays"),
        (
            Rate("year", 5, period="year", anchor_month=4, anchor_day=6, timezone="Europe/London"),
            "resets on 6 April (Europe/London time)",
        ),
        (Rate.parse("5/day"), ""),
    ],
)
def test_reset_rule(rate: Rate, rule: str) -> None:
    """The table of plans says on which day a week, a month or a year begins."""
    assert limit_words.reset_rule(rate) == rule


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (Plan.of("p", per_minute=60, per_day=10_000, concurrent=5),
         "60 requests per minute, 10,000 requests per day and 5 requests in flight"),
        (Plan.of("p", per_month=2_000_000), "2,000,000 requests per month"),
        (Plan.of("p", per_minute=1, concurrent=1), "1 request per minute and 1 request in flight"),
        (Plan("p", (Rate("minute", 300, 60_000, burst=100), Rate("t", 9_000, 120_000, measure="tokens"))),
         "300 (burst 100) requests per minute and 9,000 tokens per 2 minutes"),
        (Plan("p", (), Concurrency(7)), "7 requests in flight"),
        (Plan.unlimited("p"), "no limits"),
    ],
)  # fmt: skip
def test_allowances(plan: Plan, text: str) -> None:
    """A plan says in one phrase what it allows."""
    assert limit_words.allowances(plan) == text
