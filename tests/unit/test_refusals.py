import logging

import pytest

from awx_ratelimit import Limiter, MemoryBackend, Plan, RefusalLog
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("p", per_minute=1, concurrent=1)


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_refusals_are_logged_with_their_fields_and_sampled(caplog: pytest.LogCaptureFixture) -> None:
    """At most so many lines a second are written; the next one says how many were left out."""
    seconds = Seconds()
    log = RefusalLog(lines_per_second=2, clock=seconds)
    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[log])
    with caplog.at_level(logging.WARNING, "awx_ratelimit.refusals"):
        for _ in range(6):
            limiter.acquire("key_1", PLAN)
        seconds.now = 1.5
        limiter.acquire("key_1", PLAN)

    assert [record.left_out for record in caplog.records] == [0, 0, 3]  # type: ignore[attr-defined]
    assert caplog.messages[0] == "refused 'key_1' under p by ['minute', 'concurrent']: cost 1, retry after 60000 ms"
    assert (caplog.records[0].subject, caplog.records[0].limits) == ("key_1", ["minute", "concurrent"])  # type: ignore[attr-defined]


def test_what_is_allowed_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A listener of refusals says nothing of what was admitted."""
    Limiter(MemoryBackend(), listeners=[RefusalLog()]).acquire("key_1", PLAN)

    assert caplog.records == []


def test_a_rate_of_lines_below_one_is_an_error() -> None:
    """A log that would never say anything is refused."""
    with pytest.raises(ValueError, match="at least 1"):
        RefusalLog(lines_per_second=0)
