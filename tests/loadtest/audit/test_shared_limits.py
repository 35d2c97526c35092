"""The audit of limits that all keys of an account share, of periods of the calendar, and of tokens."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadtest.observations import BURST_S, JSON, admitted, observations_of, refused
from tests.strategies import ScheduledRequest, audited_account_plans, scheduled_requests, with_examples

from awx_ratelimit import Concurrency, Plan, Rate
from awx_ratelimit.loadtest.audit.observation import Observation
from awx_ratelimit.loadtest.audit.promises import audit
from awx_ratelimit.loadtest.audit.verdict import Result, Tolerances, Verdict

#: Each key may make ten requests at once, and all keys together fifteen.
PLAN = Plan(
    "team", (Rate("rate", 10, 4_000),), Concurrency(3), Plan("all", (Rate("rate", 15, 40_000),), Concurrency(4))
)
TOGETHER, APART = Tolerances(PLAN, same_account=True), Tolerances(PLAN)
schedules = st.lists(scheduled_requests, min_size=1, max_size=60)


def failed(observations: list[Observation], tolerances: Tolerances = TOGETHER) -> list[str]:
    """The names of the failed verdicts."""
    return [one.name for one in audit(observations, tolerances) if one.result is Result.FAILED]


def verdict(name: str, observations: list[Observation], tolerances: Tolerances = TOGETHER) -> Verdict:
    """The verdict on one promise."""
    return next(one for one in audit(observations, tolerances) if one.name == name)


def burst(number: int, begin_s: float = 0.0, **fields: Any) -> list[Observation]:
    """Admitted requests at once."""
    return [admitted(begin_s + at_s, **fields) for at_s in BURST_S[:number]]


@with_examples(60)
@given(schedules, audited_account_plans(), st.booleans())
def test_honest_gateway_passes(schedule: list[ScheduledRequest], plan: Plan, same_account: bool) -> None:
    """No verdict on an honest gateway fails, whether its keys belong to one account or to several."""
    observations = observations_of(schedule, plan, same_account=same_account)

    assert failed(observations, Tolerances(plan, same_account=same_account)) == []


class TestAccounts:
    """The sum over the keys of an account."""

    def test_limit_per_key_instead_of_together(self) -> None:
        """Eight requests of each of two keys are more than the account may make, and each key keeps its own limit."""
        requests = [*burst(8), *burst(8, 0.1, key=1)]

        assert failed(requests) == ["never over"]
        assert verdict("never over", requests).detail.startswith("account.rate: 16 admitted within")
        assert failed(requests, APART) == []

    def test_one_key_alone(self) -> None:
        """A single key has its account's limits, too."""
        plan = Plan("p", (Rate("rate", 10, 4_000),), None, Plan("all", (Rate("rate", 5, 4_000),)))

        assert failed(burst(6), Tolerances(plan)) == ["never over"]

    def test_refused_within_the_account(self) -> None:
        """A refusal fails "not under" if both the key and the account certainly had room."""
        assert failed([*burst(7), *burst(7, 0.1, key=1), refused(0.4, key=2)]) == ["not under"]

    def test_refused_by_the_account(self) -> None:
        """What other keys have used justifies the refusal of an unused key."""
        used = [*burst(8), *burst(7, 0.1, key=1)]

        assert failed([*used, refused(0.4, key=2)]) == []
        assert failed([*used, refused(0.4, key=2)], APART) == ["not under"]

    def test_refusals_of_other_keys_are_charged(self) -> None:
        """A refusal that only earlier refusals of other keys explain fails "refusals are free"."""
        used = [*burst(8), *burst(7, 0.1, key=1)]
        flood = [refused(0.2 + number / 100, key=number % 2) for number in range(9)]

        assert failed([*used, *flood, refused(4.0, key=2)]) == ["refusals are free"]

    def test_slots_per_key_instead_of_together(self) -> None:
        """Three streams of each of two keys are more than the account's four slots."""
        streams = [admitted(number / 100, until_s=1.0, key=number % 2) for number in range(6)]

        assert failed(streams) == ["slots"]
        assert verdict("slots", streams).detail == "6 requests of account were in flight at once, 4 allowed"
        assert failed(streams, APART) == []

    def test_leaked_slot_of_the_account(self) -> None:
        """A key that is refused because other keys' streams have not been released fails "slots"."""
        streams = [admitted(number / 100, until_s=1.0, key=number % 2) for number in range(4)]

        assert failed([*streams, refused(0.9, key=2)]) == []
        assert failed([*streams, refused(3.0, key=2)]) == ["slots"]

    def test_wait_with_another_key_between(self) -> None:
        """A wait is not judged if another key of the account may have taken the token."""
        slow = Plan("p", (Rate("rate", 10, 4_000),), None, Plan("all", (Rate("rate", 10, 40_000),)))
        waited = [*burst(10), refused(0.4), refused(2.5, key=1), refused(2.6)]

        assert failed(waited, Tolerances(slow, same_account=True)) == []
        assert failed([*burst(10), refused(0.4), refused(2.6)], Tolerances(slow, same_account=True)) == ["honest wait"]

    def test_free_slots_in_the_header(self) -> None:
        """The gateway's own header says that slots of the account are free, so nothing else explains the refusal."""
        state = ("ratelimit", '"rate";r=1;t=1, "concurrent";r=2, "account.rate";r=1;t=1, "account.concurrent";r=1')
        held = [admitted(0.1, until_s=5.0, key=key) for key in range(4)]

        assert failed([*held, refused(1.0, key=4)]) == []
        assert failed([*held, refused(1.0, key=4, headers=(JSON, ("retry-after", "2"), state))]) != []

    def test_names(self) -> None:
        """Limits that no run has reached are named with their scope."""
        assert "not reached: account.rate" in verdict("never over", burst(10)).detail


