"""Rates in the notation: token buckets, and periods of the calendar."""

import re
from time import thread_time

import pytest

from awx_ratelimit import InvalidLimit, Plan, PlanTable, Rate
from awx_ratelimit.core.calendar_periods import Period


@pytest.mark.parametrize(
    ("text", "tokens", "period"),
    [
        ("1000/month", 1000, "month"), ("1000 per 1 month", 1000, "month"), ("5/WEEK", 5, "week"),
        (" 7 / year ", 7, "year"), ("3 per weeks", 3, "week"), ("12/1months", 12, "month"),
    ],
)  # fmt: skip
def test_calendar_period(text: str, tokens: int, period: Period) -> None:
    """Weeks, months and years are those of the calendar in UTC, and the rate has the name of the period."""
    assert Rate.parse(text) == Rate(period, tokens, period=period)


def test_name_of_a_calendar_rate() -> None:
    """A name can be given; a burst cannot, unless it equals the tokens."""
    assert Rate.parse("1000/month", name="quota").name == "quota"
    assert Rate.parse("1000/month", burst=1_000).burst == 1_000
    with pytest.raises(InvalidLimit, match="burst: expected 1000, the tokens of this calendar rate, got 5"):
        Rate.parse("1000/month", burst=5)


@pytest.mark.parametrize(
    ("text", "unit", "instead"),
    [
        ("5/2 months", "month", "5/60 days"), ("12 per 2 years", "year", "12/730 days"),
        ("9/3weeks", "week", "9/21 days"), ("9 per 12 MONTHS", "month", "9/360 days"),
    ],
)  # fmt: skip
def test_several_calendar_periods(text: str, unit: str, instead: str) -> None:
    """Several weeks, months or years are an InvalidLimit that says what to write, alone and in a plan table."""
    with pytest.raises(InvalidLimit, match=re.escape(f"{text!r}: expected one {unit}, because")) as error:
        Rate.parse(text)
    with pytest.raises(InvalidLimit, match=re.escape("t: plans.a.rates[0]: ")):
        PlanTable.from_mapping({"plans": {"a": {"rates": [text]}}}, source="t")

    assert str(error.value).endswith(f"write {instead!r}")
    assert Rate.parse(instead).refill == "continuous"


@pytest.mark.parametrize(
    "text",
    ["0/month", "5/0 months", "-5/month", "1000/monthly", "5/month;5/day", "five/month", "5/2.5 months", "/month"],
)
def test_wrong_calendar_period(text: str) -> None:
    """Anything else about weeks, months and years is an InvalidLimit."""
    with pytest.raises(InvalidLimit):
        Rate.parse(text)


def test_plan_of() -> None:
    """`Plan.of` has weeks and months of the calendar, after its other rates."""
    plan = Plan.of("p", per_minute=1, per_week=2, per_month=3)

    assert [(rate.name, rate.tokens, rate.period) for rate in plan.rates] == [
        ("minute", 1, None),
        ("week", 2, "week"),
        ("month", 3, "month"),
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("5/min", "5/minute"), ("100/hr", "100/hour"), ("5r/s", "5/second"), ("100 r/m", "100/minute"),
        ("5-M", "5/minute"), ("60rpm", "60/minute"), ("10rps", "10/second"), ("60 requests per minute", "60/minute"),
        ("5 times a day", "5/day"), ("5 every 15 mins", "5/15 minutes"), ("100/60s", "100/60 seconds"),
        ("10/mo", "10/month"), ("1_000/minute", "1000/minute"), ("1,000/d", "1000/day"), ("2k/week", "2000/week"),
        ("0.5/second", "1/2 seconds"), ("2.5k/h", "2500/hour"), ("5/minut", "5/minute"), ("5 PER Secnd", "5/second"),
    ],
)  # fmt: skip
def test_notation_of_another_program(text: str, written: str) -> None:
    """A rate in the notation of another program is an InvalidLimit that says how to write it, also in a plan table."""
    with pytest.raises(InvalidLimit, match=re.escape(f"got {text!r}; write {written!r}")):
        Rate.parse(text)
    with pytest.raises(InvalidLimit, match=re.escape("t: plans.a.rates[0]: expected one rate")):
        PlanTable.from_mapping({"plans": {"a": {"rates": [text]}}}, source="t")

    assert Rate.parse(written).tokens >= 1


@pytest.mark.parametrize(
    "text",
    [
        "5/ms", "5/fortnight", "5 per second per user", "1,5/minute", "0/min", "5/0s", "1-5/min", "5/2 mo", "5//min",
        "5/minute burst 10", "five/min", f"{'9' * 40}/min", "5/min ; 9/hr", "-5/min", "", "5/",
    ],
)  # fmt: skip
def test_notation_that_could_mean_anything(text: str) -> None:
    """If it is not certain what a text means, the error proposes nothing."""
    with pytest.raises(InvalidLimit) as error:
        Rate.parse(text)

    assert "; write" not in str(error.value)


@pytest.mark.parametrize(("per", "written"), [("min", "minute"), ("15m", "15 minutes"), ("hrs", "hour")])
def test_period_of_another_program(per: str, written: str) -> None:
    """So is the period of a rate in a plan table."""
    rates = [{"limit": 5, "per": per}]

    with pytest.raises(
        InvalidLimit, match=re.escape("t: plans.a.rates[0].per: ") + f".*got '{per}'; write '{written}'"
    ):
        PlanTable.from_mapping({"plans": {"a": {"rates": rates}}}, source="t")


@pytest.mark.parametrize("text", ["1" + " " * 500 + "!", "1," * 5_000, "1 " * 5_000 + "!", "k" * 10_000])
def test_long_text_is_refused_at_once(text: str) -> None:
    """A text of any length costs little: the request of an operator may contain one, and a match blocks the process."""
    began_s = thread_time()
    with pytest.raises(InvalidLimit):
        Rate.parse(text)

    assert thread_time() - began_s < 1
