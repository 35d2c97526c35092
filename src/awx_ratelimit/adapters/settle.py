"""`settle`: an application says what its request has cost."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from awx_ratelimit.adapters.asgi.exchange import EXCHANGES
from awx_ratelimit.adapters.wsgi.middleware import SLOTS
from awx_ratelimit.core.joint_claim import Cost
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.endings import Settles
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.settling import checked_noted

#: Where the adapters of frameworks with their own interface keep what they remember of a request.
_STATE = "awx_ratelimit"


def settle(request: Any, cost: Cost | None = None, /, **tokens: int) -> None:
    """Say what `request` has cost: ``settle(request, tokens=523)`` or ``settle(request, {"tokens": 523})``.

    `request` is the request of any framework, Tornado's handler, an ASGI scope or a WSGI environ. The middleware
    corrects the charges of the request when its response has been sent: what it cost more is charged, what it cost less
    is given back. A measure that is not named keeps its charge. It can be called several times, and while a response is
    streamed; the last value of each measure counts.

    It never waits. Raises ValueError for a wrong cost, TypeError for anything but a request, and RuntimeError for one
    that no middleware has admitted, and for one whose charges are settled: the response has ended and its cost was
    known by then, or the application has returned.
    """
    noted = {**({} if cost is None else checked_noted(cost)), **(checked_noted(tokens) if tokens else {})}
    if not noted:
        raise ValueError("settle: expected a cost, such as settle(request, tokens=523)")
    holders = [holder for source in _sources(request) for holder in _holders(source)]
    if not holders:
        raise RuntimeError(
            "settle: expected a request that a middleware has admitted; write RateLimitMiddleware(app, ...) around the "
            "app, and call settle before the request has ended"
        )
    if any(holder.is_settled for holder in holders):
        raise RuntimeError(
            "settle: expected a request whose charges are not settled yet, got one whose response has ended; call "
            "settle before the response ends"
        )
    for holder in holders:
        holder.note(noted)


def _holders(source: Mapping[Any, Any]) -> Iterable[Settles]:
    django = sys.modules.get("awx_ratelimit.adapters.django.admission")
    if django is not None:
        holders: Iterable[Settles] = django.settling_holders(source)
        return holders
    return [*source.get(EXCHANGES, ()), *source.get(SLOTS, ())]


def _sources(request: Any) -> list[Mapping[Any, Any]]:
    """Where what admitted the request may be: its scope or environ, or the state of a framework's own request."""
    if isinstance(request, Request):
        return _sources(request.source)
    aiohttp: Any = sys.modules.get("awx_ratelimit.adapters.aiohttp_messages")
    if aiohttp is not None and aiohttp.is_request(request):
        return [aiohttp.state_of(request)]
    if isinstance(request, Mapping):
        return [request]
    found = [
        *(_attribute(request, name) for name in ("scope", "environ", "META", "env")),
        _attribute(_attribute(request, "transport"), "scope"),
        *(_state(_attribute(request, name)) for name in ("ctx", "request")),
        _state(request),
    ]
    sources = [source for source in found if isinstance(source, Mapping)]
    # The request of Django REST framework.
    inner = _attribute(request, "_request")
    if not sources and inner is None:
        raise TypeError(f"settle: expected a request, a scope or an environ, got {type_name(request)}")
    return sources or _sources(inner)


def _attribute(request: Any, name: str) -> Any:
    # Some frameworks have such a property that raises.
    with suppress(Exception):
        return getattr(request, name, None)
    return None


def _state(holder: Any) -> Any:
    return getattr(holder, "__dict__", {}).get(_STATE)
