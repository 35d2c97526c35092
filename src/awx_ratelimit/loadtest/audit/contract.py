"""The contract of a refusal: its body of three keys, its ``Retry-After``, and headers that can be read.

The names are spelled here once more, and not taken from the renderer: who audits must not share its mistakes.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final

from awx_ratelimit.core.rate import CONCURRENT, Rate
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.tolerances import Terms, Verdict, verdict

NAME: Final = "contract"
REFUSED_STATUS: Final = 429
RETRY_AFTER: Final = "retry-after"
POLICY, STATE = "ratelimit-policy", "ratelimit"
#: The headers that an observation keeps.
KEPT: Final = frozenset((RETRY_AFTER, POLICY, STATE, "content-type", "cache-control"))
MESSAGE = re.compile(r"Rate limit exceeded\. Retry after ([1-9][0-9]*) (seconds?)\.")
_ITEM = re.compile(r'"([a-z0-9_.-]{1,64})"((?:;[a-z][a-z0-9_-]*=(?:[0-9]{1,15}|"[a-z-]+"))*)')
_FIXED = {"code": "rate_limit_exceeded", "type": "rate_limit_error"}
#: How many of the admitted are looked at; their headers are made by the same code.
_MOST_ADMITTED = 500


def retry_after_s(one: Observation) -> int | None:
    """The whole seconds that a refusal tells to wait; None where it does not."""
    return wait_told_s(one.named(RETRY_AFTER))


def wait_told_s(values: Sequence[str]) -> int | None:
    """The whole seconds that the lines of the header say; None where they say none, or more than one."""
    return int(values[0]) if len(values) == 1 and re.fullmatch("[1-9][0-9]{0,8}", values[0]) else None


def slots_left(one: Observation) -> int | None:
    """How many slots the gateway says were left; None where it says nothing."""
    items = parsed(one.named(STATE)[0]) if one.named(STATE) else None
    return (items or {}).get(CONCURRENT, {}).get("r")


def audit(observations: Sequence[Observation], terms: Terms) -> Verdict:
    """Whether each refusal is one that a client can read, and each header what it says it is."""
    refused = [one for one in observations if one.outcome is Outcome.REFUSED]
    let_in = [one for one in observations if one.outcome is Outcome.ADMITTED][:_MOST_ADMITTED]
    faults = [f"a refusal {fault}" for one in refused for fault in _refusal_faults(one)]
    faults += [f"an answer {fault}" for one in (*refused, *let_in) for fault in _header_faults(one, terms.rates)]
    with_state = sum(1 for one in refused if one.named(STATE))
    return verdict(
        NAME, _distinct(faults), bool(refused), f"{len(refused)} refusals, {with_state} of them with RateLimit headers"
    )


def _distinct(faults: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(faults))


def _refusal_faults(one: Observation) -> Iterable[str]:
    told = retry_after_s(one)
    if told is None:
        yield f"has Retry-After {one.named(RETRY_AFTER) or 'not at all'}, which is no whole number of seconds above 0"
    try:
        said = json.loads(one.body)
    except (ValueError, RecursionError):
        yield f"has no JSON in its body but {one.body[:60]!r}"
        return
    if not isinstance(said, dict) or list(said) != [*_FIXED, "message"]:
        yield f"has another body than code, type and message: {one.body[:60]!r}"
        return
    for name, expected in _FIXED.items():
        if said[name] != expected:
            yield f"has {name} {said[name]!r}, not {expected!r}"
    if not any(value.partition(";")[0].strip() == "application/json" for value in one.named("content-type")):
        yield "is not application/json"
    match = MESSAGE.fullmatch(str(said["message"]))
    if match is None:
        yield f"has the message {str(said['message'])[:60]!r}"
    elif told is not None and (int(match[1]), match[2]) != (told, "second" if told == 1 else "seconds"):
        yield f"says {match[1]} {match[2]} in its message and {told} in Retry-After"


def _header_faults(one: Observation, rates: Sequence[Rate]) -> Iterable[str]:
    for name in (POLICY, STATE):
        values = one.named(name)
        if len(values) > 1:
            yield f"has {name} more than once"
        elif values:
            items = parsed(values[0])
            if items is None:
                yield f"has a {name} that is no list of items: {values[0][:80]!r}"
            elif name == POLICY:
                yield from _policy_faults(items, rates)
            else:
                yield from _state_faults(items)


def parsed(value: str) -> dict[str, dict[str, int]] | None:
    """The items of a header of the draft, with the numbers of their parameters; None where it is malformed."""
    items: dict[str, dict[str, int]] = {}
    for text in value.split(","):
        match = _ITEM.fullmatch(text.strip(" \t"))
        if match is None or match[1] in items:
            return None
        pairs = [pair.split("=", 1) for pair in match[2].split(";")[1:]]
        items[match[1]] = {name: int(number) for name, number in pairs if number.isdigit()}
    return items


def _policy_faults(items: dict[str, dict[str, int]], rates: Sequence[Rate]) -> Iterable[str]:
    for rate in rates:
        said = items.get(rate.name, {})
        expected = {"q": rate.tokens, "w": -(-rate.period_ms // 1_000)}
        if said and {name: said.get(name) for name in expected} != expected:
            yield f"says {said} of {rate.name!r}, whose plan says {expected}"
    if any("q" not in said for said in items.values()):
        yield "has a policy without its quota"


def _state_faults(items: dict[str, dict[str, int]]) -> Iterable[str]:
    for name, said in items.items():
        if "r" not in said:
            yield f"says of {name!r} not what remains"
