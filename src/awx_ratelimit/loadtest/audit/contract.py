"""The contract of a refusal: its JSON body, its ``Retry-After``, and well-formed ``RateLimit`` headers.

The names are repeated here and not imported from the renderer, because an audit must not share the renderer's mistakes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from awx_ratelimit.core.rate import REQUESTS, Rate
from awx_ratelimit.loadtest.audit.observation import SECOND_US, Observation, Outcome
from awx_ratelimit.loadtest.audit.rate_bound import period_edges_us
from awx_ratelimit.loadtest.audit.verdict import Tolerances, Verdict, enforced_rates, judge
from awx_ratelimit.runtime.clock import rfc3339

NAME: Final = "contract"
REFUSED_STATUS: Final = 429
RETRY_AFTER: Final = "retry-after"
POLICY, STATE = "ratelimit-policy", "ratelimit"
#: The headers that an observation keeps.
KEPT_HEADERS: Final = frozenset((RETRY_AFTER, POLICY, STATE, "content-type", "cache-control"))
MESSAGE = re.compile(r"Rate limit exceeded\. Retry after ([1-9][0-9]*) (seconds?)\.")
_ITEM = re.compile(r'"([a-z0-9_.-]{1,64})"((?:;[a-z][a-z0-9_-]*=(?:[0-9]{1,15}|"[a-z0-9_-]+"))*)')
_FIXED_FIELDS = {"code": "rate_limit_exceeded", "type": "rate_limit_error"}
#: The same code writes the headers of every admitted response, so the audit reads only the first ones.
_MAX_ADMITTED = 500


def retry_after_s(one: Observation) -> int | None:
    """The whole seconds in the ``Retry-After`` of a refusal; None if it is missing or malformed."""
    return parse_retry_after_s(one.header_values(RETRY_AFTER))


def parse_retry_after_s(values: Sequence[str]) -> int | None:
    """The whole seconds in the values of ``Retry-After``; None unless there is exactly one well-formed value."""
    return int(values[0]) if len(values) == 1 and re.fullmatch("[1-9][0-9]{0,8}", values[0]) else None


def remaining(one: Observation, limit: str) -> int | None:
    """What the ``RateLimit`` header says is left of a limit; None if the header does not say."""
    values = one.header_values(STATE)
    items = parse_items(values[0]) if values else None
    return (items or {}).get(limit, {}).get("r")


def check(observations: Sequence[Observation], tolerances: Tolerances) -> Verdict:
    """Whether clients can parse every refusal, and whether every header agrees with the plan."""
    refused = [one for one in observations if one.outcome is Outcome.REFUSED]
    admitted = [one for one in observations if one.outcome is Outcome.ADMITTED][:_MAX_ADMITTED]
    faults = [f"a refusal {fault}" for one in refused for fault in _refusal_faults(one)]
    faults += [f"a response {fault}" for one in (*refused, *admitted) for fault in _header_faults(one, tolerances)]
    with_state = sum(1 for one in refused if one.header_values(STATE))
    distinct = list(dict.fromkeys(faults))
    return judge(NAME, distinct, bool(refused), f"{len(refused)} refusals, {with_state} of them with RateLimit headers")


def _refusal_faults(one: Observation) -> Iterable[str]:
    wait_s = retry_after_s(one)
    if wait_s is None:
        yield f"has Retry-After {one.header_values(RETRY_AFTER)}, expected one whole number of seconds above 0"
    try:
        body = json.loads(one.body)
    except (ValueError, RecursionError):
        yield f"has a body that is not JSON: {one.body[:60]!r}"
        return
    if not isinstance(body, dict) or list(body) != [*_FIXED_FIELDS, "message"]:
        yield f"has other fields than code, type and message: {one.body[:60]!r}"
        return
    for name, expected in _FIXED_FIELDS.items():
        if body[name] != expected:
            yield f"has {name} {body[name]!r}, expected {expected!r}"
    if not any(value.partition(";")[0].strip() == "application/json" for value in one.header_values("content-type")):
        yield "is not application/json"
    yield from _message_faults(str(body["message"]), wait_s)


def _message_faults(message: str, wait_s: int | None) -> Iterable[str]:
    match = MESSAGE.fullmatch(message)
    if match is None:
        yield f"has the message {message[:60]!r}"
    elif wait_s is not None and (int(match[1]), match[2]) != (wait_s, "second" if wait_s == 1 else "seconds"):
        yield f"says {match[1]} {match[2]} in its message and {wait_s} in Retry-After"


def _header_faults(one: Observation, tolerances: Tolerances) -> Iterable[str]:
    for name in (POLICY, STATE):
        values = one.header_values(name)
        if len(values) > 1:
            yield f"has {name} more than once"
        elif values:
            items = parse_items(values[0])
            if items is None:
                yield f"has a malformed {name}: {values[0][:80]!r}"
            elif name == POLICY:
                yield from _policy_faults(items, tolerances)
            else:
                yield from _state_faults(one, items, tolerances)


def parse_items(value: str) -> dict[str, dict[str, Any]] | None:
    """The items of a ``RateLimit`` header and their parameters; None if the header is malformed."""
    items: dict[str, dict[str, Any]] = {}
    for text in value.split(","):
        match = _ITEM.fullmatch(text.strip(" \t"))
        if match is None or match[1] in items:
            return None
        pairs = [pair.split("=", 1) for pair in match[2].split(";")[1:]]
        items[match[1]] = {name: int(text) if text.isdigit() else text.strip('"') for name, text in pairs}
    return items


def _limits(tolerances: Tolerances) -> Iterator[tuple[str, Rate]]:
    """The enforced rates by their names in headers."""
    for budget in tolerances.budgets:
        for rate in enforced_rates(budget.plan):
            yield budget.name(rate.name), rate


def _policy_faults(items: dict[str, dict[str, Any]], tolerances: Tolerances) -> Iterable[str]:
    for limit, rate in _limits(tolerances):
        item = items.get(limit, {})
        # The length of a month depends on the month.
        window_s = None if rate.period in ("month", "year") else -(-rate.period_ms // 1_000)
        expected: dict[str, Any] = {"q": rate.tokens, "w": window_s}
        if rate.measure != REQUESTS:
            expected["qu"] = rate.measure
        if item and {name: item.get(name) for name in expected} != expected:
            stated = {name: value for name, value in expected.items() if value is not None}
            yield f"says {item} for {limit!r}, the plan says {stated}"
    if any("q" not in item for item in items.values()):
        yield f"has an item without q in {POLICY}"


def _state_faults(one: Observation, items: dict[str, dict[str, Any]], tolerances: Tolerances) -> Iterable[str]:
    yield from (f"has no r for {limit!r} in {STATE}" for limit, item in items.items() if "r" not in item)
    for limit, rate in _limits(tolerances):
        item = items.get(limit, {})
        if item.get("r", 0) > rate.burst:
            yield f"says that {item['r']} are left of {limit!r}, which has {rate.burst}"
        if rate.calendar and isinstance(item.get("t"), int) and not _ends_then(one, item["t"], rate, tolerances):
            end = datetime.fromtimestamp(rate.periods.bounds(one.answered_us // 1_000)[1] // 1_000, UTC)
            yield f"says that {limit!r} resets at another time than {rfc3339(end)}"


def _ends_then(one: Observation, wait_s: int, rate: Rate, tolerances: Tolerances) -> bool:
    """Whether a period ends `wait_s`, rounded up, after some moment at which the gateway may have decided."""
    from_us, to_us = one.sent_us - tolerances.skew_us, one.answered_us + tolerances.skew_us
    _, *ends_us = period_edges_us(rate, from_us, to_us)
    return any(from_us + (wait_s - 1) * SECOND_US <= end_us <= to_us + wait_s * SECOND_US for end_us in ends_us)
