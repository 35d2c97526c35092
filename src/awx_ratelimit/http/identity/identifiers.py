"""Reads the API key of a request, and checks and calls the `identify` of a gate with its optional methods.

A key is exactly one header value of 1 to 128 bytes, without a comma, which means that a server joined two headers. A
request with a malformed key is refused, never anonymous.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, NamedTuple

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import KeyRefused, KeyStoreUnavailable, TooManyWrongKeys
from awx_ratelimit.http.header_values import MAX_BYTES, first_bytes
from awx_ratelimit.http.limit_headers import KEY_HEADER
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.validation import takes

Identify = Callable[[Request], Caller | str | None]
AsyncIdentify = Callable[[Request], Caller | str | Awaitable[Caller | str | None] | None]

#: Returns the caller of a key in memory, given the value of a header; None for any other.
FindCaller = Callable[[bytes], Caller | None]

MAX_KEY_BYTES = 128
#: The methods that say whose request it is.
_IDENTIFIES = ("__call__", "call_async", "known", "was_known")
_AUTHORIZATION = b"authorization"
_BEARER = b"Bearer "
_BEARER_BYTES = len(_BEARER)
_NOT_AWAITED = "identify: expected a plain function, got an async one; write it with `def`, or use AsyncGate"
_EXAMPLE = 'StaticKeys({"awx_example_key": "starter"})'
#: How to create an instance, for a class that was given instead of one.
_INSTANCES = {"StaticKeys": _EXAMPLE, "StoredKeys": "StoredKeys(KeyVerifier(store))"}


def sent_key(request: Request) -> bytes | None:
    """The API key of the request, None without a header X-API-Key. Raises KeyRefused for a header that has no key.

    The characters of the key are not checked: no digest of a malformed key is ever found.
    """
    values_of = request[3]
    values = values_of(KEY_HEADER)
    if len(values) == 1:
        (key,) = values
        if len(key) <= MAX_BYTES:
            key = key.strip(b" \t")
            if 0 < len(key) <= MAX_KEY_BYTES:
                return key
    elif not values:
        return None
    raise KeyRefused


def sends_key(request: Request) -> bool:
    """Whether the request has a header X-API-Key, with or without a key in it."""
    return bool(request.values(KEY_HEADER))


class BearerKeys:
    """Reads keys from X-API-Key, or from ``Authorization: Bearer`` and a key with `prefix`, which may be empty."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        # Without a prefix, only the look-ahead keeps the time for a long run of spaces linear.
        credential = rb"[ \t]*bearer[ \t]+(?![ \t,])(%s[^,]*)" % self._prefix
        self._whole = re.compile(credential, re.IGNORECASE).fullmatch
        self._after_comma = re.compile(rb"," + credential, re.IGNORECASE).search

    def sends_key(self, request: Request) -> bool:
        """Whether either header has a key, or something in its place."""
        return sends_key(request) or self._has_key(first_bytes(request.values(_AUTHORIZATION))[0])

    def sent_key(self, request: Request) -> bytes | None:
        """The only key of the request, None without one. Raises KeyRefused for two keys or a malformed one."""
        authorization, is_cut = first_bytes(request.values(_AUTHORIZATION))
        found = self._whole(authorization)
        if found is None and not self._has_key(authorization):
            return sent_key(request)
        if found is None or is_cut or sends_key(request):
            raise KeyRefused
        key: bytes = found[1].rstrip(b" \t")
        return key

    def _has_key(self, authorization: bytes) -> bool:
        # Servers join two headers with a comma, which no key contains.
        first, comma, _ = authorization.partition(b",")
        if self._whole(first):
            return True
        # The search is slow, so it runs only if both a comma and the prefix are there.
        return bool(comma and self._prefix in authorization.lower() and self._after_comma(authorization))


class IdentifierHooks(NamedTuple):
    """The optional methods of an identifier; see the page ``identify`` of the documentation.

    `known` returns the caller of a request if that needs no look-up, else None. It never waits, and raises the same
    errors as the identifier. `was_known` tells whether the credentials were accepted before and must be looked up
    again. `sends_key` tells whether the request has something in the place of a key. `challenge` is the
    WWW-Authenticate header of the 401s; None derives it from their code.
    """

    known: Callable[[Request], Caller | None]
    was_known: Callable[[Request], object]
    sends_key: Callable[[Request], object]
    challenge: str | None

    @classmethod
    def of(cls, identify: Any) -> "IdentifierHooks":
        """The hooks of `identify`, with defaults for missing ones. Raises TypeError for an async `known`."""
        known = getattr(identify, "known", _never_known)
        if inspect.iscoroutinefunction(known):
            raise TypeError("identify.known: expected a plain method, got an async one; write it with `def`")
        return cls(
            known,
            getattr(identify, "was_known", _never_known),
            getattr(identify, "sends_key", sends_key),
            getattr(identify, "challenge", None),
        )

    def is_known(self, request: Request) -> bool:
        """Whether the key was found before, so it is not a guess. A known key may be refused, expired or revoked."""
        try:
            return isinstance(self.known(request), Caller) or bool(self.was_known(request))
        except KeyRefused as refusal:
            return not refusal.unknown
        except (KeyStoreUnavailable, TooManyWrongKeys):
            return False


