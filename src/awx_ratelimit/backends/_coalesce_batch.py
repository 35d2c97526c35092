"""Group commit, without any waiting: which claims go together in the next call.

While one batch is under way, the claims that come wait; when it has been answered, all that wait go together. A claim
whose caller has gone before it was sent is dropped.
"""

from collections import deque
from typing import Generic, Protocol, TypeVar

from awx_ratelimit.errors import BackendUnavailable

#: The most claims of one call, so that the server is never busy with one of them for long.
MOST_CLAIMS = 128


class Waiter(Protocol):
    """Somebody who waits for an answer."""

    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        ...


W = TypeVar("W", bound=Waiter)


class Batches(Generic[W]):
    """The waiters that were not sent yet, in the order in which they came. Used by one thread at a time."""

    def __init__(self) -> None:
        self._waiting: deque[W] = deque()

    def add(self, waiter: W) -> None:
        """Wait with the others for the next batch."""
        self._waiting.append(waiter)

    def next(self) -> list[W]:
        """The batch to send now; empty where nobody waits."""
        batch: list[W] = []
        while self._waiting and len(batch) < MOST_CLAIMS:
            waiter = self._waiting.popleft()
            if not waiter.gone():
                batch.append(waiter)
        return batch

    def all(self) -> list[W]:
        """Everybody who waits, in no batch any more: the call before theirs had no answer."""
        waiting = [waiter for waiter in self._waiting if not waiter.gone()]
        self._waiting.clear()
        return waiting

    def first(self) -> W | None:
        """Who would be the first of the next batch."""
        while self._waiting and self._waiting[0].gone():
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None


def unavailable(cause: BaseException) -> BackendUnavailable:
    """An error for one of those that `cause` has left without an answer: a shared one would gather all tracebacks."""
    known = cause if isinstance(cause, BackendUnavailable) else None
    error = type(known)(*known.args) if known else BackendUnavailable("the call was given up before its answer came")
    error.__cause__ = cause
    return error
