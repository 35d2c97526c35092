"""`Gate` and `AsyncGate`: from a request to an answer: the caller, its plan, one decision, and what to send.

Two twins: the async one is the sync one with `await`, and a test holds them to it.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.table import PlanTable
from awx_ratelimit.errors import BackendUnavailable, ImpossibleClaim, InvalidLimit, KeyRefused
from awx_ratelimit.limiter import AsyncLimiter, Limiter
from awx_ratelimit.web import render
from awx_ratelimit.web.message import Reply, Request
from awx_ratelimit.web.rules import Rule, Rules

_log = logging.getLogger("awx_ratelimit")
Identify = Callable[[Request], Caller | None]
AsyncIdentify = Callable[[Request], Caller | Awaitable[Caller | None] | None]


class Admission(NamedTuple):
    """What the gate says of one request: send `reply` and nothing else, or call the app and add `headers`.

    `decision` is what was decided, None for an exempt request and for one without a caller. A slot that came with it
    is held until `release`.
    """

    reply: Reply | None
    headers: list[tuple[bytes, bytes]]
    decision: Decision | None


_FREE = Admission(None, [], None)


class Gate:
    """Decides HTTP requests for a WSGI adapter, from any thread.

    `plans` resolves who `identify` names; `rules` say which paths cost what. Raises InvalidLimit for keys whose plan
    is not in the table.
    """

    def __init__(self, limiter: Limiter, *, plans: PlanTable, identify: Identify, rules: Iterable[Rule] = ()) -> None:
        self._limiter = limiter
        self._plans = plans
        self._identify = _plain_identify(identify, plans)
        self._rules = Rules(rules)
        #: Gives back the slot of a decision, if it has one: never waits, never raises, harmless twice.
        self.release = limiter.give_back

    def admit(self, request: Request) -> Admission:
        """Decide one request. It never raises for what a client sends, nor for a backend without an answer."""
        rule = self._rules.match(request.method, request.path)
        if rule.exempt or _is_preflight(request):
            return _FREE
        try:
            caller = self._identify(request)
        except KeyRefused as error:
            return _refused(render.unauthorized(error.code))
        if caller is None:
            return _refused(render.unauthorized("api_key_missing"))
        try:
            plan = self._plans.resolve(caller)
            decision = self._limiter.acquire(caller.subject, plan, rule.cost)
        except ImpossibleClaim:
            return _refused(render.impossible(plan))
        except (InvalidLimit, BackendUnavailable) as error:
            return _undecided(error, caller)
        return _admitted(decision)


class AsyncGate:
    """Decides HTTP requests for an ASGI adapter. `identify` may be plain or async. For the rest see Gate."""

    def __init__(
        self, limiter: AsyncLimiter, *, plans: PlanTable, identify: AsyncIdentify, rules: Iterable[Rule] = ()
    ) -> None:
        self._limiter = limiter
        self._plans = plans
        self._identify = _async_identify(identify, plans)
        self._rules = Rules(rules)
        #: Gives back the slot of a decision, if it has one: never waits, never raises, harmless twice.
        self.release = limiter.give_back

    async def admit(self, request: Request) -> Admission:
        """See Gate."""
        rule = self._rules.match(request.method, request.path)
        if rule.exempt or _is_preflight(request):
            return _FREE
        try:
            caller = await self._identify(request)
        except KeyRefused as error:
            return _refused(render.unauthorized(error.code))
        if caller is None:
            return _refused(render.unauthorized("api_key_missing"))
        try:
            plan = self._plans.resolve(caller)
            decision = await self._limiter.acquire(caller.subject, plan, rule.cost)
        except ImpossibleClaim:
            return _refused(render.impossible(plan))
        except (InvalidLimit, BackendUnavailable) as error:
            return _undecided(error, caller)
        return _admitted(decision)


def _admitted(decision: Decision) -> Admission:
    if decision.allowed:
        return Admission(None, render.headers(decision), decision)
    return Admission(render.refusal(decision), [], decision)


def _refused(reply: Reply) -> Admission:
    return Admission(reply, [], None)


def _undecided(error: InvalidLimit | BackendUnavailable, caller: Caller) -> Admission:
    _log.error("no decision for %s: %s", caller.subject, error)
    return _refused(render.unavailable())


def _is_preflight(request: Request) -> bool:
    """Whether a browser asks what it may send (CORS): it cannot send a key with that."""
    if request.method != "OPTIONS":
        return False
    return bool(request.values(b"origin") and request.values(b"access-control-request-method"))


def _checked(identify: Any, plans: PlanTable) -> Any:
    check = getattr(identify, "check", None)
    if check is not None:
        check(plans)
    return identify


def _is_coroutine_function(identify: Any) -> bool:
    return inspect.iscoroutinefunction(identify) or inspect.iscoroutinefunction(getattr(identify, "__call__", None))  # noqa: B004


def _plain_identify(identify: Identify, plans: PlanTable) -> Identify:
    if _is_coroutine_function(identify):
        raise TypeError("Gate takes a plain identify; AsyncGate takes an async one as well")
    return _checked(identify, plans)  # type: ignore[no-any-return]


def _async_identify(identify: AsyncIdentify, plans: PlanTable) -> Callable[[Request], Awaitable[Caller | None]]:
    _checked(identify, plans)
    if _is_coroutine_function(identify):
        return identify  # type: ignore[return-value]

    async def identified(request: Request) -> Caller | None:
        caller = identify(request)
        return caller if caller is None or isinstance(caller, Caller) else await caller

    return identified
