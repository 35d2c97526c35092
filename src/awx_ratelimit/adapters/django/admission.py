"""What the gates around a request have admitted, and the admission of a route's own limit.

A request may be admitted by a middleware around Django, by the entry of MIDDLEWARE, or by both. A view may run in an
event loop or in a thread, whatever kind of gate has admitted its request.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any
from weakref import ref

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest

from awx_ratelimit.adapters.asgi.exchange import EXCHANGES, Exchange
from awx_ratelimit.adapters.django.configuration import configuration, is_configured
from awx_ratelimit.adapters.django.messages import request_of, source_of
from awx_ratelimit.adapters.wsgi.middleware import SLOTS
from awx_ratelimit.adapters.wsgi.route_limits import default_gate
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.http.endings import OVER, Settles, ending_of
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.limit_headers import merged
from awx_ratelimit.http.message import Reply
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.http.route_admission import CHARGED, AsyncCharge, async_admit_to_route
from awx_ratelimit.http.route_admission_sync import Charge, admit_to_route
from awx_ratelimit.http.route_limit import RouteLimit

Source = MutableMapping[str, Any]
AnyGate = Gate | AsyncGate

_ADMITTED = "awx_ratelimit.django"
_STREAMED = "awx_ratelimit.django.streamed"
_HEADERS = "awx_ratelimit.django.headers"
_REFUSAL = "awx_ratelimit.django.refusal"


class Admitted(Settles):
    """A request that the entry of MIDDLEWARE has admitted, with its headers and its slot.

    `end` or garbage collection releases the slot once.
    """

    __slots__ = ("__weakref__", "headers")

    def __init__(self, gate: AnyGate, admission: Admission) -> None:
        self.gate = gate
        self.caller = admission.caller
        self.ending = ending_of(admission.decision)
        self.headers = admission.headers
        self.decision = self.claimed = admission.decision

    def settle(self) -> None:
        """Settle what the request has cost, once. The response is complete, or the client has hung up."""
        self.end()
        for charge in self.due(is_over=True) if self.ending is not None else ():
            settle = charge.gate.settle
            if isinstance(charge.gate, AsyncGate):
                settle = async_to_sync(settle)
            settle(charge.decision, self.status, self.noted)
        self.ending = OVER

    __del__ = Settles.end


def holders(source: Source) -> list[Any]:
    """What has admitted a request, from the outside in. Each has a gate and a decision."""
    return [*source.get(EXCHANGES, ()), *source.get(SLOTS, ()), *source.get(_ADMITTED, ())]


def settling_holders(source: Source) -> list[Settles]:
    """All that may settle the cost of a request, also while its response is streamed."""
    streamed = [reference() for reference in source.get(_STREAMED, ())]
    return list(dict.fromkeys([*holders(source), *(each for each in streamed if each is not None)]))


def add_holder(source: Source, admitted: Admitted) -> None:
    """Let the limits of views find `admitted`, and the response's stream too while the response refers to it."""
    source[_ADMITTED] = (*source.get(_ADMITTED, ()), admitted)
    source[_STREAMED] = (*source.get(_STREAMED, ()), ref(admitted))


def remove_holder(source: Source) -> None:
    """Forget the innermost one, so that only the response refers to it."""
    source[_ADMITTED] = source[_ADMITTED][:-1]


def drop_headers(source: Source) -> None:
    """An inner gate or a view has refused the request, so the client must see the headers of that refusal."""
    for holder in holders(source):
        if isinstance(holder, Exchange):
            holder.drop_headers()
        else:
            holder.headers = []


def route_headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """The headers of the limits that have admitted a request without a middleware around its view."""
    headers: list[tuple[bytes, bytes]] = source_of(request).get(_HEADERS, [])
    return headers


def refusal_of(request: HttpRequest) -> Reply | None:
    """The reply of the limit that has refused the request, or None."""
    reply: Reply | None = source_of(request).get(_REFUSAL)
    return reply


def admit(limit: RouteLimit, route: str, request: HttpRequest, gate: AnyGate | None) -> Admission:
    """Decide `limit` in a thread, with `gate`, else with that of the innermost middleware, else with the settings'.

    `route` is the scope of the bucket. A refusal has a reply.
    """
    source = source_of(request)
    used = _used_gate(request, source, gate)
    if isinstance(used, AsyncGate):
        return async_to_sync(_admit_async)(limit, route, request, used)
    return _admit(limit, route, request, used)


