"""When to ask a backend, and when to know better: a circuit breaker as a state machine, without clock, lock or chance.

    closed   every claim asks. So many failures in a row, or half of a window: open.
    open     nobody asks until a pause is over. The pause grows while the outage lasts.
    probing  the pause is over: one claim asks, all others go on as if open. It is answered: closed. It is not: open.

A probe that never comes back is forgotten after a while. Who asks gets a ticket, and what comes back with a ticket of
before says nothing of now. What is counted are calls: claims that wait at the same time, for one answer, fail as one,
and the claims of one call are one answer. Two threads that come at one moment may both probe: it costs one call more,
and so there is no lock. Each part of a backend that fails by itself, such as a server of a cluster, has one of its own.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from awx_ratelimit.backends.base import HasServers

#: So many failures in a row open it.
MAX_CONSECUTIVE_FAILURES = 5
#: So many answers are looked at, of which half must have failed.
WINDOW = 20
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 2.0
_FORGOTTEN_AFTER_S = 5.0
#: A pause lasts this share of its length at least: not all processes ask at one moment.
_SHORTEST = 0.5


class Breaker:
    """Times are seconds of a clock that does not jump; `chance` is a number from 0 to 1."""

    def __init__(self, part: Any = None) -> None:
        #: What it stands before.
        self.part = part
        self.is_closed = True
        #: How many failures it has counted.
        self.failures = 0
        self._answered_call: int | None = None
        self._ticket = 0
        self._in_a_row = 0
        self._failed: deque[bool] = deque(maxlen=WINDOW)
        self._pause_s = _FIRST_PAUSE_S
        self._ask_again_s = 0.0

    def ask(self, now_s: float) -> int | None:
        """A ticket for who may ask the backend; None for who may not."""
        if not self.is_closed:
            if now_s < self._ask_again_s:
                return None
            self._ask_again_s = now_s + _FORGOTTEN_AFTER_S
        return self._ticket

    def is_forgotten(self, now_s: float) -> bool:
        """Whether it is open, and nobody has come to probe for long."""
        return not self.is_closed and now_s > self._ask_again_s + _FORGOTTEN_AFTER_S

    def answered(self, ticket: int, call: int | None = None) -> bool:
        """The backend has answered the claim with this ticket. Whether that ends an outage.

        `call` is the number of the call that was answered last: each number counts once. None counts always.
        """
        if ticket != self._ticket:
            return False
        self._in_a_row = 0
        if call is None or call != self._answered_call:
            self._answered_call = call
            self._failed.append(False)
        if self.is_closed:
            return False
        self._turn(closed=True)
        return True

    def failed(self, ticket: int, now_s: float, chance: float) -> bool:
        """The backend has not answered who had this ticket. Whether that begins an outage."""
        if ticket != self._ticket:
            return False
        self.failures += 1
        self._in_a_row += 1
        self._failed.append(True)
        begins = self.is_closed and (self._in_a_row >= MAX_CONSECUTIVE_FAILURES or 2 * sum(self._failed) >= WINDOW)
        if begins:
            self._turn(closed=False)
        if not self.is_closed:
            self._ask_again_s = now_s + self._pause_s * (_SHORTEST + (1 - _SHORTEST) * chance)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return begins

    def postponed(self, ticket: int, now_s: float) -> None:
        """The claim ended late, or not at all: the backend is as before. An open breaker soon lets another probe."""
        if ticket == self._ticket and not self.is_closed:
            self._ask_again_s = now_s + _FIRST_PAUSE_S

    def _turn(self, *, closed: bool) -> None:
        self.is_closed = closed
        self._ticket += 1
        self._in_a_row = 0
        self._failed.clear()
        self._pause_s = _FIRST_PAUSE_S


class Breakers:
    """A breaker for each part of `backend`; one without a ``home(subject)`` fails as a whole.

    Used by any thread: each step is one step of a dict. A part that nobody asks for any more, for its subjects are
    elsewhere by now, is forgotten.
    """

    def __init__(self, backend: Any) -> None:
        #: Which part a subject is on.
        self.home: Callable[[str], Hashable] = backend.home if isinstance(backend, HasServers) else _whole
        self._breakers: dict[Hashable, Breaker] = {}

    def of(self, subject: str) -> Breaker:
        """The breaker of the part that `subject` is on."""
        home = self.home(subject)
        return self._breakers.get(home) or self._breakers.setdefault(home, Breaker(home))

    def opened(self, now_s: float) -> int:
        """How many are open, and still asked for."""
        for home, breaker in self._breakers.copy().items():
            if breaker.is_forgotten(now_s):
                self._breakers.pop(home, None)
        return sum(not breaker.is_closed for breaker in self._breakers.copy().values())


def _whole(_: str) -> None:
    """It has no parts."""
