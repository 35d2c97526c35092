"""Claims that wait for room: first come, first served in this process, and never beyond their deadline."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from awx_ratelimit.core.budget import Budget, Record
from awx_ratelimit.core.claim import check_claim, checked_claim
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Charge, JointClaim, acquired_jointly
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import describe
from awx_ratelimit.core.waits import enforced_buckets
from awx_ratelimit.observability.observers import QueueTime
from awx_ratelimit.waiting.lines import Queue
from awx_ratelimit.waiting.sleeps import alarm_clock_of, async_sleep_by
from awx_ratelimit.waiting.turns import Wait


class Terms(TypedDict, total=False):
    """The keyword arguments of `acquire`."""

    scope: str | None
    also: Iterable[Budget]
    settle: bool
    wait_ms: int


class WaitingClaim(NamedTuple):
    """A claim that may wait: what it asks for, and how it is decided.

    `decide` is a function of Python without arguments: between its end and the assignment of the decision, no signal
    handler can raise.
    """

    records: Sequence[Record]
    charges: Sequence[Charge]
    decide: Callable[[], Any]
    look: Callable[[], Any]


def plain_claim(backend: Any, subject: str, plan: Plan, cost: int) -> WaitingClaim:
    """A claim of one budget without a scope."""
    charges = (Charge(plan, cost, None),)
    return WaitingClaim(
        (subject,), charges, lambda: backend.acquire(subject, plan, cost), lambda: backend.peek(subject, plan, cost)
    )


def joint_claim(backend: Any, claim: JointClaim) -> WaitingClaim:
    """A claim of several budgets."""
    return WaitingClaim(
        claim.records, claim.shape.charges, lambda: backend.acquire_joint(claim), lambda: backend.peek_joint(claim)
    )


def claim_of(
    backend: Any, subject: str, plan: Plan, cost: Any, scope: str | None, also: Iterable[Budget], settle: bool
) -> WaitingClaim:
    """The claim of these arguments of `acquire`. Raises as `acquire` does."""
    if also or scope is not None or settle or isinstance(cost, Mapping):
        return joint_claim(backend, acquired_jointly(subject, plan, cost, scope, also, settle))
    check_claim(subject, plan)
    return plain_claim(backend, *checked_claim(subject, plan, plan.check(cost)))


def check_wait_ms(wait_ms: object) -> None:
    """Raise ValueError unless `wait_ms` is an int of at least 0."""
    if type(wait_ms) is not int or wait_ms < 0:
        raise ValueError(f"wait_ms: expected an integer >= 0, in milliseconds, got {describe(wait_ms)}")


async def async_acquire_in_line(
    limiter: Any, claim: WaitingClaim, wait_ms: int, queues: Sequence[Queue] = ()
) -> Decision:
    """Decide `claim`, and wait up to `wait_ms` for room, behind those that came before and wait for the same limits.

    The refusal is returned at once if the next wait would end after the deadline, and if one of `queues` is full.
    Raises ValueError for a wrong `wait_ms`.
    """
    check_wait_ms(wait_ms)
    lines, sleep = limiter.lines, async_sleep_by(alarm_clock_of(limiter))
    wait = Wait(limiter, enforced_buckets(claim.records, claim.charges), wait_ms, queues, sleep)
    queue_time = QueueTime(limiter.observers, sleep.now_ms)
    decision: Decision | None = None
    try:
        while True:
            if wait.may_claim():
                decision = await claim.decide()
                if wait.ends_with(decision):
                    break
            else:
                decision = wait.refusal(await claim.look())
                if decision is not None:
                    break
            queue_time.begin()
            await sleep.until(wait.place.due_ms)
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
