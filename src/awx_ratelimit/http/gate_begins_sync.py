"""The short way of a gate: it decides most requests by their method, path and key, and reads nothing else of them.

Generated from `gate_begins.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Callable
from typing import Any

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable, ImpossibleClaim, InvalidLimit
from awx_ratelimit.http.event_loop_claims import acquire_of
from awx_ratelimit.http.gate_begins import _ONE, Admitted
from awx_ratelimit.http.gate_explains_sync import Explains
from awx_ratelimit.http.identity.identifiers import FindCaller
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import EXEMPT, Policy
from awx_ratelimit.limiter_sync import Limiter


class Begins(Explains):
    """Decides requests whose rule and caller are in memory."""

    def _prepare(self, limiter: Limiter, policy: Policy, find: FindCaller) -> None:
        """Look up once what every request needs. See `finder_of` for `find`."""
        self._limiter, self._policy = limiter, policy
        claiming = limiter
        self._claim, self._claim_jointly, self._acquire = claiming.claim, claiming.claim_jointly, acquire_of(claiming)
        self._cached_match, self._find, self._resolve = policy.cached_match, find, policy.resolve
        self._headers, self._shared, self._limited_paths = policy.headers, policy.shared, policy.claims.limited_paths
        observers = limiter.observers
        self._report_accepted = observers.accepted if observers.follow("verified") else None

    def begin(self, method: str, path: str, key: bytes, source: Any, read: Callable[[Any], Request]) -> Admitted | None:
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
        except (ImpossibleClaim, InvalidLimit, BackendUnavailable) as error:
            return self._undecided(error, rule, caller, plan, read(source))
        if decision.__class__ is Decision and not decision.exceeded:
            return None, self._headers(decision), decision, caller
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
