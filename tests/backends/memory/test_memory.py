import gc
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from blockbuster import BlockBuster
from tests.interruptions import alarms
from tests.processes import FORK_PARAMETERS, in_child

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


def test_threads_never_exceed_a_limit() -> None:
    """Eight threads on one subject get exactly the limit and leak no slot."""
    clock = YieldingClock(1_000)
    backend = MemoryBackend(clock=clock)
    lock = CountingLock()
    for shard in backend._shards:
        shard.use_lock(lock)
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


def test_threads_use_every_token() -> None:
    """Concurrent threads get every token and not one more."""
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


def test_release_inside_a_decision() -> None:
    """A finalizer that releases during a decision of its own thread does not deadlock."""
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
def test_signal_leaves_no_lock_taken(nothing_blocks_the_event_loop: BlockBuster) -> None:
    """An exception from a signal handler, at any moment, leaves no shard locked."""
    # It puts Python code around `Lock.acquire`, in which a handler may raise when the lock is taken already.
    nothing_blocks_the_event_loop.deactivate()
    backend = MemoryBackend()
    limiter = Limiter(backend)
    raised = 0
    armed: list[bool] = []
    with alarms(armed):
        for number in range(60_000):
            try:
                armed[:] = [True]
                limiter.release(limiter.acquire(f"s{number % 300}", STARTER))
                armed.clear()
            except TimeoutError:
                raised += 1

    assert [shard.lock.locked() for shard in backend._shards] == [False] * 64
    assert raised > 20


class FailingClock(ManualClock):
    """Fails when it is told to."""

    fails = False

    def now_ms(self) -> int:
        if self.fails:
            raise OSError("no time")
        return super().now_ms()


def test_release_with_a_failing_clock() -> None:
    """If the clock fails, a release frees the slot and does not raise."""
    clock = FailingClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    plan = Plan.of("one", concurrent=1)
    held = limiter.acquire("s", plan)
    clock.fails = True
    limiter.release(held)
    clock.fails = False

    assert limiter.acquire("s", plan).allowed


def test_acquire_with_a_failing_clock() -> None:
    """If the clock fails, acquire charges nothing and takes no slot."""
    clock = FailingClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    clock.fails = True
    with pytest.raises(OSError, match="no time"):
        limiter.acquire("s", STARTER)
    clock.fails = False

    assert [usage.remaining for usage in limiter.peek("s", STARTER).usages] == [60, 10_000, 5]


@pytest.mark.parametrize("start_ms", [-(2**70), 2**70])
def test_times_beyond_64_bits(start_ms: int) -> None:
    """Times of any size are counted exactly, and the sweep skips them."""
    clock = ManualClock(start_ms)
    limiter = Limiter(MemoryBackend(clock=clock))
    for _ in range(20):
        for number in range(100):
            limiter.release(limiter.acquire(f"s{number}", STARTER, 3))
        clock.advance(20)

    assert not limiter.acquire("s7", STARTER, 3).allowed


def test_promised_wait_survives_the_sweep() -> None:
    """A wait that a slower plan promised stays true while others are busy."""
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


def test_drained_subjects_are_forgotten() -> None:
    """Claims of other subjects free the memory of drained ones."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    gc.collect()
    tracemalloc.start()
    for number in range(5_000):
        limiter.release(limiter.acquire(f"s{number}", STARTER))
    full_bytes = tracemalloc.get_traced_memory()[0]
    clock.advance(8_640 + FORGET_AFTER_MS + 1)

    for _ in range(2_000):
        clock.advance(10)
        limiter.release(limiter.acquire("other", STARTER))

    left_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert left_bytes < full_bytes / 20


def test_debts_survive_the_sweep() -> None:
    """The sweep forgets no subject with a debt or a slot."""
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


def test_packed_subject_behaves_the_same() -> None:
    """A packed subject is charged, refused and given slots exactly as before."""
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
def test_fork(fork: Callable[[], int]) -> None:
    """After a fork during a decision, the child has free locks, no leases and the debts so far."""
    backend = MemoryBackend(clock=ManualClock(1_000))
    limiter = Limiter(backend)
    held = limiter.acquire("s", Plan.of("one", per_minute=5, concurrent=1))
    for shard in backend._shards:
        shard.lock.acquire()

    def act() -> bool:
        limiter.release(held)
        decisions = [limiter.acquire("s", held.plan) for _ in range(2)]
        return [d.allowed for d in decisions] == [True, False] and decisions[0].usages[0].remaining == 3

    good = in_child(fork, act)
    for shard in backend._shards:
        shard.lock.release()

    assert good is True
    assert limiter.acquire("s", held.plan).allowed is False


def test_sweep_after_the_clock_was_set_back() -> None:
    """A clock that was far ahead for a while does not stop the sweep."""
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
    shards: list[Shard] = limiter.backend._shards  # type: ignore[attr-defined]
    return [entry for shard in shards for entry in (*shard.states.values(), *shard.packed.values())]


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


@pytest.mark.parametrize("plan", [None, "starter", object(), Plan])
def test_wrong_plan_changes_nothing(plan: Any) -> None:
    """A plan of another type is a TypeError, for known and new subjects, and stores nothing."""
    backend = MemoryBackend()
    backend.release(backend.acquire("known", STARTER, 7))
    for subject in ("known", "new"):
        with pytest.raises(TypeError, match="plan: expected a Plan"):
            backend.acquire(subject, plan, 1)

    assert backend.health()["subjects"] == 1
    assert backend.peek("known", STARTER, 1).usages[0].remaining == 53


def test_empty_subject() -> None:
    """The backend refuses an empty subject as Limiter does."""
    with pytest.raises(TypeError, match="subject: expected a non-empty string, got ''"):
        MemoryBackend().acquire("", STARTER, 1)
