"""`AsyncGate`: finds the caller of a request, makes one decision, and returns the headers or the refusal to send."""

from collections.abc import Iterable
from typing import Any

from awx_ratelimit.core.budget import ScopedSubject
from awx_ratelimit.core.claim import Caller
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
from awx_ratelimit.http.client_address import FORWARDED_FOR
from awx_ratelimit.http.error_responses import is_refusal
from awx_ratelimit.http.explaining import GateParts
from awx_ratelimit.http.gate_begins import AsyncBegins
from awx_ratelimit.http.identity.identifiers import (
    AsyncIdentify,
    async_checked_caller,
    async_checked_identify,
    async_no_flush,
    finders_of,
)
from awx_ratelimit.http.identity.verifications import reported
from awx_ratelimit.http.message import OnRefused, Request
from awx_ratelimit.http.owners import owned_record
from awx_ratelimit.http.policy import EXEMPT, Admission, AuthenticationError, Policy, WebSocketRefusal
from awx_ratelimit.http.route_limit import BoundLimit
from awx_ratelimit.http.rules.matching import UnclearPath
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.http.unknown_keys import UNKNOWN_KEYS
from awx_ratelimit.http.validation import checked_limiter, checked_plans
from awx_ratelimit.limiter import AsyncLimiter

#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__


