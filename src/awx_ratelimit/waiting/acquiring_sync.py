"""Claims that wait for room: first come, first served in this process, and never beyond their deadline.

Generated from `acquiring.py` by tools/generate_sync.py: change that module and run the program again.
"""

from typing import Any

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.waits import lacks_slot, wait_behind_ms
from awx_ratelimit.observability.listeners import notify
from awx_ratelimit.waiting.acquiring import _GRACE_MS, WaitingClaim, check_bounds
from awx_ratelimit.waiting.lines import MAX_WAITING, Line, Place, WaitingLines
from awx_ratelimit.waiting.sleeps import alarm_clock_of, sleep_by


def acquire_in_line(limiter: Any, claim: WaitingClaim, wait_ms: int, max_waiting: int = MAX_WAITING) -> Decision:
    """Decide `claim`, and wait up to `wait_ms` for room, behind the equal claims that have waited longer.

    The refusal is returned at once if the next wait would end after the deadline, and if `max_waiting` equal claims
    wait already. Raises ValueError for a wrong bound.
    """
    check_bounds(wait_ms, max_waiting)
    decision = decide_in_line(limiter, claim, wait_ms, max_waiting)
    limiter.shadow.count(decision)
    if limiter.listeners:
        notify(limiter.listeners, decision, limiter.give_back)
    return decision


def decide_in_line(limiter: Any, claim: WaitingClaim, wait_ms: int, max_waiting: int) -> Decision:
    """`acquire_in_line` without its report to the listeners."""
    lines: WaitingLines = limiter.lines
    sleep = sleep_by(alarm_clock_of(limiter))
    until_ms = sleep.now_ms() + wait_ms
    place: Place | None = None
    try:
        line, place = lines.join(claim.key, claim.records, sleep.wake, limiter, max_waiting)
        if place is None:
            return refusal_of(claim, line, claim.look(*claim.arguments))
        if place.ahead:
            seen: Decision = claim.look(*claim.arguments)
            if wait_behind_ms(seen, place.ahead, wait_ms) > wait_ms and (not seen.allowed or line.refusal):
                return refusal_of(claim, line, seen)
        while True:
            now_ms = sleep.now_ms()
            if place.is_first:
                decision: Decision = claim.decide(*claim.arguments)
                now_ms = sleep.now_ms()
                if decision.allowed or limiter.is_closed or now_ms + decision.retry_after_ms > until_ms:
                    return decision
                line.refusal, place.wants_slot = decision, lacks_slot(decision)
                sleep.until(now_ms + decision.retry_after_ms)
            elif now_ms < until_ms and not limiter.is_closed:
                sleep.until(until_ms)
            else:
                seen = claim.look(*claim.arguments)
                if now_ms >= until_ms + _GRACE_MS or limiter.is_closed or wait_behind_ms(seen, line.ahead_of(place), 0):
                    return refusal_of(claim, line, seen)
                # There is room for all that are ahead and for this one. Each of them claims at this moment.
                sleep.until(until_ms + _GRACE_MS)
    finally:
        if place is not None:
            lines.leave(place)


def refusal_of(claim: WaitingClaim, line: Line, seen: Decision) -> Decision:
    """A refusal of `claim`, which does not overtake those who wait in `line`. `seen` is a peek of it."""
    if not seen.allowed:
        return seen
    if line.refusal is not None:
        return line.refusal
    decision: Decision = claim.decide(*claim.arguments)
    return decision
