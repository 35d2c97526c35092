"""A breaker for each part of a backend that fails by itself, such as one server of a cluster.

`home` says which part a subject is on; a backend that has none fails as a whole. A part that nobody asks for any more,
for its subjects are elsewhere by now, is forgotten.
"""

from collections.abc import Callable, Hashable
from typing import Any

from awx_ratelimit.wrappers._breaker import Breaker


class Breakers:
    """Used by any thread: each step is one step of a dict."""

    def __init__(self, backend: Any) -> None:
        self._home: Callable[[str], Hashable] = getattr(backend, "home", _whole)
        self._breakers: dict[Hashable, Breaker] = {}

    def of(self, subject: str) -> Breaker:
        """The breaker of the part that `subject` is on."""
        home = self._home(subject)
        return self._breakers.get(home) or self._breakers.setdefault(home, Breaker())

    def opened(self, now_s: float) -> int:
        """How many are open, and still asked for."""
        for home, breaker in self._breakers.copy().items():
            if breaker.is_forgotten(now_s):
                self._breakers.pop(home, None)
        return sum(not breaker.is_closed for breaker in self._breakers.copy().values())


def _whole(_: str) -> None:
    """It has no parts."""
