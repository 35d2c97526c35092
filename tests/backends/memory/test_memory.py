import gc
import os
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from blockbuster import BlockBuster
from tests.processes import FORK_PARAMETERS

from awx_ratelimit import STARTER, Decision, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.backends.memory.shard import Shard
from awx_ratelimit.backends.memory.subject_state import FORGET_AFTER_MS
from awx_ratelimit.testing import ManualClock

SMALL = Plan.of("small", per_minute=500, per_day=700, concurrent=3)


class YieldingClock(ManualClock):
    """Hands the interpreter to another thread inside the lock."""

    def now_ms(self) -> int:
        time.sleep(0)
        return super().now_ms()


class CountingLock:
    """A lock that counts how often somebody had to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waits = 0
        self.release = self._lock.release

    def acquire(self, blocking: bool = True) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        self.waits += 1
        return blocking and self._lock.acquire()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_threads_on_one_subject_never_pass_a_limit() -> None:
    """Eight threads that collide on one subject are admitted exactly as often as the limit says, and leak no slot."""
    clock = YieldingClock(1_000)
    backend = MemoryBackend(clock=clock)
    lock = CountingLock()
    for stripe in backend._stripes:
        stripe.guard_by(lock)  # type: ignore[arg-type]
    limiter = Limiter(backend)
    admitted: list[int] = []
    most_held: list[int] = []

    def hammer() -> None:
        for _ in range(300):
            decision = limiter.acquire("s", SMALL)
            admitted.append(decision.allowed)
            most_held.append(3 - decision.usages[-1].remaining)
            limiter.release(decision)

    _run([threading.Thread(target=hammer) for _ in range(8)])

    free = limiter.peek("s", SMALL).usages[-1].remaining
    assert sum(admitted) <= 500
    assert max(most_held) <= 3
    assert free == 3
    assert lock.waits > 100


def test_threads_use_up_a_limit_to_the_last_token() -> None:
    """Without slots in the way, colliding threads together get every token and not one more."""
    limiter = Limiter(MemoryBackend(clock=YieldingClock(1_000)))
    plan = Plan.of("rates", per_minute=500, per_day=700)
    admitted: list[int] = []
    threads = [
        threading.Thread(target=lambda: admitted.extend(limiter.acquire("s", plan).allowed for _ in range(100)))
        for _ in range(8)
    ]

    _run(threads)

    assert sum(admitted) == 500
    assert len(admitted) == 800


def test_a_release_inside_a_decision_does_not_deadlock() -> None:
    """A finalizer that gives a slot back while its own thread decides for that subject finds no lock to wait for."""
    held: list[Decision] = []

    class Interrupting(ManualClock):
        def now_ms(self) -> int:
            while held:
                limiter.release(held.pop())
            return super().now_ms()

    limiter = Limiter(MemoryBackend(clock=Interrupting(1_000)))
    plan = Plan.of("one", concurrent=1)
    first = limiter.acquire("s", plan)
    held.append(first)

    second = limiter.acquire("s", plan)
    third = limiter.acquire("s", plan)
    assert first.allowed is True
    assert (second.allowed or third.allowed) is True


# An alarm inside a finalizer goes nowhere: Python reports it and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_handler_that_raises_leaves_no_lock_taken(nothing_blocks_the_event_loop: BlockBuster) -> None:
    """A time-out by a signal, wherever it comes, does not shut a stripe's subjects out for ever."""
    # It puts Python code around `Lock.acquire`, in which a handler may raise when the lock is taken already.
    nothing_blocks_the_event_loop.deactivate()
    backend = MemoryBackend()
    limiter = Limiter(backend)
    raised = 0
    armed: list[bool] = []

    def alarm(*_: object) -> None:
        if armed:
            armed.clear()
            raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, alarm)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    try:
        for number in range(60_000):
            try:
                armed[:] = [True]
                limiter.release(limiter.acquire(f"s{number % 300}", STARTER))
                armed.clear()
            except TimeoutError:
                raised += 1
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)

    assert [stripe.lock.locked() for stripe in backend._stripes] == [False] * 64
    assert raised > 20


class FailingClock(ManualClock):
    """Fails when it is told to."""

    fails = False

    def now_ms(self) -> int:
        if self.fails:
            raise OSError("no time")
        return super().now_ms()


def test_a_release_never_raises_though_the_clock_does() -> None:
    """With a clock that fails, the slot is free all the same, and the release returns."""
    clock = FailingClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    plan = Plan.of("one", concurrent=1)
    held = limiter.acquire("s", plan)
    clock.fails = True
    limiter.release(held)
    clock.fails = False

    assert limiter.acquire("s", plan).allowed


def test_a_failing_clock_leaves_everything_as_it_was() -> None:
    """A decision that could not be made has charged nothing and holds nothing."""
    clock = FailingClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    clock.fails = True
    with pytest.raises(OSError, match="no time"):
        limiter.acquire("s", STARTER)
    clock.fails = False

    assert [usage.remaining for usage in limiter.peek("s", STARTER).usages] == [60, 10_000, 5]


@pytest.mark.parametrize("start_ms", [-(2**70), 2**70])
def test_a_clock_beyond_64_bits_is_a_clock(start_ms: int) -> None:
    """Times of any size are counted exactly, and the sweep leaves them alone."""
    clock = ManualClock(start_ms)
    limiter = Limiter(MemoryBackend(clock=clock))
    for _ in range(20):
        for number in range(100):
            limiter.release(limiter.acquire(f"s{number}", STARTER, 3))
        clock.advance(20)

    assert not limiter.acquire("s7", STARTER, 3).allowed


