"""The audit by itself, on observations whose decision times are known."""

from dataclasses import astuple, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadtest.observations import (
    BODY,
    BURST_S,
    JSON,
    PLAN,
    REFUSAL,
    SECOND_US,
    admitted,
    observations_of,
    refused,
)
from tests.strategies import ScheduledRequest, audited_plans, scheduled_requests, with_examples

from awx_ratelimit import Plan, Rate
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.promises import NAMES, audit
from awx_ratelimit.loadtest.audit.rate_bound import tightest_interval
from awx_ratelimit.loadtest.audit.verdict import Result, Tolerances

TOLERANCES = Tolerances(PLAN)
TIMES = ("sent_us", "answered_us", "alive_us", "ended_us")
schedules = st.lists(scheduled_requests, min_size=1, max_size=60)


def failed(observations: list[Observation], tolerances: Tolerances = TOLERANCES) -> list[str]:
    """The names of the failed verdicts."""
    return [one.name for one in audit(observations, tolerances) if one.result is Result.FAILED]


@with_examples(60)
@given(schedules, audited_plans())
def test_honest_gateway_passes(schedule: list[ScheduledRequest], plan: Plan) -> None:
    """No verdict on an honest gateway fails, whatever is sent and whenever each request is decided."""
    verdicts = audit(observations_of(schedule, plan), Tolerances(plan))

    assert [one.name for one in verdicts] == [*NAMES]
    assert [one for one in verdicts if one.result is Result.FAILED] == []


@with_examples(60)
@given(schedules, audited_plans(), st.integers(0, 100_000))
def test_clock_offset_within_spread(schedule: list[ScheduledRequest], plan: Plan, offset_us: int) -> None:
    """An honest gateway passes if clocks differ by no more than the spread."""
    observations = [
        replace(one, **{name: getattr(one, name) + offset_us * (number % 2) for name in TIMES})
        for number, one in enumerate(observations_of(schedule, plan))
    ]

    assert failed(observations, Tolerances(plan, spread_us=100_000)) == []


@with_examples(60)
@given(st.lists(scheduled_requests, min_size=1, max_size=40), audited_plans())
def test_tightest_interval_equals_brute_force(schedule: list[ScheduledRequest], plan: Plan) -> None:
    """The tightest interval has exactly the excess that a check of every pair of times finds."""
    rate = plan.rates[0]
    let_in = [one for one in observations_of(schedule, plan) if one.outcome is Outcome.ADMITTED and one.key == 0]
    found = tightest_interval(let_in, rate, tolerance_us=10_000, skew_us=0)

    if found is None or rate.calendar:
        return
    assert Fraction(found.excess, found.unit) == max(
        sum(one.cost for one in let_in if u <= one.sent_us and one.answered_us <= v)
        - rate.burst
        - Fraction(rate.tokens * (v - u + 10_000), rate.period_ms * 1_000)
        for u in {one.sent_us for one in let_in}
        for v in {one.answered_us for one in let_in}
        if any(u <= one.sent_us and one.answered_us <= v for one in let_in)
    )


@given(st.integers(1, 9), st.integers(0, 3_000_000))
def test_two_bursts_are_over_the_limit(burst: int, gap_us: int) -> None:
    """Two bursts fail exactly if the time between them is too short for a refill."""
    rate = Rate("rate", burst, 1_000)
    requests = [admitted(number / 10_000) for number in range(burst)]
    requests += [admitted((gap_us + 2_000) / SECOND_US + number / 10_000) for number in range(burst)]
    span_us = requests[-1].answered_us - requests[0].sent_us + 10_000

    assert ("never over" in failed(requests, Tolerances(Plan("p", (rate,))))) == (burst * span_us < burst * SECOND_US)


def test_calendar_rate_is_counted_between_boundaries() -> None:
    """A whole quota on each side of a boundary passes; one more request on one side fails."""
    plan = Plan("p", (Rate("minute", 5, 60_000, refill="calendar"),))
    around = [admitted(at_s) for at_s in (50, 51, 52, 53, 54, 66, 67, 68, 69, 70)]

    assert failed(around, Tolerances(plan)) == []
    assert failed([*around, admitted(55)], Tolerances(plan)) == ["never over"]


class TestRefusals:
    """Which verdict fails because of an unjustified refusal."""

    def test_within_the_plan(self) -> None:
        """A refusal after nine of ten requests fails "not under"."""
        assert failed([*map(admitted, BURST_S[:9]), refused(0.4)]) == ["not under"]

    def test_after_the_burst(self) -> None:
        """A refusal after ten of ten requests is justified."""
        assert failed([*map(admitted, BURST_S), refused(0.3)]) == []

    def test_after_charged_refusals(self) -> None:
        """A refusal that only earlier refusals explain fails "refusals are free"."""
        flood = [refused(0.2 + n / 100) for n in range(9)]

        assert failed([*map(admitted, BURST_S), *flood, refused(2.0)]) == ["refusals are free"]

    @pytest.mark.parametrize(("at_s", "expected"), [(0.9, []), (1.1, []), (4.0, ["slots"])])
    def test_after_held_requests(self, at_s: float, expected: list[str]) -> None:
        """A slot that is still in use after its body ended or its client left fails "slots"."""
        streams = [admitted(n / 100, until_s=1.0, hung_up=n > 1) for n in range(3)]

        assert failed([*streams, refused(at_s)]) == expected

    def test_during_another_keys_flood(self) -> None:
        """A refusal of an unused key during another key's flood fails "isolation"."""
        flood = [admitted(n / 100, profile="isolation") for n in range(10)]

        assert failed([*flood, refused(0.3, profile="isolation", key=1)]) == ["isolation"]

    def test_strict_gateway_with_two_keys(self) -> None:
        """A gateway that is too strict with a single key fails "not under" only, also with two keys."""
        strict = [admitted(1.0, key=1), refused(1.5, key=1)]
        flood = [admitted(2.0 + at_s, profile="isolation") for at_s in BURST_S]

        assert failed([*strict, *flood, refused(2.3, profile="isolation", key=1)]) == ["not under"]

    def test_after_a_failed_request(self) -> None:
        """A request without a response may have been charged, so it justifies a later refusal."""
        used = [*map(admitted, BURST_S[:9])]
        lost = admitted(0.1, outcome=Outcome.FAILED, status=0, error="no answer")

        assert failed([*used, lost, refused(0.3)]) == ["answers"]


