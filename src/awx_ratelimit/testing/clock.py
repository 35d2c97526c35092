"""`ManualClock`: time that passes only when a test says so."""


class ManualClock:
    """A clock in milliseconds that stands still between calls of `advance` and `set`."""

    def __init__(self, start_ms: int = 0) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """The time it was set to."""
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Go on by `ms`; a negative number is a step back."""
        self._now_ms += ms

    def set(self, now_ms: int) -> None:
        """Jump to `now_ms`, forwards or back."""
        self._now_ms = now_ms
