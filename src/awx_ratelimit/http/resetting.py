"""An operator resets the usage of a subject: what is counted for it, the event in the audit trail, and what is said.

The operator's REST API, ``awx-ratelimit`` and ``manage.py awx_ratelimit`` share it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Optional

from awx_ratelimit.http.known_callers import stored_caller
from awx_ratelimit.http.subject_usage import address_hint
from awx_ratelimit.runtime.documentation import page

if TYPE_CHECKING:
    from awx_ratelimit.keys import KeyService


class UsageReset(NamedTuple):
    """A reset of what is counted for the subject `counted`. `was_counted`: there was something to reset.

    `is_recorded`: the audit trail has the event.
    """

    counted: str
    was_counted: bool
    is_recorded: bool


def reset_usage(
    reset: Callable[[str], bool],
    subject: str,
    scope: str | None,
    *,
    keys: Optional["KeyService"],
    actor: str,
) -> UsageReset:
    """Reset what `subject` uses in `scope`: `reset` gets another subject for a rotated key of the store `keys`.

    If anything was counted for a key or an account of the store, its audit trail gets the event, with `actor`. Raises
    KeyNotFound for the ID of a key that the store does not have, and what `reset` raises.
    """
    caller = None if keys is None else stored_caller(keys, subject)
    counted = subject if caller is None else caller.subject
    was_counted = reset(counted)
    is_recorded = was_counted and keys is not None and keys.operator.record_reset(subject, scope, actor=actor)
    return UsageReset(counted, was_counted, is_recorded)


def usage_reset(subject: str, counted: str) -> str:
    """That the usage of `subject` was reset, which is counted under the subject `counted`."""
    return "usage reset" if counted == subject else f"usage of {counted} reset, which {subject} shares"


def nothing_to_reset(subject: str, scope: str | None = None, *, is_known: bool) -> str:
    """Why a reset of `subject` has changed nothing. `is_known`: there is such a caller, so the name is right."""
    where = "" if scope is None else f" in the scope {scope!r}"
    said = f"nothing was reset, because nothing is counted for the subject{where} now"
    if is_known:
        return said
    named = address_hint(subject)
    scopes = "" if scope is None else " Without a scope, all its scopes are reset."
    return (
        f"{said}. Either it made no requests, everything has refilled, or your app names it otherwise.{named}{scopes} "
        f"See {page('identify', 'the-name-of-a-subject')}"
    )
