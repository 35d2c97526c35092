"""The time that this process sends with its calls."""

from awx_ratelimit.backends.remote.pending_claims import OtherPeriod
from awx_ratelimit.runtime.clock import Clock, WallClock


class Present:
    """`clock` gives the time of every call; None uses the server's time."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self._wall_ms = (clock or WallClock()).now_ms
        #: How far the server's clock was ahead of this machine's, when that mattered to a calendar period.
        self._ahead_ms = 0

    def call_time_ms(self) -> int | None:
        """The time to send with a call; None lets the server use its own."""
        return self._clock.now_ms() if self._clock else None

    def ms(self) -> int:
        """The time of the server as far as this process knows: it chooses the calendar periods to send."""
        return self._wall_ms() + self._ahead_ms

    def note(self, answer: OtherPeriod) -> tuple[int, ...]:
        """Take the server's time from `answer`. Returns the stored time whose period is to be sent, if there is one."""
        if self._clock is None:
            self._ahead_ms = answer.now_ms - self._wall_ms()
        return (answer.at_ms,) if answer.at_ms > answer.now_ms else ()
