"""`Policy`: the configuration of a gate, and every step of a request that needs no waiting.

`Gate` and `AsyncGate` differ only in how they wait. They share everything else through this class.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Cost
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_schema import checked_service
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import check_bool
from awx_ratelimit.errors import ImpossibleClaim, KeyRefused, KeyStoreUnavailable, TooManyWrongKeys
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.http.client_address import ADDRESS_PREFIX, FORWARDED_FOR, ClientAddresses
from awx_ratelimit.http.identity.identifiers import IdentifierHooks
from awx_ratelimit.http.message import OnRefused, Reply, Request
from awx_ratelimit.http.plan_warnings import SharedBuckets, warn_of_plans
from awx_ratelimit.http.refusals import Refusals
from awx_ratelimit.http.request_claims import Price, RequestClaims, parts_of
from awx_ratelimit.http.rules.matching import DEFAULT_RULE, CombinedRule, PrefixDependent, RuleMatcher, UnclearPath
from awx_ratelimit.http.rules.reachability import check_reachable
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.http.unknown_keys import UnknownKeys
from awx_ratelimit.http.validation import (
    check_budgets,
    check_choice,
    check_costs,
    checked_anonymous,
    checked_on_refused,
    checked_rules,
)
from awx_ratelimit.runtime.documentation import page

_log = logging.getLogger("awx_ratelimit")
WebSocketRefusal = Literal["http", "accept_close"]
_WEBSOCKET_REFUSALS: tuple[WebSocketRefusal, ...] = ("http", "accept_close")

#: What requests cost.
AnyRule = Rule | CombinedRule
#: Why the caller of a request is not known: its key is not accepted, or its path may mean anything.
AuthenticationError = KeyRefused | KeyStoreUnavailable | TooManyWrongKeys | UnclearPath


class Admission(NamedTuple):
    """The gate's answer for one request: send `reply` and nothing else, or call the app and add `headers`.

    `decision` is None for an exempt request and for one without a caller. A slot that the decision took is held until
    `release`. `caller` is whose request a gate has admitted.
    """

    reply: Reply | None
    headers: list[tuple[bytes, bytes]]
    decision: Decision | None
    caller: Caller | None = None


EXEMPT = Admission(None, [], None)


class SharedPlan(NamedTuple):
    """The plan that everybody shares."""

    service: Plan | None


class Policy:
    """See AsyncGate for the parameters. Raises InvalidLimit or TypeError for a wrong one."""

    def __init__(
        self,
        plans: PlanTable,
        rules: Iterable[Rule],
        headers: limit_headers.Dialect,
        expose: bool,
        anonymous: Plan | None,
        trusted_proxies: Iterable[str],
        websocket_refusal: WebSocketRefusal,
        preflights: bool,
        identify: object,
        on_refused: OnRefused | None = None,
        address_header: str = FORWARDED_FOR,
        ipv6_prefix: int = 64,
        service: Plan | None = None,
    ) -> None:
        check_bool(preflights, "preflights")
        check_bool(expose, "expose")
        check_choice("headers", headers, limit_headers.DIALECTS)
        check_choice("websocket_refusal", websocket_refusal, _WEBSOCKET_REFUSALS)
        #: Has the plan that everybody shares as its attribute `service`. A watched table changes it.
        self.shared = plans if service is None else SharedPlan(checked_service(service))
        #: Returns the plan of a caller.
        self.resolve = plans.resolve
        #: Whether it always returns the same for a caller without overrides of its own.
        self.is_constant = type(plans) is PlanTable
        self.anonymous = checked_anonymous(anonymous)
        self.addresses = ClientAddresses(trusted_proxies, address_header, ipv6_prefix)
        self.preflights = preflights
        self._preflight_hint_logged = False
        self._hooks = IdentifierHooks.of(identify)
        self.unknown_keys = UnknownKeys(self._hooks, self.addresses.subject)
        rules = self.rules = checked_rules(rules)
        check_reachable(rules)
        check_budgets(rules)
        check_costs(rules, plans, anonymous, self.shared.service, identify)
        warn_of_plans(rules, plans, anonymous, self.shared.service, identify)
        self.claims = RequestClaims(self.addresses.subject)
        self.shared_buckets = SharedBuckets(rules)
        self._rules = RuleMatcher(rules)
        #: Returns a recent match of a method and a path; None if there is none.
        self.cached_match = self._rules.cache.get
        self._refusals = Refusals(plans, headers, checked_on_refused(on_refused))
        self._expose_headers = exposed = [limit_headers.expose_header(headers)] if expose else []
        #: Returns the headers of an admitted response.
        self.headers = render = limit_headers.RENDERERS[headers]
        if expose:
            self.headers = lambda decision: render(decision) + exposed
        self._log = SampledLog(_log, interval_s=1.0)

    def rule_for(self, request: Request) -> AnyRule | None:
        """The rule of the request; None if it is exempt, or a preflight that may pass free. Raises UnclearPath."""
        method, path, _, _, inner_path, _ = request
        match: Any = self.cached_match((method, path)) if inner_path is None else None
        if match is None:
            match = self._rules.match(method, path, inner_path)
        if match.__class__ is PrefixDependent:
            match = self._rules.resolve_prefixes(match, request.sent_prefixes())
        rule: AnyRule = match
        if rule.exempt and rule.exempts(request):
            return None
        return None if self.preflights and method == "OPTIONS" and _is_preflight(request) else rule

    def matching_rules(self, request: Request) -> tuple[Rule, ...]:
        """The rules that the request may be meant for, exempt or not; none if no rule matches. Raises UnclearPath."""
        match = self._rules.match(request.method, request.path, request.inner_path)
        if isinstance(match, PrefixDependent):
            match = self._rules.resolve_prefixes(match, request.sent_prefixes())
        rules = match.rules if isinstance(match, CombinedRule) else (match,)
        return tuple(rule for rule in rules if rule is not DEFAULT_RULE)

    def is_exempt(self, method: str, path: str) -> bool:
        """Whether requests of `method` to `path` are neither limited nor identified."""
        return self._rules.is_exempt(method, path)

    def anonymous_caller(self, request: Request) -> Caller | None:
        """The caller of a request without a key: its address under the plan `anonymous`; None without that plan."""
        return None if self.anonymous is None else Caller(self.addresses.subject(request), self.anonymous)

    def missing_key(self, request: Request) -> Admission:
        """401: the request needs a key and has none."""
        self._hint_at_preflights(request)
        return refused(error_responses.unauthorized("api_key_missing", None, self._hooks.challenge))

    def unauthorized(self, refusal: KeyRefused) -> Admission:
        """401: the credentials are not accepted. Code, message and challenge are those of the identifier."""
        challenge = refusal.challenge or self._hooks.challenge
        return refused(error_responses.unauthorized(refusal.code, refusal.message, challenge))

    def unauthenticated(self, request: Request, error: AuthenticationError) -> Admission:
        """The reply for an error that does not count as an unknown key."""
        if isinstance(error, UnclearPath):
            return refused(error_responses.failure("invalid_request", "The path is too long or ambiguous."))
        if isinstance(error, KeyRefused):
            return self.unauthorized(error)
        if isinstance(error, TooManyWrongKeys):
            return refused(self._exposing(self._refusals.wrong_keys(request, error.retry_after_ms)))
        self._log.write(logging.ERROR, "store", "the key store is unavailable: %s", error)
        return refused(error_responses.failure(error.code))

    def denied(self, request: Request, decision: Decision) -> Admission:
        """429: a limit of the caller's plan or of a budget refused the request."""
        self._hint_at_preflights(request)
        if decision.subject.startswith(ADDRESS_PREFIX):
            self.addresses.warn_of_refusal(request)
        return Admission(self._exposing(self._refusals.denied(request, decision)), [], decision)

    def throttled(self, request: Request, decision: Decision) -> Admission:
        """429: the address has sent too many unknown keys. The reply shows no limits, because no plan is known."""
        self.addresses.warn_of_refusal(request)
        return refused(self._exposing(self._refusals.wrong_keys(request, decision.retry_after_ms)))

    def undecided(
        self, request: Request, parts: Sequence[limit_headers.Part], cost: Cost, subject: str, error: Exception
    ) -> Admission:
        """429 for a cost above the burst, which no retry can pay; 503 for any other error.

        `parts` are the plans of the claim, with their scopes.
        """
        if not isinstance(error, ImpossibleClaim):
            return self.unavailable(subject, error)
        return refused(self._exposing(self._refusals.impossible(request, parts, cost)))

    def parts_of(self, plan: Plan | None, price: Price) -> list[limit_headers.Part]:
        """The plans of a claim of this caller's plan; none if the plan is not known."""
        return [] if plan is None else parts_of(plan, self.shared.service, price)

    def not_refunded(self, decision: Decision, error: Exception) -> None:
        """A request was refused by its route, and the backend cannot give back what the gate has charged for it."""
        self._log.write(logging.ERROR, "refund", "a refused request of %r stays charged: %s", decision.subject, error)

    def not_settled(self, decision: Decision, error: Exception) -> None:
        """A request has ended, and the backend cannot correct what it was charged."""
        self._log.write(logging.ERROR, "settle", "a request of %r keeps its charge: %s", decision.subject, error)

    def unavailable(self, subject: str, error: Exception) -> Admission:
        """503: without a decision no request passes. During an outage this logs one line per second."""
        self._log.write(logging.ERROR, "decision", "no decision for %r: %s", subject, error)
        return refused(error_responses.failure("rate_limiter_unavailable"))

    def _hint_at_preflights(self, request: Request) -> None:
        """Log once, for the first refused preflight, where the CORS middleware belongs."""
        if self._preflight_hint_logged or request.method != "OPTIONS" or not _is_preflight(request):
            return
        self._preflight_hint_logged = True
        _log.warning(
            "a CORS preflight was refused: browsers send OPTIONS without an API key. "
            "Put the CORS middleware outside the rate limit middleware; it then answers preflights itself: see %s",
            page("cors"),
        )

    def _exposing(self, reply: Reply) -> Reply:
        return reply._replace(headers=[*reply.headers, *self._expose_headers]) if self._expose_headers else reply


def refused(reply: Reply) -> Admission:
    """Send `reply`; nothing was charged."""
    return Admission(reply, [], None)


def _is_preflight(request: Request) -> bool:
    """Whether the request looks like a browser's CORS preflight. Any client can send one."""
    return any(request.values(b"origin")) and any(request.values(b"access-control-request-method"))