async def admit_async(limit: RouteLimit, route: str, request: HttpRequest, gate: AnyGate | None) -> Admission:
    """As `admit`, in an event loop."""
    used = _used_gate(request, source_of(request), gate)
    if isinstance(used, AsyncGate):
        return await _admit_async(limit, route, request, used)
    if used is default_gate():
        # It has only memory to ask.
        return _admit(limit, route, request, used)
    return await sync_to_async(_admit, thread_sensitive=True)(limit, route, request, used)


def admit_at_once(limit: RouteLimit, route: str, request: HttpRequest, gate: AnyGate | None) -> Admission:
    """As `admit`, for synchronous code that may run in an event loop.

    Raises RuntimeError in an event loop if the gate has to wait.
    """
    used = _used_gate(request, source_of(request), gate)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return admit(limit, route, request, gate)
    if isinstance(used, Gate):
        return _admit(limit, route, request, used)
    admitting = _admit_async(limit, route, request, used)
    try:
        # Over a backend that never waits, the coroutine ends without suspending.
        admitting.send(None)
    except StopIteration as ended:
        admission: Admission = ended.value
        return admission
    admitting.close()
    raise RuntimeError(
        "Throttle: expected a backend that never waits, in an async operation; write @limit(...) on the operation"
    )


def _used_gate(request: HttpRequest, source: Source, gate: AnyGate | None) -> AnyGate:
    if gate is not None:
        return gate
    around = holders(source)
    if around:
        innermost: AnyGate = around[-1].gate
        return innermost
    if is_configured():
        settings = configuration()
        return settings.async_gate if hasattr(request, "scope") else settings.gate
    return default_gate()


def _admit(limit: RouteLimit, route: str, request: HttpRequest, gate: Gate) -> Admission:
    source = source_of(request)
    outer = [Charge(_fitting(holder.gate, Gate), holder.decision, holder.caller) for holder in holders(source)]
    _fit_charges(source, Gate)
    return _reported(source, gate, admit_to_route(limit, route, request_of(request), source, gate, outer))


async def _admit_async(limit: RouteLimit, route: str, request: HttpRequest, gate: AsyncGate) -> Admission:
    source = source_of(request)
    outer = [
        AsyncCharge(_fitting(holder.gate, AsyncGate), holder.decision, holder.caller) for holder in holders(source)
    ]
    _fit_charges(source, AsyncGate)
    return _reported(source, gate, await async_admit_to_route(limit, route, request_of(request), source, gate, outer))


def _reported(source: Source, used: AnyGate, admission: Admission) -> Admission:
    """Add what `used` has decided to the innermost middleware, else its headers to those of the response."""
    around = holders(source)
    if admission.reply is not None:
        source[_HEADERS] = []
        source[_REFUSAL] = admission.reply
        drop_headers(source)
    elif not around:
        source[_HEADERS] = admission.headers
    elif isinstance(around[-1], Exchange):
        around[-1].merge_headers(admission.headers)
    else:
        around[-1].headers = merged(around[-1].headers, admission.headers)
    if around and admission.reply is None:
        around[-1].add_route(_settling_like(used, around[-1].gate), admission.decision)
    return admission


def _settling_like(gate: AnyGate, other: AnyGate) -> Any:
    """`gate`, for a holder whose own gate is `other` and settles that kind alone."""
    is_async = isinstance(other, AsyncGate)
    return gate if isinstance(gate, AsyncGate) is is_async else _SettlesFrom(gate, is_async=is_async)


class _SettlesFrom:
    """A gate whose `settle` is called from code of the other kind."""

    def __init__(self, gate: AnyGate, *, is_async: bool) -> None:
        self.release = gate.release
        settle: Any = gate.settle
        self.settle = sync_to_async(settle) if is_async else async_to_sync(settle)


def _fit_charges(source: Source, wanted: type[AnyGate]) -> None:
    charged: list[Any] = source.get(CHARGED, [])
    charged[:] = [charge._replace(gate=_fitting(charge.gate, wanted)) for charge in charged]


def _fitting(gate: Any, wanted: type[AnyGate]) -> Any:
    """`gate`, or an object with its `give_back` for code of the other kind."""
    return gate if isinstance(gate, wanted | _GivesBack) else _GivesBack(gate)


class _GivesBack:
    """Gives a decision back from a thread, or from an event loop if the result is awaited."""

    def __init__(self, gate: AnyGate) -> None:
        self._gate: Any = gate
        self.expect_route_limit = gate.expect_route_limit

    def give_back(self, decision: Decision, refusal: Decision | None) -> Any:
        give_back = self._gate.give_back
        is_async = isinstance(self._gate, AsyncGate)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return (async_to_sync(give_back) if is_async else give_back)(decision, refusal)
        return (give_back if is_async else sync_to_async(give_back))(decision, refusal)
