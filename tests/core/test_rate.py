import re
from typing import Any, cast

import pytest

from awx_ratelimit import Concurrency, InvalidLimit, Plan, PlanTable, Rate

RIGHT: dict[str, Any] = {"name": "minute", "tokens": 60, "period_ms": 60_000}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "1 to 32"),
        ({"name": "A"}, "1 to 32"),
        ({"name": "x" * 33}, "1 to 32"),
        ({"name": "a b"}, "1 to 32"),
        ({"name": None}, "1 to 32"),
        ({"name": "a\n"}, "1 to 32"),
        ({"name": "concurrent"}, "the name of the concurrency limit"),
        ({"tokens": 0}, "tokens: expected an integer >= 1, got 0"),
        ({"tokens": True}, "tokens: expected an integer >= 1, got True"),
        ({"tokens": 1.5}, "tokens: expected an integer >= 1, got 1.5"),
        ({"tokens": "60"}, "tokens: expected an integer >= 1, got '60'"),
        ({"period_ms": 0}, "period_ms: expected an integer >= 1, got 0"),
        ({"burst": 0}, "burst: expected an integer >= 1, got 0"),
        ({"refill": "weekly"}, "expected 'continuous' or 'calendar'"),
        ({"refill": "calendar", "burst": 5}, "the tokens of this calendar rate"),
        ({"shadow": 1}, "shadow: expected true or false, got 1"),
    ],
)
def test_a_wrong_rate_is_refused_when_it_is_made(fields: dict[str, Any], says: str) -> None:
    """Each field of a Rate that is wrong is an InvalidLimit that says what is allowed."""
    with pytest.raises(InvalidLimit, match=says):
        Rate(**(RIGHT | fields))


@pytest.mark.parametrize("fields", [{"slots": 0}, {"slots": 1.0}, {"ttl_ms": 999}, {"max_hold_ms": 0}, {"shadow": 0}])
def test_a_wrong_concurrency_is_refused_when_it_is_made(fields: dict[str, Any]) -> None:
    """Each field of a Concurrency that is wrong is an InvalidLimit."""
    with pytest.raises(InvalidLimit, match="concurrent: "):
        Concurrency(**({"slots": 5} | fields))


def test_a_large_rate_is_counted_in_a_smaller_unit() -> None:
    """Where the capacity passes 2**53 the pair is reduced by its common divisor, and stays exact."""
    rate = Rate("day", 10**9, 86_400_000)

    assert rate.unit == 54
    assert rate.drain == 625
    assert rate.capacity == 54 * 10**9


def test_a_rate_that_cannot_be_exact_is_refused_with_what_to_change() -> None:
    """A capacity above 2**53 that no divisor reduces is refused, and the error says what to change."""
    with pytest.raises(InvalidLimit, match="use a smaller burst, a shorter period"):
        Rate("day", 10**9 + 7, 86_400_000)


@pytest.mark.parametrize(
    ("text", "name", "tokens", "period_ms"),
    [
        ("60/minute", "minute", 60, 60_000), ("100 per 2 hours", "2hour", 100, 7_200_000),
        ("5/second", "second", 5, 1_000), ("10000 per day", "day", 10_000, 86_400_000),
    ],
)  # fmt: skip
def test_a_rate_is_parsed_by_the_notation_of_limits(text: str, name: str, tokens: int, period_ms: int) -> None:
    """The notation says tokens and period, and the unit is the name."""
    assert Rate.parse(text) == Rate(name, tokens, period_ms)


def test_a_parsed_rate_takes_a_name_and_a_burst() -> None:
    """Name and burst can be given beside the notation."""
    assert Rate.parse("60/minute", name="login", burst=3) == Rate("login", 60, 60_000, burst=3)


@pytest.mark.parametrize(
    "text", ["", "60", "sixty/minute", "60/fortnight", "0/minute", "1/second;2/minute", None, 60, "-1/day"]
)
def test_a_text_that_is_no_rate_is_an_invalid_limit(text: Any) -> None:
    """Whatever is not exactly one rate is one InvalidLimit."""
    with pytest.raises(InvalidLimit):
        Rate.parse(text)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Plan("p"), "has no limit"),
        (lambda: Plan("", (Rate("a", 1, 1),)), "name: expected a non-empty string"),
        (lambda: Plan("p", (Rate("a", 1, 1), Rate("a", 2, 1))), "two limits named 'a'"),
        (lambda: Plan("p", cast("Any", ("60/minute",))), "expected a Rate"),
        (lambda: Plan("p", (), cast("Any", 5)), "expected a Concurrency or None"),
    ],
)
def test_a_wrong_plan_is_refused_when_it_is_made(made: Any, says: str) -> None:
    """A plan without limits, with doubled names or with things that are no limits is an InvalidLimit."""
    with pytest.raises(InvalidLimit, match=says):
        made()


@pytest.mark.parametrize(
    ("text", "instead", "at_most"),
    [
        ("1000/month", "1000/30 days", 2000),
        ("1000 per 1 month", "1000/30 days", 2000),
        ("5/2 months", "5/60 days", 10),
        ("1000/YEAR", "1000/360 days", 2000),
        ("12 per 2 years", "12/720 days", 24),
    ],
)
def test_a_period_of_the_calendar_is_refused_with_what_to_write(text: str, instead: str, at_most: int) -> None:
    """Months and years differ in length: the error says what a bucket would admit, and how to write that one."""
    says = (
        f"{text!r}: a token bucket cannot follow the calendar; for a bucket of {instead.split('/')[1]}, "
        f"which admits up to {at_most} in {instead.split('/')[1]}, write {instead!r}"
    )
    with pytest.raises(InvalidLimit, match=f"^{re.escape(says)}$"):
        Rate.parse(text)
    with pytest.raises(InvalidLimit, match=f"^{re.escape(f't: plans.a.rates[0]: {says}')}$"):
        PlanTable.from_mapping({"plans": {"a": {"rates": [text]}}}, source="t")

    rate = Rate.parse(instead)
    assert rate.burst + rate.tokens == at_most
