from typing import Any, cast

import pytest

from awx_ratelimit import Concurrency, InvalidLimit, Plan, Rate

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
def test_invalid_rate(fields: dict[str, Any], says: str) -> None:
    """A wrong field of a Rate is an InvalidLimit that says what is allowed."""
    with pytest.raises(InvalidLimit, match=says):
        Rate(**(RIGHT | fields))


@pytest.mark.parametrize("fields", [{"slots": 0}, {"slots": 1.0}, {"ttl_ms": 999}, {"max_hold_ms": 0}, {"shadow": 0}])
def test_invalid_concurrency(fields: dict[str, Any]) -> None:
    """A wrong field of a Concurrency is an InvalidLimit."""
    with pytest.raises(InvalidLimit, match="concurrent: "):
        Concurrency(**({"slots": 5} | fields))


def test_large_rate_uses_a_smaller_unit() -> None:
    """A capacity above 2**53 is reduced by the common divisor and stays exact."""
    rate = Rate("day", 10**9, 86_400_000)

    assert rate.unit == 54
    assert rate.drain == 625
    assert rate.capacity == 54 * 10**9


def test_inexact_rate() -> None:
    """A capacity that cannot be reduced to 2**53 is an InvalidLimit that says what to change."""
    with pytest.raises(InvalidLimit, match="use a smaller burst, a shorter period"):
        Rate("day", 10**9 + 7, 86_400_000)


@pytest.mark.parametrize(
    ("text", "name", "tokens", "period_ms"),
    [
        ("60/minute", "minute", 60, 60_000), ("100 per 2 hours", "2hour", 100, 7_200_000),
        ("5/second", "second", 5, 1_000), ("10000 per day", "day", 10_000, 86_400_000),
    ],
)  # fmt: skip
def test_parse(text: str, name: str, tokens: int, period_ms: int) -> None:
    """The notation gives tokens, period and, by its unit, the name."""
    assert Rate.parse(text) == Rate(name, tokens, period_ms)


def test_parse_with_name_and_burst() -> None:
    """Name and burst can be given in addition to the notation."""
    assert Rate.parse("60/minute", name="login", burst=3) == Rate("login", 60, 60_000, burst=3)


@pytest.mark.parametrize(
    "text", ["", "60", "sixty/minute", "60/fortnight", "0/minute", "1/second;2/minute", None, 60, "-1/day"]
)
def test_parse_invalid(text: Any) -> None:
    """Anything but exactly one rate is an InvalidLimit."""
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
def test_invalid_plan(made: Any, says: str) -> None:
    """A plan without limits, with duplicate names or with other objects is an InvalidLimit."""
    with pytest.raises(InvalidLimit, match=says):
        made()
