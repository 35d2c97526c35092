"""An `identify` that a gate was given: checked when the gate is made, and what it returns, when it returns it."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.message import Request

Identify = Callable[[Request], Caller | None]
AsyncIdentify = Callable[[Request], Caller | Awaitable[Caller | None] | None]

_EXAMPLE = 'StaticKeys({"awx_example_key": "starter"})'
_PLAIN = "identify is asynchronous, which Gate cannot wait for; write it with `def`, or use AsyncGate"
#: How to make one of a class that was given.
_MADE = {"StaticKeys": _EXAMPLE, "StoredKeys": "StoredKeys(KeyVerifier(store))"}


def plain_identify(identify: Identify, plans: PlanTable) -> Identify:
    """`identify`, if Gate can call it. Raises TypeError, and InvalidLimit for a caller of a plan that is not there."""
    if inspect.iscoroutinefunction(identify) or inspect.iscoroutinefunction(getattr(identify, "__call__", None)):  # noqa: B004
        raise TypeError(_PLAIN)
    return _checked(identify, plans)  # type: ignore[no-any-return]


def async_identify(identify: AsyncIdentify, plans: PlanTable) -> Any:
    """An identifier that may block has a form for event loops, as `StoredKeys` does."""
    return getattr(_checked(identify, plans), "in_tasks", identify)


def settled(caller: Any) -> Any:
    """What a plain `identify` returned: a Caller or None. Raises TypeError for anything else."""
    if inspect.isawaitable(caller):
        raise TypeError(_PLAIN)
    return _caller(caller)


async def async_settled(caller: Any) -> Any:
    """What an `identify` returned, awaited if need be: a Caller or None. Raises TypeError for anything else."""
    return _caller(await caller if inspect.isawaitable(caller) else caller)


def nothing() -> None:
    """Of callers without stored keys no use is written."""


async def async_nothing() -> None:
    """See `nothing`."""


def _caller(caller: Any) -> Caller | None:
    if caller is None or isinstance(caller, Caller):
        return caller
    # Its type alone: it may be the key.
    raise TypeError(f"identify returned {type_name(caller)}; return a Caller, or None for a request without a key")


def _checked(identify: Any, plans: PlanTable) -> Any:
    _check_callable(identify)
    check = getattr(identify, "check", None)
    if check is not None:
        check(plans)
    return identify


def _check_callable(identify: Any) -> None:
    if isinstance(identify, type):
        made = _MADE.get(identify.__name__, f"{identify.__name__}(...)")
        raise TypeError(f"identify is {type_name(identify)}; create an instance: identify={made}")
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
        # Some functions written in C have none.
        return
    try:
        signature.bind(None)
    except TypeError:
        names = ", ".join(signature.parameters)
        raise TypeError(
            f"identify takes ({names}); it is called with the request alone: write `def identify(request):`"
        ) from None