BERLIN = ZoneInfo("Europe/Berlin")
MONTH = Plan("p", (Rate("month", 5, period="month", anchor_day=15, timezone="Europe/Berlin"),))


def at(year: int, month: int, day: int) -> float:
    """Seconds since the epoch at the beginning of a day in Berlin."""
    return datetime(year, month, day, tzinfo=BERLIN).timestamp()


class TestCalendar:
    """Periods of the calendar, whose boundaries are those of zoneinfo."""

    @pytest.mark.parametrize(
        ("rate", "boundary_s"),
        [
            (MONTH.rates[0], at(2026, 3, 15)),
            (Rate("month", 5, period="month", anchor_day=31, timezone="Europe/Berlin"), at(2026, 2, 28)),
            (Rate("week", 5, period="week", timezone="Europe/Berlin"), at(2026, 3, 30)),
            (Rate("day", 5, period="day", timezone="Europe/Berlin"), at(2026, 3, 30)),
            (Rate("year", 5, period="year", anchor_month=4, anchor_day=6, timezone="Europe/Berlin"), at(2026, 4, 6)),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_quota_on_each_side(self, rate: Rate, boundary_s: float) -> None:
        """A whole quota on each side of the boundary passes; one more on one side fails."""
        tolerances = Tolerances(Plan("p", (rate,)))
        around = [*burst(5, boundary_s - 60), *burst(5, boundary_s + 60)]

        assert failed(around, tolerances) == []
        for more_s in (boundary_s - 30, boundary_s + 90):
            assert failed([*around, admitted(more_s)], tolerances) == ["never over"]

    def test_month_of_thirty_days(self) -> None:
        """A gateway that starts a new month after 30 days admits too much before the calendar's month ends."""
        begin_s = at(2026, 1, 15) + 60
        thirty_days = [*burst(5, begin_s), *burst(5, begin_s + 30 * 86_400)]
        whole_month = [*burst(5, begin_s), *burst(5, begin_s + 31 * 86_400)]

        assert failed(thirty_days, Tolerances(MONTH)) == ["never over"]
        assert failed(whole_month, Tolerances(MONTH)) == []

    def test_refused_after_the_boundary(self) -> None:
        """A refusal after the calendar's month has begun fails "not under"; one before it is justified."""
        used = burst(5, at(2026, 2, 20))

        assert failed([*used, refused(at(2026, 3, 14))], Tolerances(MONTH)) == []
        assert failed([*used, refused(at(2026, 3, 15) + 60)], Tolerances(MONTH)) == ["not under"]

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            ('"month";r=4;t=1209600', []),
            ('"month";r=4;t=1209599', []),
            ('"month";r=4', []),
            ('"month";r=4;t=1036800', ["contract"]),
            ('"month";r=6;t=1209600', ["contract"]),
        ],
    )
    def test_end_of_the_period_in_the_header(self, state: str, expected: list[str]) -> None:
        """A header that says when the month ends must mean the calendar's month, and no more than its quota."""
        seen = [admitted(at(2026, 3, 1), headers=(("ratelimit", state),))]

        assert failed(seen, Tolerances(MONTH)) == expected

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [('"month";q=5', []), ('"month";q=5;w=2592000', ["contract"]), ('"month";q=6', ["contract"])],
    )
    def test_window_of_a_month(self, policy: str, expected: list[str]) -> None:
        """A month has no length that a policy could state."""
        seen = [admitted(at(2026, 3, 1), headers=(("ratelimit-policy", policy),))]

        assert failed(seen, Tolerances(MONTH)) == expected

    def test_boundary_outside_the_run(self) -> None:
        """A run that ends before the month does says so."""
        detail = verdict("never over", burst(5, at(2026, 3, 1)), Tolerances(MONTH)).detail
        crossed = verdict("never over", burst(5, at(2026, 3, 15) - 0.001), Tolerances(MONTH)).detail

        assert detail.endswith("; no boundary within the run: month ends at 2026-03-14T23:00:00Z")
        assert "no boundary" not in crossed


