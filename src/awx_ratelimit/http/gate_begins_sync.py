"""The short way of a gate: it decides most requests by their method, path and key, and reads little else of them.

Generated from `gate_begins.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Callable, Container, Mapping
from typing import Any

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Cost
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.http.event_loop_claims import acquire_of
from awx_ratelimit.http.gate_begins import _ONE, _UNDECIDED, Admitted, Read, _itself
from awx_ratelimit.http.gate_explains_sync import Explains
from awx_ratelimit.http.identity.identifiers import FindCaller
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import EXEMPT, Policy
from awx_ratelimit.http.rules.matching import UnclearPath, rule_of
from awx_ratelimit.limiter_sync import Limiter


class Begins(Explains):
    """Decides requests whose rule and caller are in memory."""

    def _prepare(self, limiter: Limiter, policy: Policy, finders: Mapping[bytes, FindCaller]) -> None:
        """Look up once what every request needs. See `finders_of` for `finders`."""
        self._limiter, self._policy = limiter, policy
        claiming = limiter
        self._claim, self._claim_jointly, self._acquire = claiming.claim, claiming.claim_jointly, acquire_of(claiming)
        self._cached_match, self._resolve, self._shared = policy.cached_match, policy.resolve, policy.shared
        self._headers, self._limited_paths = policy.headers, policy.claims.limited_paths
        observers = limiter.observers
        self._report_accepted = observers.accepted if observers.follow("verified") else None
        #: By the headers in which a key may be: the function that finds its caller in memory.
        self.finders = finders
        #: Those headers. A tuple of one is searched faster than a dict.
        self.key_headers: Container[bytes] = tuple(finders) if len(finders) == 1 else finders
        #: By the ids of callers that are charged by one plan alone: the subject, the plan, what decides its claims, and
        #: the caller, so that no other gets its id.
        self._alone: dict[int, tuple[str, Plan, Callable[[str, Plan, int], Any], Caller]] = {}

    def begin(self, method: str, path: str, header: bytes, key: bytes, source: Any, read: Read) -> Admitted | None:
        """Decide a request by the value `key` of `header`, which is one of `finders`; it has no other of them.

        None if more of the request matters: then nothing is decided or counted, and `admit` decides. `read(source)`
        returns the Request. `path` is the whole path, and no inner path differs.
        """
        method_and_path = method, path
        rule: Any = self._cached_match(method_and_path)
        if rule is None or not rule.is_plain or (method == "OPTIONS" and self._policy.preflights):
            return None if rule is None else self._begin_priced(rule, header, key, source, read)
        caller = self.finders[header](key)
        if caller is None:
            return None
        if self._report_accepted is not None:
            self._report_accepted()
        cost, alone = rule.cost, self._alone.get(id(caller))
        if alone is None or (self._limited_paths and method_and_path in self._limited_paths):
            return EXEMPT if caller.exempt else self._decide(rule, cost, caller, method_and_path, source, read)
        subject, plan, acquire, _ = alone
        decision: Any = None
        try:
            decision = (acquire if cost is _ONE else self._claim)(subject, plan, cost)
            if decision.__class__ is Decision and not decision.exceeded:
                return None, self._headers(decision), decision, caller
            return self._admitted(decision, caller, plan, source, read)
        except _UNDECIDED as error:
            return self._undecided(error, rule, cost, caller, plan, read(source))
        except BaseException:
            self.drop(decision)
            raise

    def _begin_priced(self, match: Any, header: bytes, key: bytes, source: Any, read: Read) -> Admitted | None:
        """`begin` where more than the path says what a request costs: its headers, its address or a function."""
        if rule_of(match).exempt:
            # Functions of rules are called once, and one that exempts before the key is used.
            return EXEMPT if rule_of(match) is match and match.exempt is True else None
        request = read(source)
        try:
            rule: Any = self._policy.rule_for(request)
        except UnclearPath:
            return None
        caller = None if rule is None else self.finders[header](key)
        if caller is None:
            return EXEMPT if rule is None else None
        if self._report_accepted is not None:
            self._report_accepted()
        if caller.exempt:
            return EXEMPT
        return self._decide(rule, rule.cost_of(request), caller, request[:2], request, _itself)

    def _decide(
        self, rule: Any, cost: Any, caller: Caller, method_and_path: tuple[str, str], source: Any, read: Read
    ) -> Admitted:
        """Decide the request of a known caller, who is not exempt."""
        plan, service, claims = None, self._shared.service, self._policy.claims
        decision: Any = None
        try:
            plan = self._resolve(caller)
            if not (plan.account or service or rule.is_joint or method_and_path in self._limited_paths):
                self._remember(caller, plan)
                decision = self._claim(caller.subject, plan, cost)
            else:
                request = read(source) if rule.price.budgets else None
                claim = claims.claim(method_and_path, request, caller, plan, service, rule.price, cost)
                # Only the limiter itself waits for room without blocking others.
                decide = self._limiter.claim_jointly if rule.wait_ms else self._claim_jointly
                decision = decide(claim, rule.wait_ms, rule.queues)
            return self._admitted(decision, caller, plan, source, read)
        except _UNDECIDED as error:
            return self._undecided(error, rule, cost, caller, plan, read(source))
        except BaseException:
            self.drop(decision)
            raise

    def _remember(self, caller: Caller, plan: Plan) -> None:
        """Look up the plan of this caller no more."""
        if self._policy.is_constant and caller.overrides is None:
            if len(self._alone) >= MAX_CACHED_PLANS:
                self._alone.clear()
            decide = self._claim if plan.shadowed else self._acquire
            self._alone[id(caller)] = caller.subject, plan, decide, caller

    def _admitted(self, decision: Decision, caller: Caller, plan: Plan, source: Any, read: Read) -> Admitted:
        refused = decision.exceeded & plan.enforced if decision.__class__ is Decision else not decision.allowed
        if refused:
            return self._policy.denied(read(source), decision)
        return None, self._headers(decision), decision, caller

    def _undecided(
        self, error: Exception, rule: Any, cost: Cost, caller: Caller, plan: Plan | None, request: Request
    ) -> Admitted:
        parts = self._policy.parts_of(plan, rule.price)
        return self._policy.undecided(request, parts, cost, caller.subject, error)