class TestWaits:
    """Requests after a promised wait, and before its end."""

    def test_refused_after_the_wait(self) -> None:
        """A second refusal after the promised wait fails, even if the bucket is still empty."""
        slow, body = Plan("p", (Rate("slow", 10, 40_000),)), BODY.replace("2 seconds", "1 second")
        one_second = {"headers": (JSON, ("retry-after", "1")), "body": body}
        observations = [*map(admitted, BURST_S), refused(0.4, **one_second), refused(1.5)]

        assert failed(observations, Tolerances(slow)) == ["honest wait"]

    @pytest.mark.parametrize(("back_s", "expected"), [(1.2, ["honest wait"]), (1.5, []), (2.5, [])])
    def test_admitted_before_the_end(self, back_s: float, expected: list[str]) -> None:
        """An admission more than one second early fails; less is allowed, because seconds are rounded up."""
        assert failed([*map(admitted, BURST_S), refused(0.35), admitted(back_s)]) == expected

    def test_not_judged_if_a_later_request_overlaps(self) -> None:
        """A later request that overlaps may have taken the token, so the pair is not judged."""
        slow = Tolerances(Plan("p", (Rate("rate", 10, 20_000),)))
        back = replace(refused(2.5), answered_us=2_700_000, alive_us=2_700_000, ended_us=2_700_000)

        assert failed([*map(admitted, BURST_S), refused(0.4), back, admitted(2.55)], slow) == []
        assert "honest wait" in failed([*map(admitted, BURST_S), refused(0.4), back], slow)

    def test_not_judged_if_an_earlier_request_overlaps(self) -> None:
        """An earlier request of the key that is still open explains an early admission."""
        held = admitted(0.3, until_s=0.6)

        assert failed([*map(admitted, BURST_S[:9]), held, refused(0.4), admitted(1.2)]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": (JSON,)},
        {"headers": (JSON, ("retry-after", "0"))},
        {"headers": (JSON, ("retry-after", "1.5"))},
        {"headers": (JSON, ("retry-after", "3"))},
        {"headers": (("content-type", "text/html"), ("retry-after", "2"))},
        {"headers": (*REFUSAL["headers"], ("ratelimit", '"rate";r=;t=1'))},
        {"headers": (*REFUSAL["headers"], ("ratelimit", '"rate";t=1'))},
        {"headers": (*REFUSAL["headers"], ("ratelimit-policy", '"rate";q=11;w=4'))},
        {"headers": (*REFUSAL["headers"], ("ratelimit-policy", '"rate";w=4, "rate";q=10'))},
        {"body": "Too Many Requests"},
        {"body": BODY.replace("2 seconds", "2 second")},
        {"body": BODY.replace("_error", "")},
        {"body": BODY.replace("code", "kode")},
        {"body": BODY[:-1] + ',"more":1}'},
    ],
    ids=str,
)
def test_malformed_refusal_breaks_the_contract(wrong: dict[str, Any]) -> None:
    """Every deviation of a refusal from the contract fails "contract"."""
    assert "contract" in failed([*map(admitted, BURST_S), refused(0.1, **wrong)])


def test_more_requests_in_flight_than_slots() -> None:
    """Only requests that certainly overlapped are counted together."""
    streams = [admitted(n / 100, until_s=1.0) for n in range(4)]

    assert failed(streams) == ["slots"]
    assert failed([*streams[:3], admitted(1.0, until_s=2.0)]) == []


@pytest.mark.parametrize(("last_ms", "expected"), [(5, []), (300, ["isolation"])])
def test_slow_neighbour(last_ms: int, expected: list[str]) -> None:
    """A higher median latency during another key's flood fails "isolation"; one slow request does not."""

    def slow(at_s: float, ms: int) -> Observation:
        one = admitted(at_s, profile="isolation", key=1)
        return replace(one, answered_us=one.sent_us + ms * 1_000, alive_us=one.sent_us + ms * 1_000)

    flood = [refused(5 + n / 10, profile="isolation") for n in range(20)]
    used = [admitted(4.9 + at_s) for at_s in BURST_S]
    before = [slow(n, 3) for n in range(3)]
    during = [slow(5.1, 300), slow(6.0, 5), slow(6.5, last_ms)]

    tolerances = Tolerances(Plan("p", (Rate("rate", 10, 400_000),)))
    assert failed([*used, *flood, *before, *during], tolerances) == expected


def test_no_requests() -> None:
    """Without requests, "answers" fails and no other promise is shown."""
    results = {one.name: one.result for one in audit([], TOLERANCES)}

    assert results.pop("answers") == Result.FAILED
    assert set(results) == {*NAMES} - {"answers"}
    assert set(results.values()) == {Result.NOT_SHOWN}


def test_row_round_trip() -> None:
    """An observation survives the conversion to a row and back."""
    one = refused(0.25)

    assert Observation.from_row(astuple(one)) == one