TOKENS = Plan("llm", (Rate("rate", 10, 4_000), Rate("tokens-minute", 100, 60_000, measure="tokens")))


class TestTokens:
    """Limits on what a request costs only the gateway knows."""

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            (None, []),
            ('"rate";r=9;t=4, "tokens-minute";r=30;t=18', []),
            ('"rate";r=9;t=4, "tokens-minute";r=100;t=60', ["not under"]),
        ],
    )
    def test_refusal(self, state: str | None, expected: list[str]) -> None:
        """Tokens may explain every refusal, unless the gateway itself says that none are used."""
        headers = (JSON, ("retry-after", "2"), *([("ratelimit", state)] if state else []))

        assert failed([admitted(0.0), refused(0.3, headers=headers)], Tolerances(TOKENS)) == expected

    def test_requests_are_not_tokens(self) -> None:
        """Requests are not counted against a limit on tokens, and it is not said to be reached."""
        plan = Plan("p", (Rate("tokens-minute", 3, 60_000, measure="tokens"),))

        assert failed(burst(10), Tolerances(plan)) == []
        assert verdict("never over", burst(10), Tolerances(plan)).result is Result.NOT_SHOWN

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ('"rate";q=10;w=4, "tokens-minute";q=100;qu="tokens";w=60', []),
            ('"rate";q=10;w=4, "tokens-minute";q=100;w=60', ["contract"]),
            ('"rate";q=10;w=4, "tokens-minute";q=100;qu="requests";w=60', ["contract"]),
        ],
    )
    def test_unit_in_the_policy(self, policy: str, expected: list[str]) -> None:
        """The policy of such a limit says what it counts."""
        assert failed([admitted(0.0, headers=(("ratelimit-policy", policy),))], Tolerances(TOKENS)) == expected


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("ratelimit-policy", '"rate";q=10;w=4, "account.rate";q=15;w=40', []),
        ("ratelimit-policy", '"rate";q=10;w=4, "account.rate";q=10;w=40', ["contract"]),
        ("ratelimit-policy", '"rate";q=10;w=4, "service.second";q=5000;w=1', []),
        ("ratelimit", '"rate";r=9;t=4, "account.rate";r=14;t=4', []),
        ("ratelimit", '"rate";r=9;t=4, "account.rate";r=16;t=4', ["contract"]),
    ],
)
def test_prefixed_names(header: str, value: str, expected: list[str]) -> None:
    """Headers name the limits of an account with its scope. Those of the service are not known to the tester."""
    assert failed([admitted(0.0, headers=((header, value),))]) == expected
