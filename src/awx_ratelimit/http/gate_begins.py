"""The short way of a gate: it decides most requests by their method, path and key, and reads nothing else of them.

`AsyncGate.admit` decides all requests. For those that `begin` decides, the two give the same admission.
"""

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable, ImpossibleClaim, InvalidLimit
from awx_ratelimit.http.event_loop_claims import acquire_of, claiming_limiter
from awx_ratelimit.http.gate_explains import AsyncExplains
from awx_ratelimit.http.identity.identifiers import FindCaller
from awx_ratelimit.http.message import Reply, Request
from awx_ratelimit.http.policy import EXEMPT, Policy
from awx_ratelimit.limiter import AsyncLimiter

#: See "Identity checks" in docs/hot-path.md.
_ONE = 1
#: The fields of an Admission. A plain tuple is faster to create.
Admitted = tuple[Reply | None, list[tuple[bytes, bytes]], Decision | None, Caller | None]


class AsyncBegins(AsyncExplains):
    """Decides requests whose rule and caller are in memory."""

    def _prepare(self, limiter: AsyncLimiter, policy: Policy, find: FindCaller) -> None:
        """Look up once what every request needs. See `finder_of` for `find`."""
        self._limiter, self._policy = limiter, policy
        claiming: Any = claiming_limiter(limiter)
        self._claim, self._claim_jointly, self._acquire = claiming.claim, claiming.claim_jointly, acquire_of(claiming)
        self._cached_match, self._find, self._resolve = policy.cached_match, find, policy.resolve
        self._headers, self._shared, self._limited_paths = policy.headers, policy.shared, policy.claims.limited_paths
        observers = limiter.observers
        self._report_accepted = observers.accepted if observers.follow("verified") else None

    def begin(
        self, method: str, path: str, key: bytes, source: Any, read: Callable[[Any], Request]
    ) -> Admitted | Awaitable[Admitted] | None:
        """Decide a request by its only key, the value of its only X-API-Key.

        None if more of the request matters: then nothing is decided or counted, and `admit` decides. `read(source)`
        returns the Request, for the reply to a refused one. `path` is the whole path, and no inner path differs.
        """
        method_and_path = method, path
        rule: Any = self._cached_match(method_and_path)
        is_plain = rule is not None and rule.is_plain and not (method == "OPTIONS" and self._policy.preflights)
        caller = self._find(key) if is_plain else None
        if caller is None:
            return None
        if self._report_accepted is not None:
            self._report_accepted()
        if caller.exempt:
            return EXEMPT
        plan = None
        try:
            plan = self._resolve(caller)
            service = self._shared.service
            if plan.account is None and service is None and method_and_path not in self._limited_paths:
                acquire = self._acquire if rule.cost is _ONE and not plan.shadowed else self._claim
                decision = acquire(caller.subject, plan, rule.cost)
            else:
                claim = self._policy.claims.shared_claim(method_and_path, caller, plan, service, rule)
                decision = self._claim_jointly(claim)
            if decision.__class__ is not Decision and isawaitable(decision):
                return self._begin_later(decision, rule, caller, plan, source, read)
        except (ImpossibleClaim, InvalidLimit, BackendUnavailable) as error:
            return self._undecided(error, rule, caller, plan, read(source))
        if decision.__class__ is Decision and not decision.exceeded:
            return None, self._headers(decision), decision, caller
        return self._admitted(decision, caller, plan, source, read)

    async def _begin_later(
        self,
        pending: Awaitable[Decision],
        rule: Any,
        caller: Caller,
        plan: Plan,
        source: Any,
        read: Callable[[Any], Request],
    ) -> Admitted:
        """`begin` for a backend that waits."""
        try:
            decision = await pending
        except (ImpossibleClaim, InvalidLimit, BackendUnavailable) as error:
            return self._undecided(error, rule, caller, plan, read(source))
        return self._admitted(decision, caller, plan, source, read)

    def _admitted(
        self, decision: Decision, caller: Caller, plan: Plan, source: Any, read: Callable[[Any], Request]
    ) -> Admitted:
        refused = decision.exceeded & plan.enforced if decision.__class__ is Decision else not decision.allowed
        if refused:
            return self._policy.denied(read(source), decision)
        return None, self._headers(decision), decision, caller

    def _undecided(self, error: Exception, rule: Any, caller: Caller, plan: Plan | None, request: Request) -> Admitted:
        parts = self._policy.parts_of(plan, rule.price)
        return self._policy.undecided(request, parts, rule.cost, caller.subject, error)
