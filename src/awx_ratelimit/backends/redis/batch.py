"""Group commit, without any waiting: which claims go together in the next call.

While one batch is under way, the claims that come wait; when it has been answered, all that wait go together. A claim
whose caller has gone before it was sent is dropped.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from awx_ratelimit.errors import BackendUnavailable

#: The most claims of one call, so that the server is never busy with one of them for long.
MAX_BATCH_CLAIMS = 128


W = TypeVar("W")


class BatchQueue(Generic[W]):
    """The waiters that were not sent yet, in the order in which they came. Used by one thread at a time.

    `gone` says of one whether nobody waits for it any more.
    """

    def __init__(self, gone: Callable[[W], bool]) -> None:
        self._gone = gone
        self._waiting: list[W] = []

    def add(self, waiter: W) -> int:
        """Wait with the others for the next batch. How many wait now, those included who have gone."""
        self._waiting.append(waiter)
        return len(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def next(self, most: int = MAX_BATCH_CLAIMS) -> list[W]:
        """The batch to send now; empty where nobody waits."""
        batch: list[W] = []
        while self._waiting and not batch:
            first, self._waiting = self._waiting[:most], self._waiting[most:]
            batch = [waiter for waiter in first if not self._gone(waiter)]
        return batch

    def all(self) -> list[W]:
        """Everybody who waits, in no batch any more: the call before theirs had no answer."""
        everybody, self._waiting = self._waiting, []
        return [waiter for waiter in everybody if not self._gone(waiter)]

    def first(self) -> W | None:
        """Who would be the first of the next batch."""
        while self._waiting and self._gone(self._waiting[0]):
            self._waiting.pop(0)
        return self._waiting[0] if self._waiting else None


def unavailable(cause: BaseException) -> BackendUnavailable:
    """An error for one of those that `cause` has left without an answer: a shared one would gather all tracebacks."""
    known = cause if isinstance(cause, BackendUnavailable) else None
    error = type(known)(*known.args) if known else BackendUnavailable("the call was given up before its answer came")
    error.__cause__ = cause
    # Whatever interrupted a call in this process says nothing about the server.
    error.process_was_late = known is None or known.process_was_late
    return error


def delayed(what: str) -> BackendUnavailable:
    """The error for a claim that this process did not get around to sending: it says nothing about the server."""
    error = BackendUnavailable(f"this process is late: {what}")
    error.process_was_late = True
    return error


def process_ends() -> BackendUnavailable:
    """The error for a claim of a slot at the end of this process: it says nothing about the server."""
    error = BackendUnavailable("this process ends; it has given all slots back and takes no more")
    error.process_was_late = True
    return error
