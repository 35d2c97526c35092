"""The circuit breaker: when it opens, who probes, how it closes."""

import pytest

from awx_ratelimit.backends.resilience.circuit_breaker import MAX_CONSECUTIVE_FAILURES, CircuitBreaker


def fail(breaker: CircuitBreaker, times: int, now_s: float = 0.0) -> list[bool]:
    """Let this many claims fail. Returns for each whether it began an outage."""
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
    """The fifth failure begins the outage, and then no claim may go."""
    breaker = CircuitBreaker()

    assert fail(breaker, MAX_CONSECUTIVE_FAILURES) == [False] * 4 + [True]
    assert breaker.permit(0.1) is None


def test_a_success_resets_the_count() -> None:
    """Four failures, a success and four failures do not open it."""
    breaker = CircuitBreaker()
    fail(breaker, 4)
    breaker.on_success(0)
    fail(breaker, 4)

    assert breaker.is_closed


def test_a_half_failed_window_opens_it() -> None:
    """Ten failures in the last twenty results open it, even if no two were in a row."""
    breaker = CircuitBreaker()
    begun = []
    for _ in range(10):
        breaker.on_success(0)
        begun += fail(breaker, 1)

    assert begun == [False] * 9 + [True]


def test_one_claim_probes_after_the_pause(opened: CircuitBreaker) -> None:
    """During the pause no claim may go; after it, one claim may."""
    asked = [opened.permit(now_s) is not None for now_s in (0.24, 0.25, 0.25, 0.26)]

    assert asked == [False, True, False, False]


def test_a_successful_probe_closes_it(opened: CircuitBreaker) -> None:
    """All claims may go again, and five failures in a row open it again."""
    ticket = opened.permit(0.25)
    assert ticket is not None

    ended = opened.on_success(ticket)

    assert ended is True
    assert fail(opened, MAX_CONSECUTIVE_FAILURES, 0.3) == [False] * 4 + [True]


def test_failed_probes_double_the_pause(opened: CircuitBreaker) -> None:
    """Each failed probe doubles the pause, up to two seconds."""
    now_s, pauses = 0.0, []
    for pause_s in (0.25, 0.5, 1.0, 2.0, 2.0):
        early = opened.permit(now_s + pause_s - 0.01)
        now_s += pause_s
        ticket = opened.permit(now_s)
        assert ticket is not None
        opened.on_failure(ticket, now_s, 1.0)
        pauses.append(early)

    assert pauses == [None] * 5


def test_pauses_are_random() -> None:
    """A pause lasts between half and all of its length, so that processes do not probe together."""
    breaker = CircuitBreaker()
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        breaker.on_failure(0, 0.0, 0.0)

    assert breaker.permit(0.124) is None
    assert breaker.permit(0.125) is not None


def test_late_results_are_ignored(opened: CircuitBreaker) -> None:
    """Results of claims from before it opened neither close it nor extend the pause."""
    late_success, late_failure = opened.on_success(0), opened.on_failure(0, 0.2, 1.0)

    assert late_success is False
    assert late_failure is False
    assert opened.is_closed is False
    assert opened.permit(0.25) is not None


def test_a_lost_probe_times_out(opened: CircuitBreaker) -> None:
    """Five seconds after a probe without a result, another claim probes."""
    asked = [opened.permit(now_s) is not None for now_s in (0.25, 5.2, 5.25)]

    assert asked == [True, False, True]


def test_claims_of_one_call_count_once() -> None:
    """If every second call fails, it opens, even with thirty claims in each successful call."""
    breaker = CircuitBreaker()
    begun = []
    for call in range(10):
        for _ in range(30):
            breaker.on_success(0, call)
        begun += fail(breaker, 1)

    assert begun == [False] * 9 + [True]


def test_a_probe_without_a_result_changes_nothing(opened: CircuitBreaker) -> None:
    """The pause neither ends nor grows, and another claim probes after it."""
    ticket = opened.permit(0.25)
    assert ticket is not None

    opened.on_no_result(ticket, 0.25)

    assert [opened.permit(now_s) is not None for now_s in (0.49, 0.5)] == [False, True]
    assert not opened.is_closed
