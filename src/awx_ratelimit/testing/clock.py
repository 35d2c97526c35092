"""`ManualClock`: a clock that moves only when a test moves it."""


class ManualClock:
    """A clock in milliseconds since the Unix epoch. It stands still between calls of `advance` and `set`."""

    def __init__(self, start_ms: int = 0) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """Return the current time of this clock."""
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Move the clock by `ms`; a negative number moves it back."""
        self._now_ms += ms

    def set(self, now_ms: int) -> None:
        """Set the clock to `now_ms`, which may be earlier than its current time."""
        self._now_ms = now_ms
