"""The audit alone, on gateways of which every moment is known."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadtest.observed import observed
from tests.strategies import Asked, asked, audited_plans, with_examples

from awx_ratelimit import Concurrency, Plan, Rate
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.promises import NAMES, audit
from awx_ratelimit.loadtest.audit.rate_bound import tightest_interval
from awx_ratelimit.loadtest.audit.tolerances import Tolerances
from awx_ratelimit.loadtest.audit.verdict import Result, Verdict

PLAN = Plan("p", (Rate("rate", 10, 4_000),), Concurrency(3))
TOLERANCES = Tolerances(PLAN)
SECOND_US = 1_000_000
JSON = ("content-type", "application/json")
BODY = (
    '{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Rate limit exceeded. Retry after 2 seconds."}'
)
REFUSAL: dict[str, Any] = {"headers": (JSON, ("retry-after", "2")), "body": BODY}
USED_S = [number / 2_000 for number in range(10)]


def let_in(at_s: float, *, until_s: float = 0.0, **more: Any) -> Observation:
    """Admitted within a millisecond, and under way until `until_s`."""
    sent_us = round(at_s * SECOND_US)
    end_us = max(round(until_s * SECOND_US), sent_us + 1_000)
    given = {"profile": "test", "key": 0, "outcome": Outcome.ADMITTED, "status": 200, "ended_us": end_us, **more}
    return Observation(sent_us=sent_us, answered_us=sent_us + 1_000, alive_us=end_us, **given)


def refused(at_s: float, **more: Any) -> Observation:
    """Refused within a millisecond, with a wait of 2 s."""
    return let_in(at_s, outcome=Outcome.REFUSED, status=429, **{**REFUSAL, **more})


def verdicts(observations: list[Observation], terms: Tolerances = TOLERANCES) -> dict[str, Verdict]:
    """The verdicts by name."""
    return {one.name: one for one in audit(observations, terms)}


def failed(observations: list[Observation], terms: Tolerances = TOLERANCES) -> list[str]:
    """The names of the verdicts that failed."""
    return [one.name for one in audit(observations, terms) if one.result is Result.FAILED]


@with_examples(60)
@given(st.lists(asked, min_size=1, max_size=60), audited_plans())
def test_an_honest_gateway_passes_whenever_it_decides(schedule: list[Asked], plan: Plan) -> None:
    """Whatever is sent, however long it is under way, and whenever in that time it is decided: nothing fails."""
    found = audit(observed(schedule, plan), Tolerances(plan))

    assert [one.name for one in found] == [*NAMES]
    assert [one for one in found if one.result is Result.FAILED] == []


@with_examples(60)
@given(st.lists(asked, min_size=1, max_size=60), audited_plans(), st.integers(0, 100_000))
def test_a_spread_between_machines_only_shows_less(schedule: list[Asked], plan: Plan, off_us: int) -> None:
    """Where clocks differ by no more than the spread, an honest gateway passes."""
    seen = [
        replace(one, **{name: getattr(one, name) + off_us * (number % 2) for name in TIMES})
        for number, one in enumerate(observed(schedule, plan))
    ]

    assert failed(seen, Tolerances(plan, spread_us=100_000)) == []


TIMES = ("sent_us", "answered_us", "alive_us", "ended_us")


@with_examples(60)
@given(st.lists(asked, min_size=1, max_size=40), audited_plans())
def test_the_envelope_is_that_of_every_pair_of_times(schedule: list[Asked], plan: Plan) -> None:
    """The tightest_interval interval is what looking at each pair finds, to the last unit."""
    rate = plan.rates[0]
    some = [one for one in observed(schedule, plan) if one.outcome is Outcome.ADMITTED and one.key == 0]
    found = tightest_interval(some, rate, tolerance_us=10_000, skew_us=0)

    if found is None or rate.calendar:
        return
    assert Fraction(found.excess, found.unit) == max(
        sum(one.cost for one in some if u <= one.sent_us and one.answered_us <= v)
        - rate.burst
        - Fraction(rate.tokens * (v - u + 10_000), rate.period_ms * 1_000)
        for u in {one.sent_us for one in some}
        for v in {one.answered_us for one in some}
        if any(u <= one.sent_us and one.answered_us <= v for one in some)
    )


@given(st.integers(1, 9), st.integers(0, 3_000_000))
def test_one_too_many_is_over(burst: int, gap_us: int) -> None:
    """A burst at each side of any moment is seen to be over exactly when the time between does not give it back."""
    rate = Rate("rate", burst, 1_000)
    some = [let_in(number / 10_000) for number in range(burst)]
    some += [let_in((gap_us + 2_000) / SECOND_US + number / 10_000) for number in range(burst)]
    span_us = some[-1].answered_us - some[0].sent_us + 10_000

    assert ("never over" in failed(some, Tolerances(Plan("p", (rate,))))) == (burst * span_us < burst * SECOND_US)


def test_a_calendar_rate_is_counted_between_its_boundaries() -> None:
    """A whole quota at each side of a boundary is allowed, one more on one side is not."""
    plan = Plan("p", (Rate("minute", 5, 60_000, refill="calendar"),))
    around = [let_in(at_s) for at_s in (50, 51, 52, 53, 54, 66, 67, 68, 69, 70)]

    assert failed(around, Tolerances(plan)) == []
    assert failed([*around, let_in(55)], Tolerances(plan)) == ["never over"]


class TestRefusals:
    """Whose fault a refusal is that nothing explains."""

    def test_within_the_plan(self) -> None:
        """Nine of ten were used."""
        assert failed([*map(let_in, USED_S[:9]), refused(0.4)]) == ["not under"]

    def test_with_the_plan_used_up(self) -> None:
        """Ten of ten were used: it is just."""
        assert failed([*map(let_in, USED_S), refused(0.3)]) == []

    def test_after_refusals_that_were_charged(self) -> None:
        """A token has come back since, and only the refusals before explain why it is not given."""
        flood = [refused(0.2 + n / 100) for n in range(9)]

        assert failed([*map(let_in, USED_S), *flood, refused(2.0)]) == ["refusals are free"]

    def test_after_streams_that_have_ended(self) -> None:
        """A body ended, or its client left, and the slot is still taken."""
        streams = [let_in(n / 100, until_s=1.0, hung_up=n > 1) for n in range(3)]

        assert [failed([*streams, refused(at_s)]) for at_s in (0.9, 1.1, 4.0)] == [[], [], ["slots"]]

    def test_while_another_key_floods(self) -> None:
        """Key 1 has used nothing of its plan, and pays for key 0."""
        flood = [let_in(n / 100, profile="isolation") for n in range(10)]

        assert failed([*flood, refused(0.3, profile="isolation", key=1)]) == ["isolation"]

    def test_beside_another_key_a_strict_gateway_is_strict(self) -> None:
        """It was with that key alone, too: nobody else is to blame."""
        strict = [let_in(1.0, key=1), refused(1.5, key=1)]
        beside = [let_in(2.0 + at_s, profile="isolation") for at_s in USED_S]

        assert failed([*strict, *beside, refused(2.3, profile="isolation", key=1)]) == ["not under"]

    def test_what_failed_may_have_been_charged(self) -> None:
        """A request without an answer explains a refusal after it."""
        used = [*map(let_in, USED_S[:9])]
        lost = let_in(0.1, outcome=Outcome.FAILED, status=0, error="no answer")

        assert failed([*used, lost, refused(0.3)]) == ["answers"]


class TestWaits:
    """What comes back too late, and what too early."""

    def test_refused_after_the_wait(self) -> None:
        """Though the bucket would explain it: the gateway has promised."""
        slow, body = Plan("p", (Rate("slow", 10, 40_000),)), BODY.replace("2 seconds", "1 second")
        told = {"headers": (JSON, ("retry-after", "1")), "body": body}

        assert failed([*map(let_in, USED_S), refused(0.4, **told), refused(1.5)], Tolerances(slow)) == ["honest wait"]

    @pytest.mark.parametrize(("back_s", "expected"), [(1.2, ["honest wait"]), (1.5, []), (2.5, [])])
    def test_let_in_before_it(self, back_s: float, expected: list[str]) -> None:
        """Seconds are rounded up, so one second is forgiven."""
        assert failed([*map(let_in, USED_S), refused(0.35), let_in(back_s)]) == expected

    def test_not_judged_where_another_was_perhaps_decided_first(self) -> None:
        """Whoever was sent later may have taken the token."""
        slow = Tolerances(Plan("p", (Rate("rate", 10, 20_000),)))
        back = replace(refused(2.5), answered_us=2_700_000, alive_us=2_700_000, ended_us=2_700_000)

        assert failed([*map(let_in, USED_S), refused(0.4), back, let_in(2.55)], slow) == []
        assert "honest wait" in failed([*map(let_in, USED_S), refused(0.4), back], slow)

    def test_not_judged_while_others_are_under_way(self) -> None:
        """Something else of the key explains it."""
        assert failed([*map(let_in, USED_S[:9]), let_in(0.3, until_s=0.6), refused(0.4), let_in(1.2)]) == []


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
def test_what_breaks_the_contract(wrong: dict[str, Any]) -> None:
    """Each of these is seen, and nothing else for it."""
    assert "contract" in failed([*map(let_in, USED_S), refused(0.1, **wrong)])


def test_more_at_once_than_slots() -> None:
    """What was surely under way together is counted, and not what may have ended."""
    streams = [let_in(n / 100, until_s=1.0) for n in range(4)]

    assert failed(streams) == ["slots"]
    assert failed([*streams[:3], let_in(1.0, until_s=2.0)]) == []


def test_a_neighbour_who_has_to_wait() -> None:
    """Medians before and within a flood are compared, and one slow request is none."""

    def slow(at_s: float, ms: int) -> Observation:
        one = let_in(at_s, profile="isolation", key=1)
        return replace(one, answered_us=one.sent_us + ms * 1_000, alive_us=one.sent_us + ms * 1_000)

    flood = [refused(5 + n / 10, profile="isolation") for n in range(20)]
    used = [let_in(4.9 + at_s) for at_s in USED_S]
    before = [slow(n, 3) for n in range(3)]
    terms = Tolerances(Plan("p", (Rate("rate", 10, 400_000),)))
    once, often = ([slow(5.1, 300), slow(6.0, 5), slow(6.5, ms)] for ms in (5, 300))

    assert failed([*used, *flood, *before, *once], terms) == []
    assert failed([*used, *flood, *before, *often], terms) == ["isolation"]


def test_nothing_is_shown_by_nothing() -> None:
    """Without requests there is one failure, and not a word of praise."""
    assert {name: one.result for name, one in verdicts([]).items()} == {
        name: Result.FAILED if name == "answers" else Result.NOT_SHOWN for name in NAMES
    }


def test_rows_come_back_as_they_were() -> None:
    """Observations survive the way between processes."""
    one = refused(0.25)

    assert Observation.from_row(one.as_row()) == one