def test_a_promise_is_kept_though_the_old_plan_would_have_forgotten() -> None:
    """A wait that a slower plan promised is true, however busy the others are meanwhile."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    slow = Plan("slow", (Rate("minute", 60, 3_600_000),))
    limiter.acquire("s", Plan.of("fast", per_minute=60), 60)
    clock.advance(30_000)
    promised_ms = limiter.acquire("s", slow, 60).retry_after_ms
    for _ in range(3_000):
        clock.advance(1_000)
        limiter.acquire("other", Plan.of("busy", per_second=1_000))

    assert promised_ms == 3_570_000
    assert limiter.peek("s", slow, 60).retry_after_ms == 570_000


def test_subjects_that_owe_nothing_take_no_memory_for_long() -> None:
    """After their debts have drained, the memory of many subjects is given back by the claims of others."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    gc.collect()
    tracemalloc.start()
    for number in range(20_000):
        limiter.release(limiter.acquire(f"s{number}", STARTER))
    full_bytes = tracemalloc.get_traced_memory()[0]
    clock.advance(8_640 + FORGET_AFTER_MS + 1)

    for _ in range(2_000):
        clock.advance(10)
        limiter.release(limiter.acquire("other", STARTER))

    left_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert left_bytes < full_bytes / 20


def test_what_is_owed_survives_the_sweep() -> None:
    """However often the sweep comes by, a subject that still owes is not forgotten, nor one that holds a slot."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    plan = Plan.of("p", per_day=10, concurrent=1)
    held = [limiter.acquire(f"s{number}", plan, 9) for number in range(2_000)]
    for decision in held[1_000:]:
        limiter.release(decision)
    for _ in range(2_000):
        clock.advance(100)
        limiter.peek("other", plan)
        limiter.release(limiter.acquire("other", Plan.of("q", per_second=1_000)))

    usages = [limiter.peek(f"s{number}", plan).usages for number in range(2_000)]
    assert {(rate.remaining, slots.remaining) for rate, slots in usages[:1_000]} == {(1, 0)}
    assert {(rate.remaining, slots.remaining) for rate, slots in usages[1_000:]} == {(1, 1)}


def test_a_swept_subject_goes_on_as_if_it_had_not_been() -> None:
    """A subject packed by the sweep is charged, refused and given slots exactly as before."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    plan = Plan.of("p", per_day=10, concurrent=2)
    for number in range(2_000):
        limiter.release(limiter.acquire(f"s{number}", plan, 8))
    for _ in range(1_000):
        clock.advance(10)
        limiter.release(limiter.acquire("other", plan.of("q", per_second=1_000)))

    packed = sum(isinstance(entry, bytes) for entry in _entries(limiter))
    allowed = [[limiter.acquire(f"s{number}", plan).allowed for _ in range(3)] for number in range(0, 2_000, 40)]
    assert packed > 1_500
    assert allowed == [[True, True, False]] * 50


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_a_child_process_starts_without_its_parents_leases_and_locks(fork: Callable[[], int]) -> None:
    """After a fork in the middle of a decision the child decides, has its own slots, and the debts so far."""
    backend = MemoryBackend(clock=ManualClock(1_000))
    limiter = Limiter(backend)
    held = limiter.acquire("s", Plan.of("one", per_minute=5, concurrent=1))
    for stripe in backend._stripes:
        stripe.lock.acquire()

    pid = fork()
    if pid == 0:
        signal.alarm(10)
        limiter.release(held)
        decisions = [limiter.acquire("s", held.plan) for _ in range(2)]
        good = [d.allowed for d in decisions] == [True, False] and decisions[0].usages[0].remaining == 3
        os._exit(0 if good else 1)

    for stripe in backend._stripes:
        stripe.lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert limiter.acquire("s", held.plan).allowed is False


def test_the_sweep_goes_on_after_the_clock_was_set_back() -> None:
    """A clock that was far ahead for a while does not end the forgetting."""
    clock = ManualClock(10**12)
    limiter = Limiter(MemoryBackend(clock=clock))
    limiter.release(limiter.acquire("other", STARTER))
    clock.set(10**9)
    for number in range(2_000):
        limiter.release(limiter.acquire(f"s{number}", STARTER))
    for _ in range(2_000):
        clock.advance(100)
        limiter.release(limiter.acquire("other", STARTER))

    assert len(_entries(limiter)) < 200


def _entries(limiter: Limiter) -> list[Any]:
    stripes: list[Shard] = limiter.backend._stripes  # type: ignore[attr-defined]
    return [entry for stripe in stripes for entry in (*stripe.ledgers.values(), *stripe.packed.values())]


def _run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture(autouse=True)
def _switch_often() -> Any:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("plan", [None, "starter", object()])
def test_a_plan_of_another_type_changes_nothing(plan: Any) -> None:
    """It is a TypeError, of a known subject and of a new one, and nothing is remembered of either."""
    backend = MemoryBackend()
    backend.release(backend.acquire("known", STARTER, 7))
    for subject in ("known", "new"):
        with pytest.raises(TypeError, match="plan is"):
            backend.acquire(subject, plan, 1)

    assert backend.health()["subjects"] == 1
    assert backend.peek("known", STARTER, 1).usages[0].remaining == 53


def test_an_empty_subject_is_refused() -> None:
    """As a Limiter refuses it, so does the backend itself."""
    with pytest.raises(TypeError, match="subject is ''"):
        MemoryBackend().acquire("", STARTER, 1)
