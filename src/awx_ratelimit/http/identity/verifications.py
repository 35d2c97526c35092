"""Reports to observers which keys were accepted and which were refused."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.errors import KeyRefused, KeyStoreUnavailable, TooManyWrongKeys
from awx_ratelimit.http.message import Request
from awx_ratelimit.observability.observers import Observers

_REFUSALS = (KeyRefused, KeyStoreUnavailable, TooManyWrongKeys)


def reported(identify: Callable[[Request], Any], observers: Observers) -> Callable[[Request], Any]:
    """`identify`, whose results are reported; `identify` itself if no observer follows that."""
    if not observers.follow("verified"):
        return identify
    accepted = observers.accepted

    def find(request: Request) -> Any:
        try:
            caller = identify(request)
        except _REFUSALS as error:
            observers.report("verified", _outcome(error))
            raise
        if isinstance(caller, Caller):
            accepted()
            return caller
        return _awaited(caller, observers) if inspect.isawaitable(caller) else caller

    return find


async def _awaited(pending: Awaitable[Any], observers: Observers) -> Any:
    try:
        caller = await pending
    except _REFUSALS as error:
        observers.report("verified", _outcome(error))
        raise
    if isinstance(caller, Caller):
        observers.accepted()
    return caller


def _outcome(error: Exception) -> str:
    # The errors without a code are those of addresses that guess.
    return getattr(error, "code", "throttled")
