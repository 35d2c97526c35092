"""The idioms of the hot path, each compared with its plain form: ``python -m benchmarks.bench_idioms``.

Both forms run in turn, many times, and their processor time is measured, so that a slow moment of the machine counts
for both. The figure is the fastest round. Not included: the loop around the calls, which an empty call measures and
which is subtracted. After the timing both forms must give the same answer. docs/hot-path.md explains each idiom.
"""

import os
import threading
import time
from collections.abc import Callable
from functools import partial

from awx_ratelimit import STARTER, Budget, Decision, Limiter, MemoryBackend, Plan
from awx_ratelimit.core.bucket import drained
from awx_ratelimit.core.claim import checked_claim
from awx_ratelimit.core.decide import decide
from awx_ratelimit.core.plan_cache import PlanCache
from awx_ratelimit.runtime.forks import SAME_PROCESS, renew_if_forked

CALLS, ROUNDS = 2_000, 60
Call = Callable[[], object]
FIELDS = ("key_1", STARTER, 1, 1_000, 0, [0, 0, 0, 0], 0, 0, None, 0)
_ONE = 1
_new = tuple.__new__


def _seconds(call: Call) -> float:
    start_s = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - start_s) / CALLS


def _fastest_ns(*calls: Call) -> list[float]:
    """The time of each call, less that of an empty one."""
    rounds = [[_seconds(call) for call in (lambda: None, *calls)] for _ in range(ROUNDS)]
    empty, *fastest = map(min, zip(*rounds, strict=True))
    return [(seconds - empty) * 1e9 for seconds in fastest]


def creating_tuples() -> tuple[Call, Call]:
    """`tuple.__new__` and the call of the class."""
    return (lambda: _new(Decision, FIELDS)[3]), (lambda: Decision(*FIELDS)[3])


def taking_a_lock() -> tuple[Call, Call]:
    """A loop over an iterator of attempts, and `with`."""
    lock = threading.Lock()
    attempts = iter(partial(lock.acquire, False), object())

    def by_iterator() -> object:
        for taken in attempts:
            if taken:
                try:
                    return taken
                finally:
                    lock.release()
        return False

    def by_with() -> object:
        with lock:
            return True

    return by_iterator, by_with


def identity_checks() -> tuple[Call, Call]:
    """Three identity checks, and the complete check of a claim."""
    subject, plan, cost = "key_1", STARTER, 1

    def by_identity() -> object:
        if type(subject) is not str or cost is not _ONE or not SAME_PROCESS:
            return checked_claim(subject, plan, cost)
        return subject, plan, cost

    return by_identity, lambda: checked_claim(subject, plan, cost)


def process_mark() -> tuple[Call, Call]:
    """A page that the kernel clears in a child, and `os.getpid`."""
    pid = os.getpid()
    return (lambda: bool(SAME_PROCESS)), (lambda: os.getpid() == pid)


def unpacked_tuples() -> tuple[Call, Call]:
    """The loop over `Plan.steps`, and a loop over the rates that reads their attributes."""
    steps, rates = STARTER.steps, STARTER.rates

    def by_tuple() -> object:
        total = 0
        for debt_at, time_at, bit, unit, drain, capacity, calendar, _ in steps:
            total += debt_at + time_at + bit + unit + drain + capacity + calendar
        return total

    def by_attributes() -> object:
        total = 0
        for index, rate in enumerate(rates):
            debt_at, time_at, bit = 2 * index, 2 * index + 1, 1 << index
            total += debt_at + time_at + bit + rate.unit + rate.drain + rate.capacity + rate.calendar
        return total

    return by_tuple, by_attributes


def unrolled_loop() -> tuple[Call, Call]:
    """`decide` for two continuous rates, and a loop over the rates that calls `drained`."""
    state, now_ms = [60_000, 1_000, 86_400_000, 1_000], 2_000
    state[3] = state[1]

    def by_loop() -> object:
        levels: list[int] = []
        exceeded = 0
        for index, bit, rate in STARTER.numbered_rates:
            debt, at_ms = drained(rate, state[index], state[index + 1], now_ms)
            charged = debt + rate.unit
            if charged > rate.capacity:
                exceeded |= bit
            levels += (charged, at_ms)
        return exceeded, levels

    return (lambda: decide(STARTER, state, 0, 1, now_ms)), by_loop


def keyword_arguments() -> tuple[Call, Call]:
    """Parameters with defaults, and the same parameters as keyword-only ones."""

    def with_defaults(subject: str, scope: object = None, also: object = (), settle: object = False) -> object:
        return None if also or scope is not None or settle else subject

    def keyword_only(subject: str, *, scope: object = None, also: object = (), settle: object = False) -> object:
        return None if also or scope is not None or settle else subject

    return (lambda: with_defaults("key_1")), lambda: keyword_only("key_1")


def plan_cache_entries() -> tuple[Call, Call]:
    """A look at the entries of a PlanCache, and `PlanCache.get`."""
    cache: PlanCache[int] = PlanCache(lambda plan: len(plan.name))
    cache.get(STARTER)
    known = cache.entries.get

    def by_entries() -> object:
        entry = known(id(STARTER))
        return entry[0] if entry is not None else cache.get(STARTER)

    return by_entries, lambda: cache.get(STARTER)


class _Begun:
    """An object whose method `begin` stores its arguments."""

    __slots__ = ("first", "second", "third")

    def begin(self, first: object, second: object, third: object) -> None:
        self.first, self.second, self.third = first, second, third


class _Initialized:
    """The same with `__init__`."""

    __slots__ = ("first", "second", "third")

    def __init__(self, first: object, second: object, third: object) -> None:
        self.first, self.second, self.third = first, second, third


def objects_without_init() -> tuple[Call, Call]:
    """An object that is begun after its creation, and one with `__init__`."""

    def begun() -> object:
        made = _Begun()
        made.begin("key_1", STARTER, 1)
        return made.first

    return begun, lambda: _Initialized("key_1", STARTER, 1).first


IDIOMS = (
    creating_tuples, taking_a_lock, identity_checks, process_mark, unpacked_tuples, unrolled_loop, keyword_arguments,
    plan_cache_entries, objects_without_init,
)  # fmt: skip


def main() -> None:
    """Measure every idiom and print a table."""
    renew_if_forked()
    limiter, plan = Limiter(MemoryBackend()), Plan.of("bench", per_minute=10**8, per_day=10**8, concurrent=1_000)
    (decision_ns,) = _fastest_ns(lambda: limiter.release(limiter.acquire("key_1", plan)))
    print(f"A decision with its release takes {decision_ns:,.0f} ns.\n")
    budgets = [Budget("acme", plan, scope="account"), Budget("all", plan, scope="service")]
    two, three = _fastest_ns(
        lambda also=budgets[:1]: limiter.release(limiter.acquire("key_1", plan, also=also)),  # type: ignore[misc]
        lambda also=budgets: limiter.release(limiter.acquire("key_1", plan, also=also)),  # type: ignore[misc]
    )
    print(f"With two budgets it takes {two / decision_ns:.1f} times that, with three {three / decision_ns:.1f}.\n")
    print("| idiom | ns | plain form, ns | part of a decision saved |\n| --- | --- | --- | --- |")
    for idiom in IDIOMS:
        ours, plain = idiom()
        ours_ns, plain_ns = _fastest_ns(ours, plain)
        assert ours() == plain(), idiom.__name__
        name = idiom.__name__.replace("_", " ")
        print(f"| {name} | {ours_ns:.0f} | {plain_ns:.0f} | {(plain_ns - ours_ns) / decision_ns:.0%} |")


if __name__ == "__main__":
    main()
