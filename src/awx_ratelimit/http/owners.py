"""Whose a budget of a rule or a route limit is: the caller's, its account's, its address's, or everybody's."""

import inspect
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, Literal, get_args

from awx_ratelimit.core.budget import EVERYONE, ScopedSubject, scope_alone
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.message import Request

Per = Literal["caller", "account", "address", "everyone"]
_PERS: Final = get_args(Per)
#: Says whose a budget is.
Owner = Per | Callable[[Request], str]
#: Longer results of functions are replaced by a digest, because a client may choose them.
_MAX_SUBJECT_LENGTH: Final = 256


def checked_per(per: Any) -> Owner:
    """Return `per`. Raises InvalidLimit unless it is a name in `Per` or a plain function."""
    is_function = callable(per) and not isinstance(per, type) and not inspect.iscoroutinefunction(per)
    if (isinstance(per, str) and per in _PERS) or is_function:
        return per  # type: ignore[no-any-return]
    raise InvalidLimit(
        f"per: expected one of {', '.join(map(repr, _PERS))}, or a plain function of the request, got {describe(per)}"
    )


def account_record(caller: Caller, scope: str) -> ScopedSubject:
    """The buckets that all keys of an account share. A caller without an account shares its own with nobody."""
    if caller.account:
        return ScopedSubject(exact(caller.account), scope)
    return ScopedSubject(exact(caller.subject), scope_alone(scope))


def owned_record(
    per: Owner, scope: str, request: Request, caller: Caller | None, address: Callable[[Request], str]
) -> ScopedSubject:
    """The buckets of a budget. For a request without a caller they belong to its address.

    Raises TypeError if the function `per` returns anything but a text.
    """
    if callable(per):
        return ScopedSubject(_owner_by(per, request), scope)
    if per == "everyone":
        return ScopedSubject(EVERYONE, scope)
    if per == "account":
        return account_record(caller or Caller(address(request)), scope)
    return ScopedSubject(address(request) if per == "address" or caller is None else exact(caller.subject), scope)


def exact(subject: str) -> str:
    """`subject` as an exact `str`."""
    return subject if subject.__class__ is str else str.__str__(subject)


def _owner_by(per: Callable[[Request], str], request: Request) -> str:
    subject = per(request)
    if not isinstance(subject, str) or not subject:
        raise TypeError(f"per: expected a non-empty string as the result, got {describe(subject)}")
    if len(subject) <= _MAX_SUBJECT_LENGTH:
        return exact(subject)
    return f"digest:{blake2b(subject.encode('utf-8', 'replace'), digest_size=32).hexdigest()}"
