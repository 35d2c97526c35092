"""Overrides with `times`, and overrides over overrides."""

from typing import Any

import pytest

from awx_ratelimit import Caller, InvalidLimit, Plan, PlanTable, Rate
from awx_ratelimit.core.merged_overrides import merged_overrides
from awx_ratelimit.core.multiplied import multiplied
from awx_ratelimit.core.rate import EXACT_MAX

TABLE = PlanTable.from_mapping(
    {
        "plans": {
            "starter": {
                "per_minute": {"limit": 60, "burst": 15},
                "per_month": {"limit": 1_000, "anchor_day": 5, "timezone": "Europe/Berlin"},
                "rates": [{"limit": 900, "per": "2 hours", "measure": "tokens", "name": "slow"}],
                "concurrent": {"slots": 5, "ttl_seconds": 60},
                "account": {"per_minute": 100, "concurrent": 7},
            }
        }
    }
)


def resolved(overrides: Any) -> Plan:
    """The plan of a caller with these overrides."""
    return TABLE.resolve(Caller("s", "starter", overrides=overrides))


def numbers(plan: Plan) -> dict[str, tuple[int, int]]:
    """The tokens and the burst of each rate, and the slots."""
    slots = {"concurrent": (plan.concurrency.slots,) * 2} if plan.concurrency else {}
    return {rate.name: (rate.tokens, rate.burst) for rate in plan.rates} | slots


def test_times() -> None:
    """`times` multiplies every limit of the key and of the account, and changes nothing else."""
    plan, doubled = resolved(None), resolved({"times": 2})
    assert doubled.account is not None

    assert numbers(doubled) == {
        "minute": (120, 30),
        "month": (2_000, 2_000),
        "slow": (1_800, 1_800),
        "concurrent": (10, 10),
    }
    assert numbers(doubled.account) == {"minute": (200, 200), "concurrent": (14, 14)}
    assert multiplied(doubled, 0.5) == plan


def test_times_and_limits() -> None:
    """The limits beside `times` are multiplied too."""
    assert numbers(resolved({"per_minute": 300, "times": 1.5}))["minute"] == (450, 450)


def test_rounding() -> None:
    """Results are rounded, and at least 1."""
    assert numbers(multiplied(Plan.of("p", per_minute=3, concurrent=1), 0.1)) == {
        "minute": (1, 1),
        "concurrent": (1, 1),
    }
    assert numbers(multiplied(Plan.of("p", per_minute=10), 1.1)) == {"minute": (11, 11)}


@pytest.mark.parametrize(
    ("rate", "tokens"),
    [
        (Rate("minute", 149_999_999_999, 60_000), EXACT_MAX // 60_000),
        (Rate("month", EXACT_MAX - 1, period="month"), EXACT_MAX),
        (Rate("minute", 60_000 * 10**11, 60_000), 60_000 * 10**11),
    ],
)
def test_largest(rate: Rate, tokens: int) -> None:
    """A rate grows up to what can be counted exactly, and never becomes invalid."""
    assert multiplied(Plan("p", (rate,)), 999).rates[0].tokens == tokens


@pytest.mark.parametrize("times", [0, -1, 1_001, True, "2", float("nan"), None])
def test_invalid_times(times: Any) -> None:
    """Anything but a number above 0, up to 1,000, is an error that says so."""
    with pytest.raises(InvalidLimit, match=r"overrides\.times: expected a number above 0, up to 1000"):
        resolved({"times": times})


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        (None, {"per_minute": 5}, {"per_minute": 5}),
        ({"per_minute": 5}, None, {"per_minute": 5}),
        ({"per_minute": 5, "per_day": 9}, {"per_minute": 7}, {"per_minute": 7, "per_day": 9}),
        ({"per_minute": 5, "per_day": 9}, {"rates": ["7/minute"]}, {"per_day": 9, "rates": ["7/minute"]}),
        ({"rates": ["5/minute", "9/day"]}, {"per_day": 8}, {"per_day": 8, "rates": ["5/minute"]}),
        ({"rates": ["5/minute"]}, {"per_minute": 8}, {"per_minute": 8}),
        ({"per_minute": 5}, {"account": {"per_day": 3}}, {"per_minute": 5, "account": {"per_day": 3}}),
        ({"account": {"per_day": 3, "concurrent": 2}}, {"account": {"concurrent": 4}},
         {"account": {"per_day": 3, "concurrent": 4}}),
        ({"account": {"per_day": 3}}, {"times": 2}, {"account": {"per_day": 3}, "times": 2}),
        ({"times": 3}, {"times": 2}, {"times": 6}),
        ({"times": 900}, {"times": 2}, {"times": 1_000}),
        ({"plan": "a", "shadow": True}, {"plan": "b", "shadow": False}, {"plan": "b", "shadow": False}),
        ({"per_minute": {"limit": 5, "name": "x"}}, {"per_minute": 7}, {"per_minute": 7}),
    ],
)  # fmt: skip
def test_merged(base: Any, over: Any, merged: Any) -> None:
    """A limit replaces the one of its name however both are written, the others stay, and `times` multiplies."""
    assert merged_overrides(base, over) == merged