class AsyncGate(AsyncBegins):
    """Decides HTTP requests for an ASGI adapter, from the tasks of an event loop. `identify` may be plain or async.

    `plans` resolves the plan of the caller that `identify` returns. The first of `rules` that matches a request decides
    what it costs. `headers` is the dialect of the rate limit headers (``draft``, ``legacy``, ``both``, ``none``). With
    `expose`, scripts of other origins may read them. `anonymous` is the plan of requests without a key, limited by
    client address; None answers them with a 401. The plans of the caller and its account, `service` (which everybody
    shares; None means the table's) and the budget of a rule are decided together.

    The client address is the peer's, unless the peer is in `trusted_proxies`: then it is read from `address_header`,
    which is ``X-Forwarded-For``, ``Forwarded`` or a header with one address such as ``X-Real-IP``. Name your proxies,
    or all clients share one address. IPv6 clients are told apart by the first `ipv6_prefix` bits.

    `on_refused` gets the request and a Refusal for each 429, and for no other status. It returns the Reply to send, or
    None for the usual one. Retry-After, the rate limit headers and ``no-store`` are kept. If it raises, the usual 429
    is sent. With `websocket_refusal="accept_close"` a refused WebSocket is accepted and closed with code 1013.

    An address that sends more than 20 unknown keys a minute gets a 429 for every key that is not in memory. If your own
    `identify` has a method ``known(request)``, it decides which keys are. See the page ``identify`` of the
    documentation, which also describes the code, the message and the challenge of a 401.

    OPTIONS requests need a key and are charged like any other. Browsers send no key with CORS preflights, so put the
    CORS middleware outside the rate limit middleware. `preflights=True` lets preflights pass free instead: OPTIONS
    requests with the headers Origin and Access-Control-Request-Method, which any client can send. That exposes every
    view that answers OPTIONS, such as Django function views and mounted ASGI apps that do not look at the method.

    Raises TypeError for a wrong type. Raises InvalidLimit for a wrong value, for a key whose plan is not in the table,
    and for a rule whose cost is above the burst of every plan.
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
        on_refused: OnRefused | None = None,
        address_header: str = FORWARDED_FOR,
        ipv6_prefix: int = 64,
        service: Plan | None = None,
    ) -> None:
        checked_limiter(limiter, AsyncLimiter)
        self._identify = reported(async_checked_identify(identify), limiter.observers)
        self._flush_identify = getattr(identify, "flush_async", async_no_flush)
        policy = Policy(
            checked_plans(plans),
            rules,
            headers,
            expose,
            anonymous,
            trusted_proxies,
            websocket_refusal,
            preflights,
            identify,
            on_refused,
            address_header,
            ipv6_prefix,
            service,
        )
        self._prepare(limiter, policy, finders_of(identify if type(self).admit is AsyncGate.admit else None))
        #: Empty unless an address has sent unknown keys lately. Every request reads it, so it is one look-up away.
        self._unknown_key_addresses = policy.unknown_keys.addresses
        #: The names of the headers that the gate adds. They replace the app's own headers of these names.
        self.header_names = frozenset(limit_headers.NAMES[headers])
        names = self.header_names | {limit_headers.COST_HEADER}
        #: The names of the headers of the app that are not sent, and their lengths.
        self.replaced = names, frozenset(map(len, names))
        #: The names in Access-Control-Expose-Headers; empty without `expose`.
        self.exposed_names = limit_headers.exposed_names(headers) if expose else frozenset()
        self.websocket_refusal = websocket_refusal
        #: Gives back the slot of a decision, if it has one. It never waits or raises, and a second call does nothing.
        self.release = limiter.give_back
        #: Whether requests of a method to a path are exempt.
        self.is_exempt = policy.is_exempt
        self.parts = GateParts(limiter, identify, plans, anonymous, tuple(policy.rules), service)

    async def admit(self, request: Request) -> Admission:  # noqa: C901  # each kind of request has its branch
        """Decide one request. It raises neither for anything that a client sends nor when the backend fails."""
        policy = self._policy
        try:
            rule = policy.rule_for(request)
            if rule is None:
                return EXEMPT
            if self._unknown_key_addresses:
                throttled = await self._throttled(request)
                if throttled is not None:
                    return throttled
            caller = self._identify(request)
            if caller.__class__ is not Caller:
                caller = await async_checked_caller(caller, request) or policy.anonymous_caller(request)
        except (KeyRefused, KeyStoreUnavailable, TooManyWrongKeys, UnclearPath) as error:
            return await self._unauthenticated(request, error)
        if caller is None or caller.exempt:
            return policy.missing_key(request) if caller is None else EXEMPT
        cost: Any = rule.cost if rule.cost.__class__ is int else rule.cost_of(request)
        plan = None
        decision: Any = None
        try:
            plan = policy.resolve(caller)
            is_shared = plan.account is not None or self._shared.service is not None
            if is_shared or rule.is_joint or (self._limited_paths and request[:2] in self._limited_paths):
                decision = self._decide_jointly(request, rule, caller, plan, cost)
            else:
                decision = self._claim(caller.subject, plan, cost)
            if decision.__class__ is not Decision:
                decision = await decision
            over = decision.exceeded & plan.enforced if decision.__class__ is Decision else not decision.allowed
            return (
                policy.denied(request, decision)
                if over
                else _new(Admission, (None, policy.headers(decision), decision, caller))
            )
        except (ImpossibleClaim, InvalidLimit, BackendUnavailable) as error:
            return policy.undecided(request, policy.parts_of(plan, rule.price), cost, caller.subject, error)
        except BaseException:
            self.drop(decision)
            raise

    async def admit_to_route(
        self, request: Request, limit: BoundLimit, caller: Caller | None, *, is_settled: bool
    ) -> Admission:
        """Decide a route's own limit. `caller` is the caller that the gate has found; None if it has looked for none.

        `is_settled`: the middleware settles what the limit charges when the request has ended.

        Raises what a function `per` or `cost` raises, and TypeError for a result of the wrong type.
        """
        record = await self._route_record(request, limit, caller)
        if isinstance(record, Admission):
            return record
        cost: Any = limit.cost if limit.cost.__class__ is int else limit.cost_of(request)
        return await self._charge_route(request, record, limit, cost, is_settled=is_settled)

    async def flush(self) -> None:
        """Send pending releases and record when keys were last used. It never raises. See `Limiter.flush`."""
        await self._limiter.flush()
        await self._flush_identify()

    async def _route_record(
        self, request: Request, limit: BoundLimit, caller: Caller | None
    ) -> ScopedSubject | Admission:
        """The buckets of a route's own limit; an Admission if the caller is exempt, or may send no more unknown keys.

        A request without an accepted key, on a route that needs none, counts by its address.
        """
        if caller is None:
            found = await self._find_caller(request)
            if isinstance(found, Admission):
                return found
            caller = found
        if caller is not None and caller.exempt:
            return EXEMPT
        return owned_record(limit.per, limit.scope, request, caller, self._policy.addresses.subject)

    async def _find_caller(self, request: Request) -> Any:
        """The caller of a request that needs no key.

        The reply for an address that has sent too many unknown ones, and for one whose key cannot be looked up.
        """
        try:
            throttled = await self._throttled(request) if self._unknown_key_addresses else None
            if throttled is not None:
                return throttled
            caller = self._identify(request)
            if caller.__class__ is not Caller:
                caller = await async_checked_caller(caller, request)
        except (KeyRefused, KeyStoreUnavailable, TooManyWrongKeys) as error:
            refused = await self._unauthenticated(request, error)
            return None if isinstance(error, KeyRefused) and not is_refusal(refused.reply) else refused
        return caller

    async def _throttled(self, request: Request) -> Admission | None:
        """The 429 for an address that has sent too many unknown keys; None for any other request."""
        subject = self._policy.unknown_keys.subject_to_check(request)
        if subject is None:
            return None
        try:
            decision = await self._limiter.peek(subject, UNKNOWN_KEYS)
        except BackendUnavailable as error:
            return self._policy.unavailable(subject, error)
        self._policy.unknown_keys.forget_if_full(decision)
        return None if decision.allowed else self._policy.throttled(request, decision)

    async def _unauthenticated(self, request: Request, error: AuthenticationError) -> Admission:
        """The reply to a request without a caller. An unknown key is charged to the client's address."""
        if not (isinstance(error, KeyRefused) and error.unknown):
            return self._policy.unauthenticated(request, error)
        subject = self._policy.unknown_keys.record(request)
        try:
            decision = await self._limiter.acquire(subject, UNKNOWN_KEYS)
        except BackendUnavailable as failure:
            return self._policy.unavailable(subject, failure)
        if decision.allowed:
            return self._policy.unauthorized(error)
        return self._policy.throttled(request, decision)
