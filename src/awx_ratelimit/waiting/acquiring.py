"""Claims that wait for room: first come, first served in this process, and never beyond their deadline."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import describe
from awx_ratelimit.core.waits import lacks_slot, wait_behind_ms
from awx_ratelimit.waiting.lines import MAX_WAITING, Line, Place, WaitingLines
from awx_ratelimit.waiting.sleeps import alarm_clock_of, async_sleep_by

#: A claim that has room at its deadline waits this long for those ahead of it, which have room too.
_GRACE_MS: Final = 50


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


def check_wait_ms(wait_ms: object) -> None:
    """Raise ValueError unless `wait_ms` is an int of at least 0."""
    if type(wait_ms) is not int or wait_ms < 0:
        raise ValueError(f"wait_ms: expected an integer >= 0, in milliseconds, got {describe(wait_ms)}")


def check_max_waiting(max_waiting: object) -> None:
    """Raise ValueError unless `max_waiting` is an int of at least 1."""
    if type(max_waiting) is not int or max_waiting < 1:
        raise ValueError(f"max_waiting: expected an integer >= 1, got {describe(max_waiting)}")


async def async_acquire_in_line(
    limiter: Any, lines: WaitingLines, claim: WaitingClaim, wait_ms: int, max_waiting: int = MAX_WAITING
) -> Decision:
    """Decide `claim`, and wait up to `wait_ms` for room, behind the equal claims that have waited longer.

    The refusal is returned at once if the next wait would end after the deadline.
    """
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
