"""Every status, header name and error body that this library sends; nowhere else is one spelled.

Header fields follow draft-ietf-httpapi-ratelimit-headers-08 and later: `RateLimit-Policy` says what a plan allows,
`RateLimit` how it stands. Statuses and fields of errors are those of RFC 6585 and RFC 9110.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from awx_ratelimit.core.bucket import next_boundary_ms
from awx_ratelimit.core.decision import Decision, Usage
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.core.rates import CONCURRENT, Rate
from awx_ratelimit.web.message import Reply

#: The header that carries an API key.
KEY_HEADER = b"x-api-key"
_POLICY = b"ratelimit-policy"
_STATE = b"ratelimit"
#: What `headers` sends; an app's own headers of these names are replaced.
NAMES = frozenset((_POLICY, _STATE))

_MESSAGES = {
    "api_key_missing": "API key is missing. Send it in the X-API-Key header.",
    "invalid_api_key": "API key is invalid.",
    "api_key_expired": "API key has expired.",
    "api_key_revoked": "API key has been revoked.",
}


def headers(decision: Decision) -> list[tuple[bytes, bytes]]:
    """The header lines that every decided response carries."""
    plan = decision.plan
    items = [
        _item(usage, rate, decision)
        for usage, rate in zip(decision.usages, (*plan.rates, None), strict=False)
        if not usage.shadow
    ]
    return [(_POLICY, policy(plan)), (_STATE, ", ".join(items).encode())] if items else []


@lru_cache(maxsize=4096)
def policy(plan: Plan) -> bytes:
    """The value of RateLimit-Policy: a constant of the plan."""
    items = [_policy_item(rate) for rate in plan.rates if not (rate.shadow or plan.shadow)]
    if plan.concurrency and not (plan.concurrency.shadow or plan.shadow):
        items.append(f'"{CONCURRENT}";q={plan.concurrency.slots};qu="concurrent-requests"')
    return ", ".join(items).encode()


def _policy_item(rate: Rate) -> str:
    burst = "" if rate.burst == rate.tokens else f";awx-burst={rate.burst}"
    return f'"{rate.name}";q={rate.tokens};w={_seconds(rate.period_ms)}{burst}'


def _item(usage: Usage, rate: Rate | None, decision: Decision) -> str:
    if usage.refused and usage.retry_after_ms:
        return f'"{usage.limit}";r={usage.remaining};t={_seconds(usage.retry_after_ms)}'
    if rate is None:
        return f'"{usage.limit}";r={usage.remaining}'
    if rate.calendar:
        until_ms = usage.reset_after_ms or next_boundary_ms(rate, decision.decided_at_ms) - decision.decided_at_ms
        return f'"{usage.limit}";r={usage.remaining};t={_seconds(until_ms)}'
    refill_seconds = -(-usage.remaining * rate.period_ms // (rate.tokens * 1000))
    return f'"{usage.limit}";r={usage.remaining};t={refill_seconds or 1}'


def refusal(decision: Decision) -> Reply:
    """429 of a refused decision: when to come back, in the header and in the message alike."""
    seconds = _seconds(decision.retry_after_ms)
    message = f"Rate limit exceeded. Retry after {seconds} second{'' if seconds == 1 else 's'}."
    return _too_many(message, [(b"retry-after", b"%d" % seconds), *headers(decision)])


def impossible(plan: Plan) -> Reply:
    """429 of a claim that no waiting satisfies: it does not say when to come back."""
    return _too_many("Request cost exceeds the limit.", [(_POLICY, policy(plan))])


def unauthorized(code: str) -> Reply:
    """401 with one of the codes of the contract; an unknown code is an invalid key."""
    code = code if code in _MESSAGES else "invalid_api_key"
    challenge = (b"www-authenticate", b'ApiKey realm="api", header="X-API-Key"')
    return error(HTTPStatus.UNAUTHORIZED, code, "authentication_error", _MESSAGES[code], [challenge])


def unavailable() -> Reply:
    """503: there is no decision, and nothing is let in without one."""
    message = "Rate limiter is unavailable. Retry after 1 second."
    code = "rate_limiter_unavailable"
    return error(HTTPStatus.SERVICE_UNAVAILABLE, code, "internal_error", message, [(b"retry-after", b"1")])


def error(status: HTTPStatus, code: str, type: str, message: str, more: Iterable[tuple[bytes, bytes]] = ()) -> Reply:
    """An error in the envelope of three keys."""
    body = json.dumps({"code": code, "type": type, "message": message}, separators=(",", ":")).encode()
    lines = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return Reply(status.value, [*lines, *more], body)


def _too_many(message: str, more: Iterable[tuple[bytes, bytes]]) -> Reply:
    return error(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_exceeded", "rate_limit_error", message, more)


def _seconds(ms: int) -> int:
    """Whole seconds, rounded up, at least 1."""
    return max(1, -(-ms // 1000))
