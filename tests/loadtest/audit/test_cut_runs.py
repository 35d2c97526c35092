"""Audits of runs that were cut: all processes at once, or one of them, which was lost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadtest.observations import BURST_S, PLAN, SECOND_US, admitted, observations_of, refused
from tests.strategies import ScheduledRequest, audited_plans, scheduled_requests, with_examples

from awx_ratelimit import Plan
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.promises import audit
from awx_ratelimit.loadtest.audit.verdict import Result, Tolerances

schedules = st.lists(scheduled_requests, min_size=1, max_size=60)


def failed(observations: list[Observation], tolerances: Tolerances) -> list[str]:
    """The names of the failed verdicts."""
    return [one.name for one in audit(observations, tolerances) if one.result is Result.FAILED]


def cut(one: Observation, at_us: int) -> Observation:
    """What is known of a request at `at_us`, after it was sent."""
    if one.answered_us > at_us:
        none = {"outcome": Outcome.UNFINISHED, "status": 0, "headers": (), "body": "", "hung_up": True}
        return replace(one, answered_us=at_us, alive_us=at_us, ended_us=at_us, **none)  # type: ignore[arg-type]
    if one.ended_us > at_us:
        return replace(one, alive_us=min(one.alive_us, at_us), ended_us=at_us, hung_up=True)
    return one


@with_examples(60)
@given(schedules, audited_plans(), st.floats(0, 1), st.booleans())
def test_honest_gateway_passes(schedule: list[ScheduledRequest], plan: Plan, part: float, all_are_lost: bool) -> None:
    """No verdict on an honest gateway fails, whenever all processes of a run are cut, or one of two is lost."""
    seen = observations_of(schedule, plan)
    begin_us, end_us = min(one.sent_us for one in seen), max(one.ended_us for one in seen)
    at_us = begin_us + round(part * (end_us - begin_us))
    lost = seen if all_are_lost else seen[1::2]
    kept = [] if all_are_lost else seen[::2]
    known = kept + [cut(one, at_us) for one in lost if one.sent_us < at_us]

    # A run without requests proves nothing, and fails "answers".
    assert not known or failed(known, Tolerances(plan, known_until_us=None if all_are_lost else at_us)) == []


class TestLostProcess:
    """What a run proves after one of its processes was lost."""

    @pytest.mark.parametrize(("known_until_s", "expected"), [(0.3, []), (0.402, ["not under"])])
    def test_refusal(self, known_until_s: float, expected: list[str]) -> None:
        """Only refusals before the loss are judged, and the verdict counts the others."""
        tolerances = Tolerances(PLAN, known_until_us=round(known_until_s * SECOND_US))
        seen = [*map(admitted, BURST_S[:9]), refused(0.4)]
        detail = next(one.detail for one in audit(seen, tolerances) if one.name == "not under")

        assert failed(seen, tolerances) == expected
        assert ("refusals after a process was lost, which are not judged: 1" in detail) == (not expected)

    def test_uncertain_clock(self) -> None:
        """A refusal is not judged if it may have been after the loss, by an inaccurate clock."""
        tolerances = Tolerances(PLAN, known_until_us=round(0.402 * SECOND_US), spread_us=1_000)

        assert failed([*map(admitted, BURST_S[:9]), refused(0.4)], tolerances) == []

    def test_refused_after_the_wait(self) -> None:
        """A client that waited may be refused because of requests of the lost process."""
        seen = [*map(admitted, BURST_S), refused(0.3), refused(2.4)]

        assert "honest wait" in failed(seen, Tolerances(PLAN))
        assert failed(seen, Tolerances(PLAN, known_until_us=SECOND_US)) == []

    def test_too_much_is_still_too_much(self) -> None:
        """More admitted requests than the plan allows fail, whatever was lost."""
        seen = [admitted(number / 1_000) for number in range(12)]

        assert failed(seen, Tolerances(PLAN, known_until_us=0)) == ["never over"]
