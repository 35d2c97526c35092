"""The rate limit headers of every response, and the 429. `error_responses` has the other errors.

The fields follow draft-ietf-httpapi-ratelimit-headers-08 and later: `RateLimit-Policy` shows the limits of a plan,
`RateLimit` what is left of them. Error statuses and fields follow RFC 6585 and RFC 9110.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, Literal

from awx_ratelimit.core.budget import scoped_name
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Cost, cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT
from awx_ratelimit.http.draft_headers import POLICY_HEADER, draft
from awx_ratelimit.http.error_responses import RETRY_HEADER, retry_later, too_many_requests
from awx_ratelimit.http.limit_items import policy_items
from awx_ratelimit.http.message import Reply
from awx_ratelimit.http.pair_headers import STATE_HEADER
from awx_ratelimit.http.settling import shown_measure

#: The header that carries an API key.
#: As documents and messages write it.
KEY_HEADER_NAME: Final = "X-API-Key"
KEY_HEADER = KEY_HEADER_NAME.lower().encode()
Dialect = Literal["draft", "legacy", "both", "none"]
DIALECTS: tuple[Dialect, ...] = ("draft", "legacy", "both", "none")
Headers = list[tuple[bytes, bytes]]
Renderer = Callable[[Decision], Headers]

#: A plan of a claim with its scope.
Part = tuple[str | None, Plan]

_DRAFT = (POLICY_HEADER, STATE_HEADER)
#: The header in which an application says what a request has cost. It is never sent.
COST_HEADER: Final = b"ratelimit-cost"
_LEGACY = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset")
#: The names of the headers in each dialect.
NAMES: Final[Mapping[Dialect, tuple[bytes, ...]]] = {
    "draft": _DRAFT,
    "legacy": _LEGACY,
    "both": (*_DRAFT, *_LEGACY),
    "none": (),
}


def exposed_names(dialect: Dialect) -> frozenset[str]:
    """The names of the headers that browser scripts need: those of `dialect`, and Retry-After."""
    return frozenset(name.decode() for name in (RETRY_HEADER, *NAMES[dialect]))


def expose_header(dialect: Dialect) -> tuple[bytes, bytes]:
    """The CORS header that lets browser scripts of other origins read the headers in `dialect`, and Retry-After."""
    return b"access-control-expose-headers", b", ".join((RETRY_HEADER, *NAMES[dialect]))


def headers(decision: Decision, dialect: Dialect = "draft") -> Headers:
    """The headers that report `decision`."""
    return RENDERERS[dialect](decision)


def merged(outer: Headers, inner: Headers) -> Headers:
    """The headers of one response that reports two decisions. Of two legacy fields the tighter limit's are kept."""
    if not outer or not inner:
        return outer or inner
    if len(outer) == len(inner) == 2 and outer[1][0] is inner[1][0] is STATE_HEADER:
        # The usual dialect, without a dictionary.
        (name, policy), (state_name, state) = outer
        return [(name, b"%b, %b" % (policy, inner[0][1])), (state_name, b"%b, %b" % (state, inner[1][1]))]
    ours, theirs = dict(outer), dict(inner)
    remaining = _LEGACY[1]
    if remaining in ours and remaining in theirs and int(ours[remaining]) < int(theirs[remaining]):
        theirs |= {name: ours[name] for name in _LEGACY}
    joined = {name: ours[name] + b", " + theirs[name] for name in _DRAFT if name in ours and name in theirs}
    return [*(ours | theirs | joined).items()]


def _legacy(decision: Decision) -> Headers:
    """The tightest limit: the one with the longest wait, or if none refused, the rate with the fewest tokens left."""
    usages = [usage for usage in decision.usages if not usage.shadow]
    rates = [usage for usage in usages if usage.limit.rpartition(".")[2] != CONCURRENT]
    if not decision.allowed:
        tightest = max(usages, key=lambda usage: usage.retry_after_ms)
    elif rates:
        tightest = min(rates, key=lambda usage: usage.remaining)
    else:
        return []
    numbers = (tightest.capacity, tightest.remaining, -(-tightest.reset_after_ms // 1000))
    return [(name, b"%d" % number) for name, number in zip(_LEGACY, numbers, strict=True)]


#: The function that writes the headers of each dialect.
RENDERERS: Final[Mapping[Dialect, Renderer]] = {
    "draft": draft,
    "legacy": _legacy,
    "both": lambda decision: draft(decision) + _legacy(decision),
    "none": lambda _: [],
}


def refusal(decision: Decision, dialect: Dialect = "draft", *, problem: bool = False) -> Reply:
    """The 429 for a refused decision, with the wait in Retry-After and in the message.

    With `problem` the body is an RFC 9457 document that names the limits that refused.
    """
    # `usages` are a tenth of the work of a refusal, and only the problem document names limits.
    usages = decision.usages if problem else ()
    violated = [usage.limit for usage in usages if usage.refused and not usage.shadow]
    return retry_later(decision.retry_after_ms, violated, headers(decision, dialect), problem=problem)


def impossible_limits(parts: Sequence[Part], cost: Cost) -> list[str]:
    """The names of the limits of `parts` whose burst is below `cost`."""
    costs = cost_by_measure(cost)
    return [
        scoped_name(scope, rate.name)
        for scope, plan in parts
        for rate in plan.rates
        if costs.get(shown_measure(rate.measure), 0) > rate.burst and not (rate.shadow or plan.shadow)
    ]


def impossible(parts: Sequence[Part], limits: list[str], dialect: Dialect = "draft", *, problem: bool = False) -> Reply:
    """The 429 for a cost above the burst of `limits`. It has no Retry-After, because a retry cannot succeed."""
    items = [item for scope, plan in parts for item in policy_items(plan, scope)]
    more = [(POLICY_HEADER, ", ".join(items).encode())] if dialect in ("draft", "both") else []
    return too_many_requests("Request cost exceeds the limit.", more, limits if problem else None)


#: Statuses, each with its description, and its headers with their types.
DocumentedResponses = list[tuple[int, str, list[tuple[str, str]]]]


def documented_responses() -> DocumentedResponses:
    """For OpenAPI documents: the responses of a gate, first the one to a request without an accepted key."""
    types = [(RETRY_HEADER, "integer"), *((name, "string") for name in _DRAFT)]
    return [
        (HTTPStatus.UNAUTHORIZED.value, "The API key is missing or not accepted.", []),
        (
            HTTPStatus.TOO_MANY_REQUESTS.value,
            "A limit is reached.",
            [(name.decode().title().replace("Ratelimit", "RateLimit"), kind) for name, kind in types],
        ),
    ]
