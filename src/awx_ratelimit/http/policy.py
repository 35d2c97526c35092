"""`Terms`: what a gate was told when it was made, and what follows from it for one request without asking anybody.

The two gates differ only in whether they wait; everything else that they know is here, once.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Literal, NamedTuple

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import check_bool
from awx_ratelimit.errors import ImpossibleClaim, InvalidLimit, KeyRefused, KeyStoreUnavailable, TooManyWrongKeys
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.http.client_address import ADDRESS, Addresses
from awx_ratelimit.http.identity.credentials import Abilities
from awx_ratelimit.http.message import Reply, Request
from awx_ratelimit.http.negotiation import prefers_problem
from awx_ratelimit.http.rules.matching import Charge, PrefixDependent, Rules
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.http.validation import check_costs, checked_anonymous, checked_rules

_log = logging.getLogger("awx_ratelimit")
WebSocketRefusal = Literal["http", "accept_close"]

#: How many unknown keys a minute one address may send before it is refused unheard.
UNKNOWN_KEYS = Plan.of("unknown-keys", per_minute=20)
_SUSPECTS = 10_000
#: By then the address owes nothing of UNKNOWN_KEYS.
_SUSPECTED_S = 60.0
Lines = Callable[[Decision], limit_headers.Lines]
#: Why it is not known who is calling.
Unheard = KeyRefused | KeyStoreUnavailable | TooManyWrongKeys


class Admission(NamedTuple):
    """What the gate says of one request: send `reply` and nothing else, or call the app and add `headers`.

    `decision` is what was decided, None for an exempt request and for one without a caller. A slot that came with it
    is held until `release`.
    """

    reply: Reply | None
    headers: list[tuple[bytes, bytes]]
    decision: Decision | None


FREE = Admission(None, [], None)


class Terms:
    """See Gate for the fields. Raises InvalidLimit for one that is wrong."""

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
    ) -> None:
        check_bool(preflights, "preflights")
        check_bool(expose, "expose")
        _one_of("headers", headers, limit_headers.DIALECTS)
        _one_of("websocket_refusal", websocket_refusal, ("http", "accept_close"))
        #: The plan of a caller.
        self.resolve = plans.resolve
        self.anonymous = checked_anonymous(anonymous)
        self.addresses = Addresses(trusted_proxies)
        self._preflights = preflights
        self._preflight_refused = False
        self._identifier = Abilities.of(identify)
        rules = checked_rules(rules)
        check_costs(rules, plans, anonymous, identify)
        self._rules = Rules(rules)
        self._known = self._rules.known.get
        self._dialect = headers
        self._exposed = [limit_headers.exposed(headers)] if expose else []
        #: The header lines of a decided response.
        self.lines = self._exposing(limit_headers.LINES[headers]) if expose else limit_headers.LINES[headers]
        self._log = SampledLog(_log, interval_s=1.0)
        #: The subjects of addresses that have sent unknown keys of late, each with the time of the last one in seconds.
        self.suspects: OrderedDict[str, float] = OrderedDict()

    def rule(self, request: Request) -> Rule | Charge | None:
        """The rule of the request; None if it is exempt, or a preflight that this gate lets pass."""
        method, path, _, _, inner_path = request
        match: Any = self._known((method, path)) if inner_path is None else None
        if match is None:
            match = self._rules.match(method, path, inner_path)
        if match.__class__ is PrefixDependent:
            match = self._rules.settled(match, request.sent_prefixes())
        rule: Rule | Charge = match
        if rule.exempt or (self._preflights and method == "OPTIONS" and _is_preflight(request)):
            return None
        return rule

    def is_exempt(self, method: str, path: str) -> bool:
        """Whether a request of `method` to `path` is neither decided nor identified."""
        return self._rules.is_exempt(method, path)

    def suspect(self, request: Request) -> str | None:
        """The subject of an address that has sent unknown keys of late; None for all others, and for known keys."""
        if not self._identifier.sends_key(request):
            return None
        subject = self._guesser(request)
        guessed_at_s = self.suspects.get(subject)
        if guessed_at_s is None:
            return None
        if monotonic() - guessed_at_s > _SUSPECTED_S:
            # Known keys ask no backend whether the address still owes something.
            self.suspects.pop(subject, None)
            return None
        return None if self._identifier.is_known(request) else subject

    def suspected(self, request: Request) -> str:
        """The subject of the address of this request, which has sent an unknown key."""
        subject = self._guesser(request)
        self.suspects.pop(subject, None)
        self.suspects[subject] = monotonic()
        while len(self.suspects) > _SUSPECTS:
            self.suspects.popitem(last=False)
        return subject

    def cleared(self, decision: Decision) -> None:
        """An address that owes nothing is no suspect any more."""
        if decision.usages[0].reset_after_ms == 0:
            self.suspects.pop(decision.subject, None)

    def nobody(self, request: Request) -> Caller | None:
        """Who a request without a key is: an address where a plan is given for that, else nobody."""
        return None if self.anonymous is None else Caller(self.addresses.subject(request), self.anonymous)

    def without_key(self, request: Request) -> Admission:
        """The request needs a key and has none."""
        self._hint_at_preflights(request)
        return refused(error_responses.unauthorized("api_key_missing", None, self._identifier.challenge))

    def unauthorized(self, refusal: KeyRefused) -> Admission:
        """The credentials are not accepted, in the words of the identifier."""
        challenge = refusal.challenge or self._identifier.challenge
        return refused(error_responses.unauthorized(refusal.code, refusal.message, challenge))

    def refused(self, request: Request, decision: Decision) -> Admission:
        """The request is refused with its wait."""
        self._hint_at_preflights(request)
        if decision.subject.startswith(ADDRESS):
            self.addresses.refused(request)
        reply = limit_headers.refusal(decision, self._dialect, problem=self._problem(request))
        return Admission(self._with_exposed(reply), [], decision)

    def undecided(self, request: Request, rule: Rule | Charge, caller: Caller, error: Exception) -> Admission:
        """The request is refused without a decision: without a wait where none would help."""
        if not isinstance(error, ImpossibleClaim):
            return self.unavailable(caller.subject, error)
        plan = rule.with_budget(self.resolve(caller))
        problem = self._problem(request)
        return refused(self._with_exposed(limit_headers.impossible(plan, rule.cost, self._dialect, problem=problem)))

    def stopped(self, request: Request, decision: Decision) -> Admission:
        """Too many unknown keys came from this address: the wait, and nothing of the plan of whose key it may be."""
        self.addresses.refused(request)
        reply = limit_headers.refusal(decision, "none", problem=self._problem(request))
        return refused(self._with_exposed(reply))

    def unavailable(self, subject: str, error: Exception) -> Admission:
        """Nothing is let in without a decision."""
        # An outage is no reason for a line with each request.
        self._log.write(logging.ERROR, "decision", "no decision for %r: %s", subject, error)
        return refused(error_responses.failure("rate_limiter_unavailable"))

    def unheard(self, request: Request, error: Unheard) -> Admission:
        """Whoever sent the key is not let in, and has not guessed."""
        if isinstance(error, KeyRefused):
            return self.unauthorized(error)
        if isinstance(error, TooManyWrongKeys):
            violated = [rate.name for rate in UNKNOWN_KEYS.rates]
            reply = limit_headers.come_back(error.retry_after_ms, violated, problem=self._problem(request))
            return refused(self._with_exposed(reply))
        self._log.write(logging.ERROR, "store", "keys are not looked up: %s", error)
        return refused(error_responses.failure(error.code))

    def _hint_at_preflights(self, request: Request) -> None:
        """Log once, when a preflight is refused, how to let browsers ask."""
        if self._preflight_refused or request.method != "OPTIONS" or not _is_preflight(request):
            return
        self._preflight_refused = True
        _log.warning(
            "a CORS preflight was refused: browsers send OPTIONS without an API key. "
            "Put the CORS middleware outside the rate limit middleware; it then answers preflights itself"
        )

    def _guesser(self, request: Request) -> str:
        # Not the subject of the address itself: what it may do without a key is another limit.
        return f"unknown-keys:{self.addresses.subject(request)}"

    def _exposing(self, lines: Lines) -> Lines:
        return lambda decision: lines(decision) + self._exposed

    def _with_exposed(self, reply: Reply) -> Reply:
        return reply._replace(headers=[*reply.headers, *self._exposed]) if self._exposed else reply

    def _problem(self, request: Request) -> bool:
        return prefers_problem(request.values(b"accept"))


def refused(reply: Reply) -> Admission:
    """The request is answered with `reply`, and nothing was decided."""
    return Admission(reply, [], None)


def _is_preflight(request: Request) -> bool:
    """Whether this is what a browser sends before a request to another origin (CORS). Any client can send the same."""
    return bool(request.values(b"origin") and request.values(b"access-control-request-method"))


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidLimit(f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}")
