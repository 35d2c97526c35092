"""Claims that wait for room: first come, first served in this process, and never beyond their deadline.

Generated from `acquiring.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Sequence
from typing import Any

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.waits import enforced_buckets
from awx_ratelimit.observability.observers import QueueTime
from awx_ratelimit.waiting.acquiring import WaitingClaim, check_wait_ms
from awx_ratelimit.waiting.lines import Queue
from awx_ratelimit.waiting.sleeps import alarm_clock_of, sleep_by
from awx_ratelimit.waiting.turns import Wait


def acquire_in_line(limiter: Any, claim: WaitingClaim, wait_ms: int, queues: Sequence[Queue] = ()) -> Decision:
    """Decide `claim`, and wait up to `wait_ms` for room, behind those that came before and wait for the same limits.

    The refusal is returned at once if the next wait would end after the deadline, and if one of `queues` is full.
    Raises ValueError for a wrong `wait_ms`.
    """
    check_wait_ms(wait_ms)
    lines, sleep = limiter.lines, sleep_by(alarm_clock_of(limiter))
    wait = Wait(limiter, enforced_buckets(claim.records, claim.charges), wait_ms, queues, sleep)
    queue_time = QueueTime(limiter.observers, sleep.now_ms)
    decision: Decision | None = None
    try:
        while True:
            if wait.may_claim():
                decision = claim.decide()
                if wait.ends_with(decision):
                    break
            else:
                decision = wait.refusal(claim.look())
                if decision is not None:
                    break
            queue_time.begin()
            sleep.until(wait.place.due_ms)
        lines.leave(wait.place)
        limiter.shadow.count(decision)
        if limiter.report is not None:
            limiter.report(decision)
        queue_time.end(decision)
    except BaseException:
        lines.leave(wait.place)
        if decision is not None:
            limiter.give_back(decision)
        queue_time.end(None)
        raise
    return decision
