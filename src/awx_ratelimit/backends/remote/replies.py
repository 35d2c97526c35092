"""Replies of a server: to calls, or in the place of a reply that did not come."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from awx_ratelimit.errors import BackendUnavailable

#: A call of a script or a function. Only the dialect knows what it consists of.
Call: TypeAlias = Any
#: The reply to a call; a BackendUnavailable if the server refused this call alone; a Redirect if it did not run it.
Reply: TypeAlias = Any


class Redirect(NamedTuple):
    """A reply of a call that did nothing: send it to `server`, or fail with `error` if no time is left.

    `server` is None for the one that replied.
    """

    server: Any
    error: BackendUnavailable


def raise_error(reply: Reply) -> Any:
    """Return `reply`, or raise it if it is an error."""
    if isinstance(reply, (BackendUnavailable, Redirect)):
        raise reply if isinstance(reply, BackendUnavailable) else reply.error
    return reply


def raise_first(replies: Sequence[Reply]) -> None:
    """Raise the first error in `replies`."""
    for reply in replies:
        raise_error(reply)


def failure(reply: Reply, server: str) -> BackendUnavailable:
    """The error in the reply to a call, or the one for a reply of another kind, which a broken proxy may send."""
    if isinstance(reply, BackendUnavailable):
        return reply
    return BackendUnavailable(f"{server}: the reply to a claim was malformed")


def copied_error(cause: BaseException) -> BackendUnavailable:
    """The error for one of several claims that failed together: a shared exception would collect all tracebacks."""
    known = cause if isinstance(cause, BackendUnavailable) else None
    error = type(known)(*known.args) if known else BackendUnavailable("the call was abandoned before its reply arrived")
    error.__cause__ = cause
    # An exception that interrupted the call in this process says nothing about the server.
    error.process_was_late = known is None or known.process_was_late
    error.record_is_locked = known is not None and known.record_is_locked
    return error


def locked_error(what: str) -> BackendUnavailable:
    """The error for a claim of a record that another transaction keeps locked. It says nothing about the server."""
    error = BackendUnavailable(f"{what} is locked by another transaction; end it, and do not lock records")
    error.record_is_locked = True
    return error


def not_sent_error(reason: str) -> BackendUnavailable:
    """The error for a claim that this process did not send: it is late or exiting. It says nothing about the server."""
    error = BackendUnavailable(f"this process is {reason}")
    error.process_was_late = True
    return error
