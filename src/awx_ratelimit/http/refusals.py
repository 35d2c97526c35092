"""`Refusals`: the responses to refused requests, as the table of plans and `on_refused` change them.

Whatever they say, a refusal keeps Retry-After, the rate limit headers and ``Cache-Control: no-store``.
"""

import logging
from collections.abc import Sequence
from typing import Final

from awx_ratelimit.core.budget import ACCOUNT_SCOPE
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.joint_claim import Cost
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.http.header_values import prefers_problem
from awx_ratelimit.http.message import OnRefused, Refusal, Reply, Request
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.http.unknown_keys import UNKNOWN_KEYS

_log = logging.getLogger("awx_ratelimit")
_OWN_BODY: Final = frozenset((b"content-type", b"content-length"))
_STATUSES: Final = range(200, 600)


class Refusals:
    """Writes the 429s of a gate. `headers` is the dialect of the rate limit headers."""

    def __init__(self, plans: PlanTable, headers: limit_headers.Dialect, on_refused: OnRefused | None) -> None:
        self._plans = plans
        self._dialect = headers
        self._on_refused = on_refused
        self._log = SampledLog(_log, interval_s=1.0)

    def denied(self, request: Request, decision: Decision) -> Reply:
        """A limit of the caller's plan or of a budget refused the request."""
        reply = limit_headers.refusal(decision, self._dialect, problem=_wants_problem(request))
        text = self._plans.refusal_of(decision.plan) if _is_of_plan(decision) else None
        if text is not None:
            own = Reply.text(text.body, status=text.status or reply.status, content_type=text.content_type)
            reply = _keeping_headers(reply, own)
        if self._on_refused is None:
            return reply
        limits = [usage.limit for usage in decision.usages if usage.refused and not usage.shadow]
        wait_s = error_responses.whole_seconds(decision.retry_after_ms)
        return self._changed(request, Refusal(wait_s, limits, decision, reply))

    def wrong_keys(self, request: Request, retry_after_ms: int) -> Reply:
        """The address has sent too many unknown keys. The reply shows no limits, because no plan is known."""
        limits = [rate.name for rate in UNKNOWN_KEYS.rates]
        reply = error_responses.retry_later(retry_after_ms, limits, problem=_wants_problem(request))
        return self._changed(request, Refusal(error_responses.whole_seconds(retry_after_ms), limits, None, reply))

    def impossible(self, request: Request, parts: Sequence[limit_headers.Part], cost: Cost) -> Reply:
        """The cost is above the burst of a limit, so no retry can succeed. `parts` are the plans with their scopes."""
        limits = limit_headers.impossible_limits(parts, cost)
        reply = limit_headers.impossible(parts, limits, self._dialect, problem=_wants_problem(request))
        return self._changed(request, Refusal(None, limits, None, reply))

    def _changed(self, request: Request, refusal: Refusal) -> Reply:
        if self._on_refused is None:
            return refusal.reply
        try:
            own = self._on_refused(request, refusal)
            return refusal.reply if own is None else _keeping_headers(refusal.reply, _checked(own))
        except Exception as error:
            # A mistake in it must not turn a refusal into a 500, which clients retry at once.
            self._log.write(logging.ERROR, "on_refused", "on_refused failed, so the usual reply is sent: %r", error)
            return refusal.reply


def _is_of_plan(decision: Decision) -> bool:
    """Whether a limit of the caller's plan has refused, and not only those of the service, of rules and of routes."""
    if not isinstance(decision, JointDecision):
        return True
    refused = [usage for usage in decision.usages if usage.refused and not usage.shadow]
    return any(usage.scope in (None, ACCOUNT_SCOPE) for usage in refused)


def _checked(reply: object) -> Reply:
    if not isinstance(reply, Reply):
        raise TypeError(f"on_refused returned {type_name(reply)}; return a Reply, or None for the usual response")
    status, headers, body = reply
    parts = [body, *(part for pair in headers for part in pair)]
    if status not in _STATUSES or not all(isinstance(part, bytes) for part in parts):
        raise TypeError("on_refused: expected a Reply such as Reply(503, [(b'name', b'value')], b'body')")
    return reply


def _keeping_headers(usual: Reply, own: Reply) -> Reply:
    """`own` with the headers of `usual`, except those that describe its body."""
    kept = [pair for pair in usual.headers if pair[0] not in _OWN_BODY]
    names = {name for name, _ in kept} | {b"content-length"}
    more = [(name.lower(), value) for name, value in own.headers if name.lower() not in names]
    return Reply(own.status, [*more, (b"content-length", b"%d" % len(own.body)), *kept], own.body)


def _wants_problem(request: Request) -> bool:
    return prefers_problem(request.values(b"accept"))
