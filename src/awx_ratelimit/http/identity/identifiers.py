"""Checks and calls the `identify` of a gate, and reads the optional methods that it may have."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import KeyRefused, KeyStoreUnavailable, TooManyWrongKeys
from awx_ratelimit.http.identity.credentials import sends_key
from awx_ratelimit.http.message import Request

Identify = Callable[[Request], Caller | None]
AsyncIdentify = Callable[[Request], Caller | Awaitable[Caller | None] | None]

_EXAMPLE = 'StaticKeys({"awx_example_key": "starter"})'
_NOT_AWAITED = "identify is asynchronous, which Gate cannot wait for; write it with `def`, or use AsyncGate"
#: How to create an instance, for a class that was given instead of one.
_INSTANCES = {"StaticKeys": _EXAMPLE, "StoredKeys": "StoredKeys(KeyVerifier(store))"}


class IdentifierHooks(NamedTuple):
    """The optional methods of an identifier; see docs/identify.md.

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
            raise TypeError("identify.known is async; write a plain method that returns a Caller or None at once")
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


def checked_identify(identify: Identify, plans: PlanTable) -> Identify:
    """Return `identify`. Raises TypeError if Gate cannot call it, and InvalidLimit for a plan that does not exist."""
    if inspect.iscoroutinefunction(identify) or inspect.iscoroutinefunction(getattr(identify, "__call__", None)):  # noqa: B004
        raise TypeError(_NOT_AWAITED)
    return _checked(identify, plans)  # type: ignore[no-any-return]


def async_checked_identify(identify: AsyncIdentify, plans: PlanTable) -> Any:
    """As `checked_identify`, for AsyncGate. Identifiers that block, such as StoredKeys, have a method `call_async`."""
    return getattr(_checked(identify, plans), "call_async", identify)


def checked_caller(caller: Any) -> Any:
    """Return the result of a plain `identify`. Raises TypeError unless it is a Caller or None."""
    if inspect.isawaitable(caller):
        raise TypeError(_NOT_AWAITED)
    return _caller_or_none(caller)


async def async_checked_caller(caller: Any) -> Any:
    """Return the result of `identify`, awaited if necessary. Raises TypeError unless it is a Caller or None."""
    return _caller_or_none(await caller if inspect.isawaitable(caller) else caller)


def no_flush() -> None:
    """For identifiers without a method `flush`."""


async def async_no_flush() -> None:
    """For identifiers without a method `flush_async`."""


def _caller_or_none(caller: Any) -> Caller | None:
    if caller is None or isinstance(caller, Caller):
        return caller
    # Shows only the type, because the value may be a key.
    raise TypeError(f"identify returned {type_name(caller)}; return a Caller, or None for a request without a key")


def _checked(identify: Any, plans: PlanTable) -> Any:
    _check_callable(identify)
    check = getattr(identify, "check", None)
    if check is not None:
        check(plans)
    return identify


def _check_callable(identify: Any) -> None:
    if isinstance(identify, type):
        instance = _INSTANCES.get(identify.__name__, f"{identify.__name__}(...)")
        raise TypeError(f"identify is {type_name(identify)}; create an instance: identify={instance}")
    if isinstance(identify, Mapping):
        raise TypeError(f"identify is {type_name(identify)}; write identify=StaticKeys(...) around it")
    if not callable(identify):
        raise TypeError(
            f"identify is {type_name(identify)}; use a function that takes the request and returns a Caller or None, "
            f"or {_EXAMPLE}"
        )
    _check_parameters(identify)


def _check_parameters(identify: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(identify)
    except (TypeError, ValueError):
        # Some functions written in C have no signature.
        return
    try:
        signature.bind(None)
    except TypeError:
        names = ", ".join(signature.parameters)
        raise TypeError(
            f"identify takes ({names}); it is called with the request alone: write `def identify(request):`"
        ) from None
