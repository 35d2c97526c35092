"""The sides measured on Redis: our limiters, and redis-py with one call of the same script per decision.

Both decide two rates and a slot, and release the lease of the previous decision in the same call. redis-py's arguments
are encoded before its clock starts, and its answers are decoded after it has stopped; our time includes both.
"""

import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.redis_load import Asked, Side

from awx_ratelimit import AsyncLimiter, Concurrency, Limiter, Plan, Rate
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.core.hold_times import HoldTimes

#: Debts that last, as they do in service; and bursts that refuse nobody.
PLAN = Plan(
    "bench",
    (Rate("minute", 300, 60_000, burst=10**6), Rate("day", 100_000, 86_400_000, burst=10**6)),
    Concurrency(1_000),
)
#: One machine does all of it: a moment in which it does something else is no outage.
TIMEOUT_MS = 5_000
CODEC = Codec("bare", os.urandom(16))
Levels = Sequence[int]


def awx_tasks(limiter: AsyncLimiter) -> Side:
    """Acquire, timed, and release, in the time of the round alone."""

    def ready(subject: str, calls: int) -> Callable[[], Any]:
        async def work() -> Asked:
            times, answers = [], []
            for _ in range(calls):
                begun = time.perf_counter_ns()
                decision = await limiter.acquire(subject, PLAN)
                times.append(time.perf_counter_ns() - begun)
                await limiter.release(decision)
                answers.append(decision.levels)
            return times, answers

        return work

    return Side("awx_ratelimit", ready, follows)


def awx_threads(limiter: Limiter) -> Side:
    """The same in threads."""

    def ready(subject: str, calls: int) -> Callable[[], Asked]:
        def work() -> Asked:
            times, answers = [], []
            for _ in range(calls):
                begun = time.perf_counter_ns()
                decision = limiter.acquire(subject, PLAN)
                times.append(time.perf_counter_ns() - begun)
                limiter.release(decision)
                answers.append(decision.levels)
            return times, answers

        return work

    return Side("awx_ratelimit", ready, follows)


def bare_tasks(client: Any) -> Side:
    """EVALSHA through redis-py's asyncio client."""

    def ready(subject: str, calls: int) -> Callable[[], Any]:
        commands = _commands(subject, calls)

        async def work() -> Asked:
            times, answers = [], []
            for command in commands:
                begun = time.perf_counter_ns()
                answer = await client.evalsha(*command)
                times.append(time.perf_counter_ns() - begun)
                answers.append(answer)
            return times, answers

        return work

    return Side("redis-py, one call each", ready, _follow)


def bare_threads(client: Any) -> Side:
    """EVALSHA through redis-py's client for threads."""

    def ready(subject: str, calls: int) -> Callable[[], Asked]:
        commands = _commands(subject, calls)

        def work() -> Asked:
            times, answers = [], []
            for command in commands:
                begun = time.perf_counter_ns()
                answer = client.evalsha(*command)
                times.append(time.perf_counter_ns() - begun)
                answers.append(answer)
            return times, answers

        return work

    return Side("redis-py, one call each", ready, _follow)


def _commands(subject: str, calls: int) -> list[tuple[Any, ...]]:
    commands, released = [], []
    for _ in range(calls):
        lease_id = CODEC.new_lease_id()
        call = CODEC.acquire([(subject, PLAN, 1, lease_id)], released)
        commands.append((call.script.sha, len(call.keys), *call.keys, *call.args))
        released = [(subject, lease_id)]
    return commands


def _follow(replies: list[bytes]) -> bool:
    asked = ("", PLAN, 1, 0)
    decisions = [CODEC.parse_decisions([asked], reply, HoldTimes(), lambda *_: None)[0] for reply in replies]
    return follows([decision.levels for decision in decisions])


def follows(answers: "list[Levels]") -> bool:
    """Whether each answer for one subject is the one before, drained and charged once: none is lost or mixed up."""
    return _charged_once((0, 0, 0, 0), answers[0]) and all(_charged_once(*both) for both in pairwise(answers))


def _charged_once(before: Levels, after: Levels) -> bool:
    expected = []
    for index, rate in enumerate(PLAN.rates):
        debt, at_ms, now_ms = before[2 * index], before[2 * index + 1], after[2 * index + 1]
        expected += [max(0, debt - rate.drain * (now_ms - at_ms)) + rate.unit, now_ms]
    return expected == list(after)