def _never_known(_: Request) -> None:
    return None


def checked_identify(identify: Identify) -> Identify:
    """Return `identify`. Raises TypeError if Gate cannot call it."""
    if inspect.iscoroutinefunction(identify) or inspect.iscoroutinefunction(getattr(identify, "__call__", None)):  # noqa: B004
        raise TypeError(_NOT_AWAITED)
    _check(identify)
    return identify


def async_checked_identify(identify: AsyncIdentify) -> Any:
    """As `checked_identify`, for AsyncGate. Identifiers that block, such as StoredKeys, have a method `call_async`."""
    _check(identify)
    return getattr(identify, "call_async", identify)


def finders_of(identify: Any) -> Mapping[bytes, FindCaller]:
    """By header: the function that finds the caller of a key in memory, if it is the only key of a request.

    It returns None where `identify` has to be called: it may look the key up, or refuse it. An identifier has such
    functions if it has a method ``memory_finders``, and no subclass changes how it identifies callers.
    """
    if not is_complete(identify, "memory_finders", _IDENTIFIES):
        return {}
    finders: Mapping[bytes, FindCaller] = identify.memory_finders()
    return finders


def key_finders(find: FindCaller, *, bearer: bool) -> Mapping[bytes, FindCaller]:
    """The finders of keys in X-API-Key, and with `bearer` also in Authorization."""
    return {KEY_HEADER: find, _AUTHORIZATION: _bearer_finder(find)} if bearer else {KEY_HEADER: find}


def _bearer_finder(find: FindCaller) -> FindCaller:
    def find_bearer(authorization: bytes) -> Caller | None:
        # As nearly all clients write it. BearerKeys reads the other forms.
        is_usual = authorization[:_BEARER_BYTES] == _BEARER
        return find(authorization[_BEARER_BYTES:]) if is_usual else None

    return find_bearer


def is_complete(thing: Any, method: str, others: Collection[str]) -> bool:
    """Whether `thing` has `method`, and neither it nor a class below the one of `method` overrides one of `others`."""
    for defined in (getattr(thing, "__dict__", {}), *map(vars, type(thing).__mro__)):
        if method in defined:
            return True
        if not defined.keys().isdisjoint(others):
            return False
    return False


def checked_caller(caller: Any, request: Request) -> Any:
    """Return the result of a plain `identify`. Raises TypeError unless it is a Caller, a subject or None."""
    if inspect.isawaitable(caller):
        raise TypeError(_NOT_AWAITED)
    return _caller_or_none(caller, request)


async def async_checked_caller(caller: Any, request: Request) -> Any:
    """Return the result of `identify`, awaited if necessary. Raises TypeError as `checked_caller` does."""
    return _caller_or_none(await caller if inspect.isawaitable(caller) else caller, request)


def no_flush() -> None:
    """For identifiers without a method `flush`."""


async def async_no_flush() -> None:
    """For identifiers without a method `flush_async`."""


def _caller_or_none(caller: Any, request: Request) -> Caller | None:
    if caller is None or isinstance(caller, Caller):
        return caller
    if isinstance(caller, str):
        if sends_key(request) and caller.encode("latin-1", "replace") in request.values(KEY_HEADER):
            # Subjects are written to logs and backends.
            raise TypeError("identify returned the API key itself; return a name of its owner, or use StaticKeys(...)")
        return Caller(caller)
    # Shows only the type, because the value may be a key.
    raise TypeError(f"identify: expected a Caller, a subject or None as the result, got {type_name(caller)}")


def _check(identify: Any) -> None:
    write = f"identify={_EXAMPLE}"
    if isinstance(identify, type):
        write = f"identify={_INSTANCES.get(identify.__name__, f'{identify.__name__}(...)')}"
    elif callable(identify):
        if takes(identify, None):
            return
        write = "`def identify(request):`"
    raise TypeError(
        f"identify: expected a function from a request to a Caller or None, got {type_name(identify)}; write {write}"
    )
