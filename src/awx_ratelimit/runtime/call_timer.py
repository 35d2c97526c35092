"""The deadline of the calls of one event loop, one call after another, without a task and a timer for each."""

import asyncio
from collections.abc import Callable

#: As in `deadlines`: parts of a wait, and iterations of the loop in which a late reply may still be read.
_PARTS = 5
_TURNS = 4


class CallTimer:
    """Calls `expire` if a call that `begin` started has not ended after `seconds`. See `deadlines` for late processes.

    It wakes up a few times in `seconds` while there are calls, however many there are, and not at all otherwise.
    """

    __slots__ = ("_begun_s", "_due_s", "_expire", "_handle", "_late_s", "_loop", "_seconds", "_turns", "_until_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expire = expire
        self._handle: asyncio.Handle | None = None
        #: 0 while there is no call.
        self._until_s = self._begun_s = self._late_s = self._due_s = 0.0
        self._turns = _TURNS

    def begin(self) -> None:
        """A call begins now."""
        self._begun_s = self._loop.time()
        self._until_s = self._begun_s + self._seconds
        self._late_s = 0.0
        self._turns = _TURNS
        if self._handle is None:
            self._wait(self._begun_s)

    def end(self) -> None:
        """The call has ended."""
        self._until_s = 0.0

    def left_s(self) -> float:
        """The seconds that are left of a call that has not ended, at least 0."""
        return max(0.0, self._until_s - self._loop.time())

    def _wait(self, now_s: float) -> None:
        self._due_s = min(now_s + self._seconds / _PARTS, self._until_s)
        self._handle = self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        self._handle = None
        if not self._until_s:
            return
        now_s = self._loop.time()
        # Only delays since the call has begun are its own.
        late_s = now_s - max(self._due_s, self._begun_s)
        if late_s > self._late_s:
            self._until_s += late_s - self._late_s
            self._late_s = late_s
        if now_s < self._until_s:
            self._wait(now_s)
        elif self._turns:
            # A reply may lie in the socket.
            self._turns -= 1
            self._due_s = now_s
            self._handle = self._loop.call_soon(self._look)
        else:
            self._expire()
