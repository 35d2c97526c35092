"""The circuit breaker: when it opens, who probes, how it closes."""

import pytest

from awx_ratelimit.backends.resilience.circuit_breaker import MAX_CONSECUTIVE_FAILURES, CircuitBreaker


def fail(breaker: CircuitBreaker, times: int, now_s: float = 0.0) -> list[bool]:
    """Ask and fail so many times."""
    return [
        breaker.on_failure(ticket, now_s, 1.0) for _ in range(times) if (ticket := breaker.permit(now_s)) is not None
    ]


@pytest.fixture
def opened() -> CircuitBreaker:
    """A breaker that opened at 0 s, whose first pause lasts 0.25 s."""
    breaker = CircuitBreaker()
    fail(breaker, MAX_CONSECUTIVE_FAILURES)
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    """The fifth begins the outage, and then nobody may ask."""
    breaker = CircuitBreaker()

    assert fail(breaker, MAX_CONSECUTIVE_FAILURES) == [False] * 4 + [True]
    assert breaker.permit(0.1) is None


def test_an_answer_in_between_begins_the_row_anew() -> None:
    """Four failures, an answer and four failures open nothing."""
    breaker = CircuitBreaker()
    fail(breaker, 4)
    breaker.on_success(0)
    fail(breaker, 4)

    assert breaker.is_closed


def test_half_of_a_window_opens_it() -> None:
    """Of the last twenty, ten failures open it though never two came in a row."""
    breaker = CircuitBreaker()
    begun = []
    for _ in range(10):
        breaker.on_success(0)
        begun += fail(breaker, 1)

    assert begun == [False] * 9 + [True]


def test_one_claim_probes_when_the_pause_is_over(opened: CircuitBreaker) -> None:
    """Before it nobody asks; after it one does, and the others do not."""
    asked = [opened.permit(now_s) is not None for now_s in (0.24, 0.25, 0.25, 0.26)]

    assert asked == [False, True, False, False]


def test_a_probe_that_is_answered_ends_the_outage(opened: CircuitBreaker) -> None:
    """Everybody asks again, and it takes five failures in a row to open it once more."""
    ticket = opened.permit(0.25)
    assert ticket is not None

    ended = opened.on_success(ticket)

    assert ended is True
    assert fail(opened, MAX_CONSECUTIVE_FAILURES, 0.3) == [False] * 4 + [True]


def test_pauses_grow_while_the_outage_lasts(opened: CircuitBreaker) -> None:
    """Each probe that fails doubles the pause, up to two seconds."""
    now_s, pauses = 0.0, []
    for pause_s in (0.25, 0.5, 1.0, 2.0, 2.0):
        early = opened.permit(now_s + pause_s - 0.01)
        now_s += pause_s
        ticket = opened.permit(now_s)
        assert ticket is not None
        opened.on_failure(ticket, now_s, 1.0)
        pauses.append(early)

    assert pauses == [None] * 5


def test_a_pause_is_between_half_and_all_of_its_length() -> None:
    """By chance, so that the processes of a host do not all probe at one moment."""
    breaker = CircuitBreaker()
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        breaker.on_failure(0, 0.0, 0.0)

    assert breaker.permit(0.124) is None
    assert breaker.permit(0.125) is not None


def test_what_comes_late_says_nothing_of_now(opened: CircuitBreaker) -> None:
    """Claims that were under way when it opened neither close it nor make the pause longer."""
    late = (opened.on_success(0), opened.on_failure(0, 0.2, 1.0))

    assert late == (False, False)
    assert opened.is_closed is False
    assert opened.permit(0.25) is not None


def test_a_probe_that_never_comes_back_is_forgotten(opened: CircuitBreaker) -> None:
    """After five seconds another claim probes."""
    asked = [opened.permit(now_s) is not None for now_s in (0.25, 5.2, 5.25)]

    assert asked == [True, False, True]


def test_the_claims_of_one_call_are_one_answer() -> None:
    """Every second call fails and has thirty claims in between: half of the calls have failed, and that opens it."""
    breaker = CircuitBreaker()
    begun = []
    for call in range(10):
        for _ in range(30):
            breaker.on_success(0, call)
        begun += fail(breaker, 1)

    assert begun == [False] * 9 + [True]


def test_a_probe_of_a_late_process_says_nothing(opened: CircuitBreaker) -> None:
    """The pause neither ends nor grows, and another claim probes after it."""
    ticket = opened.permit(0.25)
    assert ticket is not None

    opened.on_no_result(ticket, 0.25)

    assert [opened.permit(now_s) is not None for now_s in (0.49, 0.5)] == [False, True]
    assert not opened.is_closed
