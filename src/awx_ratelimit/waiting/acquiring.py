"""Claims that wait for room: first come, first served in this process, and never beyond their deadline."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypedDict

from awx_ratelimit.core.budget import Budget, Record
from awx_ratelimit.core.claim import checked_claim
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim, acquired_jointly
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import describe
from awx_ratelimit.core.waits import lacks_slot, wait_behind_ms
from awx_ratelimit.observability.listeners import notify
from awx_ratelimit.waiting.lines import MAX_WAITING, Line, Place, WaitingLines
from awx_ratelimit.waiting.sleeps import alarm_clock_of, async_sleep_by

#: A claim that has room at its deadline waits this long for those ahead of it, which have room too.
_GRACE_MS: Final = 50


class Terms(TypedDict, total=False):
    """The keyword arguments of `acquire`."""

    scope: str | None
    also: Iterable[Budget]
    settle: bool
    wait_ms: int


class WaitingClaim(NamedTuple):
    """A claim that may wait: the line that it stands in, and how it is decided."""

    key: Hashable
    records: Sequence[Record]
    decide: Callable[..., Any]
    look: Callable[..., Any]
    arguments: tuple[Any, ...]


def plain_claim(backend: Any, subject: str, plan: Plan, cost: int) -> WaitingClaim:
    """A claim of one budget without a scope."""
    key = subject, plan, cost
    return WaitingClaim(key, (subject,), backend.acquire, backend.peek, (subject, plan, cost))


def joint_claim(backend: Any, claim: JointClaim) -> WaitingClaim:
    """A claim of several budgets."""
    records, shape, declared = claim
    cost = shape.cost if isinstance(shape.cost, int) else tuple(sorted(shape.cost.items()))
    key = records, shape.plans, shape.scopes, cost, declared
    return WaitingClaim(key, records, backend.acquire_joint, backend.peek_joint, (claim,))


def claim_of(
    backend: Any, subject: str, plan: Plan, cost: Any, scope: str | None, also: Iterable[Budget], settle: bool
) -> WaitingClaim:
    """The claim of these arguments of `acquire`. Raises as `acquire` does."""
    if also or scope is not None or settle or isinstance(cost, Mapping):
        return joint_claim(backend, acquired_jointly(subject, plan, cost, scope, also, settle))
    subject, plan, cost = checked_claim(subject, plan, cost)
    plan.check(cost)
    return plain_claim(backend, subject, plan, cost)


def check_bounds(wait_ms: object, max_waiting: object) -> None:
    """Raise ValueError unless `wait_ms` is an int of at least 0 and `max_waiting` one of at least 1."""
    if type(wait_ms) is not int or wait_ms < 0:
        raise ValueError(f"wait_ms: expected an integer >= 0, in milliseconds, got {describe(wait_ms)}")
    if type(max_waiting) is not int or max_waiting < 1:
        raise ValueError(f"max_waiting: expected an integer >= 1, got {describe(max_waiting)}")


async def async_acquire_in_line(
    limiter: Any, claim: WaitingClaim, wait_ms: int, max_waiting: int = MAX_WAITING
) -> Decision:
    """Decide `claim`, and wait up to `wait_ms` for room, behind the equal claims that have waited longer.

    The refusal is returned at once if the next wait would end after the deadline, and if `max_waiting` equal claims
    wait already. Raises ValueError for a wrong bound.
    """
    check_bounds(wait_ms, max_waiting)
    decision = await async_decide_in_line(limiter, claim, wait_ms, max_waiting)
    limiter.shadow.count(decision)
    if limiter.listeners:
        notify(limiter.listeners, decision, limiter.give_back)
    return decision


async def async_decide_in_line(limiter: Any, claim: WaitingClaim, wait_ms: int, max_waiting: int) -> Decision:
    """`async_acquire_in_line` without its report to the listeners."""
    lines: WaitingLines = limiter.lines
    sleep = async_sleep_by(alarm_clock_of(limiter))
    until_ms = sleep.now_ms() + wait_ms
    place: Place | None = None
    try:
        line, place = lines.join(claim.key, claim.records, sleep.wake, limiter, max_waiting)
        if place is None:
            return await async_refusal_of(claim, line, await claim.look(*claim.arguments))
        if place.ahead:
            seen: Decision = await claim.look(*claim.arguments)
            if wait_behind_ms(seen, place.ahead, wait_ms) > wait_ms and (not seen.allowed or line.refusal):
                return await async_refusal_of(claim, line, seen)
        while True:
            now_ms = sleep.now_ms()
            if place.is_first:
                decision: Decision = await claim.decide(*claim.arguments)
                now_ms = sleep.now_ms()
                if decision.allowed or limiter.is_closed or now_ms + decision.retry_after_ms > until_ms:
                    return decision
                line.refusal, place.wants_slot = decision, lacks_slot(decision)
                await sleep.until(now_ms + decision.retry_after_ms)
            elif now_ms < until_ms and not limiter.is_closed:
                await sleep.until(until_ms)
            else:
                seen = await claim.look(*claim.arguments)
                if now_ms >= until_ms + _GRACE_MS or limiter.is_closed or wait_behind_ms(seen, line.ahead_of(place), 0):
                    return await async_refusal_of(claim, line, seen)
                # There is room for all that are ahead and for this one. Each of them claims at this moment.
                await sleep.until(until_ms + _GRACE_MS)
    finally:
        if place is not None:
            lines.leave(place)


async def async_refusal_of(claim: WaitingClaim, line: Line, seen: Decision) -> Decision:
    """A refusal of `claim`, which does not overtake those who wait in `line`. `seen` is a peek of it."""
    if not seen.allowed:
        return seen
    if line.refusal is not None:
        return line.refusal
    decision: Decision = await claim.decide(*claim.arguments)
    return decision
