"""`AsyncGate`: from a request to an answer: the caller, its plan, one decision, and what to send."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from awx_ratelimit.backends.base import NonBlocking
from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import (
    BackendUnavailable,
    ImpossibleClaim,
    InvalidLimit,
    KeyRefused,
    KeyStoreUnavailable,
    TooManyWrongKeys,
)
from awx_ratelimit.http import limit_headers
from awx_ratelimit.http.identity.identifiers import (
    AsyncIdentify,
    async_identify,
    async_nothing,
    async_settled,
)
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import FREE, UNKNOWN_KEYS, Admission, Terms, Unheard, WebSocketRefusal
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.http.validation import checked_limiter, checked_plans
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter

#: What `Admission(...)` ends in, without the call in between.
_new = tuple.__new__


class AsyncGate:
    """Decides HTTP requests for an ASGI adapter, from the tasks of an event loop. `identify` may be plain or async.

    `plans` resolves the plan of the caller that `identify` returns. The first of `rules` that matches a request decides
    what it costs. `headers` is the dialect of the rate limit headers (``draft``, ``legacy``, ``both``, ``none``). With
    `expose`, scripts of other origins may read them. `anonymous` is the plan of requests without a key, limited by
    client address; None answers them with a 401.

    The client address is the peer's, unless the peer is in `trusted_proxies`: then it is read from
    ``X-Forwarded-For``. Name your proxies, or all clients share one address. `websocket_refusal="accept_close"` accepts
    a refused WebSocket and closes it with code 1013.

    An address that sends more than 20 unknown keys a minute gets a 429 for every key that is not in memory. If your own
    `identify` has a method ``known(request)``, it decides which keys are. See docs/identify.md, which also describes
    the code, the message and the challenge of a 401.

    OPTIONS requests need a key and are charged like any other. Browsers send no key with CORS preflights, so put the
    CORS middleware outside the rate limit middleware. `preflights=True` lets preflights pass free instead: OPTIONS
    requests with the headers Origin and Access-Control-Request-Method, which any client can send. That exposes every
    view that answers OPTIONS, such as Django function views and mounted ASGI apps that do not look at the method.

    Raises TypeError for an argument of the wrong type. Raises InvalidLimit for a wrong value, for a key whose plan is
    not in the table, and for a rule whose cost is above the burst of every plan.
    """

    def __init__(
        self,
        limiter: AsyncLimiter,
        *,
        plans: PlanTable,
        identify: AsyncIdentify,
        rules: Iterable[Rule] = (),
        headers: limit_headers.Dialect = "draft",
        expose: bool = False,
        anonymous: Plan | None = None,
        trusted_proxies: Iterable[str] = (),
        websocket_refusal: WebSocketRefusal = "http",
        preflights: bool = False,
    ) -> None:
        self._limiter = checked_limiter(limiter, AsyncLimiter, "AsyncGate")
        self._claim: Any = claim_of(limiter)
        self._identify = async_identify(identify, checked_plans(plans))
        self._write_uses = getattr(identify, "write_uses_in_tasks", async_nothing)
        self._terms = Terms(
            plans, rules, headers, expose, anonymous, trusted_proxies, websocket_refusal, preflights, identify
        )
        #: The names of the header lines it adds, which replace an app's own, and those that `expose` shows to scripts.
        self.header_names, self.exposed_names = limit_headers.added_and_exposed(headers, expose)
        self.websocket_refusal = websocket_refusal
        #: Gives back the slot of a decision, if it has one: never waits, never raises, harmless twice.
        self.release = limiter.give_back
        #: Whether requests of a method to a path are exempt.
        self.is_exempt = self._terms.is_exempt
        #: What an adapter checks when it starts.
        self.parts = (limiter, identify)

    async def admit(self, request: Request) -> Admission:
        """Decide one request. It never raises for what a client sends, nor for a backend without an answer."""
        terms = self._terms
        rule = terms.rule(request)
        if rule is None:
            return FREE
        try:
            if terms.suspects:
                stopped = await self._stopped(request)
                if stopped is not None:
                    return stopped
            caller = self._identify(request)
            if caller.__class__ is not Caller:
                caller = await async_settled(caller) or terms.nobody(request)
        except (KeyRefused, KeyStoreUnavailable, TooManyWrongKeys) as error:
            return await self._unheard(request, error)
        if caller is None:
            return terms.without_key(request)
        try:
            plan = terms.resolve(caller)
            if rule.budget is not None:
                plan = rule.with_budget(plan)
            decision = self._claim(caller.subject, plan, rule.cost)
            if decision.__class__ is not Decision:
                decision = await decision
        except (ImpossibleClaim, InvalidLimit, BackendUnavailable) as error:
            return terms.undecided(request, rule, caller, error)
        exceeded = decision.exceeded & plan.enforced
        return (
            terms.refused(request, decision) if exceeded else _new(Admission, (None, terms.lines(decision), decision))
        )

    async def flush(self) -> None:
        """Send what waits: released slots, and when keys were used last. See `Limiter.flush`; it never raises."""
        await self._limiter.flush()
        await self._write_uses()

    async def _stopped(self, request: Request) -> Admission | None:
        suspect = self._terms.suspect(request)
        if suspect is None:
            return None
        try:
            decision = await self._limiter.peek(suspect, UNKNOWN_KEYS)
        except BackendUnavailable as error:
            return self._terms.unavailable(suspect, error)
        self._terms.cleared(decision)
        return None if decision.allowed else self._terms.stopped(request, decision)

    async def _unheard(self, request: Request, refusal: Unheard) -> Admission:
        if not (isinstance(refusal, KeyRefused) and refusal.unknown):
            return self._terms.unheard(request, refusal)
        subject = self._terms.suspected(request)
        try:
            decision = await self._limiter.acquire(subject, UNKNOWN_KEYS)
        except BackendUnavailable as error:
            return self._terms.unavailable(subject, error)
        if decision.allowed:
            return self._terms.unauthorized(refusal)
        return self._terms.stopped(request, decision)


def claim_of(limiter: AsyncLimiter) -> Callable[[str, Plan, int], Decision | Awaitable[Decision]]:
    """`limiter.claim`, without its two coroutines where an event loop may call the backend directly."""
    backend = limiter.backend
    if isinstance(backend, NonBlocking):
        synchronous = Limiter(backend.backend, listeners=limiter.listeners)
        synchronous.shadow = limiter.shadow
        return synchronous.claim
    return limiter.claim
