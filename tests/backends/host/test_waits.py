"""A host file never blocks an event loop longer than `longest_wait_ms`, whatever blocks the file."""

import asyncio
import io
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from statistics import median
from typing import Any

import greenlet
import pytest
from blockbuster import BlockBuster
from tests.backends.host.limiters import remaining
from tests.host_processes import SLOTS_3, START_MS, StartProcess, with_scopes
from tests.machine import eventually

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Budget, Decision, Limiter
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.locks import (
    THREAD_WAIT_MS,
    WAIT_MS,
    ByteLock,
    may_wait_for_thread,
    process_wait_limit_ms,
)
from awx_ratelimit.backends.host.mapped_file import CREATION_LOCK, SHARDS
from awx_ratelimit.testing import ManualClock

#: Tries of each wait. A busy machine makes some of them late, and none of them early.
TRIES = 6
NEVER_S = 10.0


@pytest.fixture
def path(tmp_path: Path, nothing_blocks_the_event_loop: BlockBuster) -> Path:
    """A file that does not exist yet, whose locks may block an event loop."""
    nothing_blocks_the_event_loop.deactivate()
    return tmp_path / "limits"


def late_s(folder: Path) -> float:
    """How late a wait of `WAIT_MS` for a lock ends on this machine at this moment, without a backend."""
    path = folder / "control"
    with path.open("w+b") as holder, path.open("r+b") as waiter:
        assert not ByteLock(holder.fileno(), 0).try_lock()
        begun_s = time.monotonic()
        assert not ByteLock(waiter.fileno(), 0).wait(WAIT_MS)
        return time.monotonic() - begun_s - WAIT_MS / 1000


def assert_within_bound(path: Path, act: Callable[[AsyncLimiter], Any], waited: list[float] | None = None) -> None:
    """Every call waits, and one of several is no later than the bound and the controls before and after it allow.

    Each call is made by a process that has not met the obstacle yet. `act` may add to `waited` how long it waited;
    otherwise the whole call counts.
    """
    held: list[float] = []
    excess: list[float] = []
    for _ in range(TRIES):
        limiter = AsyncLimiter(HostBackend(path, clock=ManualClock(START_MS)))
        before_s = late_s(path.parent)
        begun_s = time.monotonic()
        with suppress(BackendUnavailable):
            asyncio.run(_timed(limiter, act, held))
            pytest.fail(f"no obstacle blocked the call for {time.monotonic() - begun_s:.3f} s")
        took_s = held if waited is None else waited
        excess.append(took_s[-1] - max(before_s, late_s(path.parent)))
        asyncio.run(limiter.aclose())
    assert min(took_s) >= WAIT_MS / 1000
    assert min(excess) <= HostBackend.longest_wait_ms / 1000


async def _timed(limiter: AsyncLimiter, act: Callable[[AsyncLimiter], Any], held: list[float]) -> None:
    begun_s = time.monotonic()
    try:
        await act(limiter)
    finally:
        held.append(time.monotonic() - begun_s)


VERBS: dict[str, Callable[[AsyncLimiter], Any]] = {
    "acquire": lambda limiter: limiter.acquire("s", SLOTS_3),
    "peek": lambda limiter: limiter.peek("s", SLOTS_3),
    "reset": lambda limiter: limiter.reset("s"),
    "joint acquire": lambda limiter: limiter.acquire("s", SLOTS_3, also=with_scopes(["acme"])),
    "joint peek": lambda limiter: limiter.peek("acme", SLOTS_3, also=with_scopes(["s"])),
}


@pytest.mark.parametrize("verb", VERBS)
def test_stopped_process_blocks_the_loop_briefly(path: Path, start_process: StartProcess, verb: str) -> None:
    """Each method gives up in time if a process is stopped in a decision on the same shard."""
    HostBackend(path).close()
    start_process(path).stops_in("s")

    assert_within_bound(path, VERBS[verb])


def test_refund_blocks_the_loop_briefly(path: Path, start_process: StartProcess) -> None:
    """A refund gives up in time too."""
    limiter = AsyncLimiter(HostBackend(path, clock=ManualClock(START_MS)))
    decision: Decision = asyncio.run(_decided(limiter))
    start_process(path).stops_in("s")
    held: list[float] = []
    for _ in range(1 + TRIES):
        with pytest.raises(BackendUnavailable):
            asyncio.run(_timed(limiter, lambda limiter: limiter.refund(decision), held))

    assert held[0] >= WAIT_MS / 1000
    assert min(held[1:]) < WAIT_MS / 1000


def test_several_locks_share_one_deadline(path: Path, start_process: StartProcess) -> None:
    """A claim that waited for its first lock waits for the second one until the same deadline, and changes nothing."""
    HostBackend(path).close()
    first, *_, second = sorted("abcdef", key=lambda subject: _shard(path, subject))
    start_process(path).stops_in(second)

    async def act(limiter: AsyncLimiter) -> None:
        with busy_for(path, 0.75 * WAIT_MS / 1000, [_shard(path, first)]):
            begun_s = time.monotonic()
            try:
                await limiter.acquire(first, SLOTS_3, also=[Budget(second, SLOTS_3, "scope")])
            finally:
                waited.append(time.monotonic() - begun_s)

    waited: list[float] = []
    assert_within_bound(path, act, waited)
    assert remaining(Limiter(HostBackend(path, clock=ManualClock(START_MS))), subject=first) == [1_000, 3]


def _shard(path: Path, subject: str) -> int:
    """The number of the part of the file in which a subject is."""
    backend: Any = HostBackend(path, clock=ManualClock(START_MS))
    backend.peek(subject, SLOTS_3, 1)
    number: int = backend._session.ledgers.known[subject].shard.number
    backend.close()
    return number


def test_settlement_blocks_the_loop_briefly(path: Path, start_process: StartProcess) -> None:
    """A settlement gives up in time, and can be repeated."""
    limiter = AsyncLimiter(HostBackend(path, clock=ManualClock(START_MS)))
    claim = limiter.acquire("s", SLOTS_3, 5, also=with_scopes(["acme"]), settle=True)
    decision: Decision = asyncio.run(_awaited(claim))
    there = start_process(path)
    there.stops_in("acme")
    held: list[float] = []
    with pytest.raises(BackendUnavailable):
        asyncio.run(_timed(limiter, lambda limiter: limiter.settle(decision, 2), held))
    there.kill()
    asyncio.run(_awaited(limiter.settle(decision, 2)))

    assert held[0] >= WAIT_MS / 1000
    peeked = asyncio.run(_awaited(limiter.peek("s", SLOTS_3, also=with_scopes(["acme"]))))
    assert [usage.remaining for usage in peeked.usages] == [998, 2] * 2


async def _awaited(call: Any) -> Any:
    return await call


async def _decided(limiter: AsyncLimiter) -> Decision:
    return await limiter.acquire("s", SLOTS_3)


@contextmanager
def busy_for(path: Path, seconds: float, shards: Iterable[int] = range(SHARDS)) -> Any:
    """These parts of the file are in use by another for so long, counted from the beginning of the block."""
    with path.open("r+b") as file:
        locks = [ByteLock(file.fileno(), number) for number in shards]
        assert not any(lock.try_lock() for lock in locks)
        timer = threading.Timer(seconds, lambda: [lock.unlock() for lock in locks])
        timer.start()
        try:
            yield
        finally:
            timer.join()


def test_lock_and_growth_share_one_deadline(path: Path, start_process: StartProcess) -> None:
    """A decision that waited for the lock waits for growth only until the same deadline."""
    HostBackend(path).close()
    start_process(path).stops_growing()

    async def act(limiter: AsyncLimiter) -> None:
        with busy_for(path, 0.75 * WAIT_MS / 1000):
            begun_s = time.monotonic()
            try:
                await limiter.acquire("s", SLOTS_3)
            finally:
                waited.append(time.monotonic() - begun_s)

    waited: list[float] = []
    assert_within_bound(path, act, waited)


def test_busy_thread_blocks_the_loop_briefly(path: Path) -> None:
    """A decision in an event loop waits no longer for threads of its process than for other processes."""
    limiters: list[Any] = []
    left = threading.Event()

    async def act(limiter: AsyncLimiter) -> None:
        backend: Any = limiter.backend
        inside = threading.Event()

        def stay(_: Any) -> None:
            inside.set()
            left.wait(NEVER_S)

        thread = threading.Thread(target=backend.backend._session.run, args=("s", stay))
        limiters.append(thread)
        thread.start()
        assert inside.wait(NEVER_S)
        begun_s = time.monotonic()
        try:
            await limiter.acquire("s", SLOTS_3)
        finally:
            waited.append(time.monotonic() - begun_s)
            left.set()
            thread.join()
            left.clear()

    waited: list[float] = []
    assert_within_bound(path, act, waited)


@contextmanager
def in_use(path: Path) -> Any:
    """Every part of the file is in use by another."""
    with path.open("r+b") as file:
        locks = [ByteLock(file.fileno(), number) for number in range(SHARDS)]
        assert not any(lock.try_lock() for lock in locks)
        yield


def refused_after_s(limiter: Limiter, match: str) -> float:
    """How long a claim waited that got no decision."""
    begun_s = time.monotonic()
    with pytest.raises(BackendUnavailable, match=match):
        limiter.acquire("s", SLOTS_3)
    return time.monotonic() - begun_s


def test_full_wait_after_a_decision(path: Path) -> None:
    """Claims wait briefly for a stopped process, and in full again after the next decision."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    with in_use(path):
        refused_after_s(limiter, "check whether it is stopped")
    allowed = limiter.acquire("s", SLOTS_3).allowed
    with in_use(path):
        waited_s = refused_after_s(limiter, "check whether it is stopped")

    assert allowed
    assert waited_s >= THREAD_WAIT_MS / 1000


def test_short_wait_blames_no_process(path: Path) -> None:
    """A wait that was shortened by waiting for threads does not shorten later waits."""
    backend: Any = HostBackend(path, clock=ManualClock(START_MS))
    limiter = Limiter(backend)
    limiter.acquire("s", SLOTS_3)
    shard = backend._session.ledgers.known["s"].shard

    async def act() -> None:
        # The time of this decision has begun, so less is left than a whole wait.
        assert may_wait_for_thread()
        with in_use(path), pytest.raises(BackendUnavailable, match="timed out waiting for other threads and processes"):
            shard.run(pytest.fail)

    asyncio.run(act())
    with in_use(path):
        waited_s = refused_after_s(limiter, "check whether it is stopped")

    assert waited_s >= THREAD_WAIT_MS / 1000


def test_waiting_thread_blocks_the_loop_briefly(path: Path) -> None:
    """A thread waits long for a process; claims in an event loop wait neither for the one nor for the other as long."""
    backend: Any = HostBackend(path, clock=ManualClock(START_MS))
    limiter = AsyncLimiter(backend)
    Limiter(backend).acquire("s", SLOTS_3)
    shard = backend._session.ledgers.known["s"].shard
    held: list[float] = []

    async def act() -> None:
        assert eventually(lambda: shard._waited_in_vain_ms >= WAIT_MS, expected=True, seconds=NEVER_S)
        while waits.is_alive():
            with suppress(BackendUnavailable):
                await _timed(limiter, VERBS["acquire"], held)

    with in_use(path):
        waits = threading.Thread(target=refused_after_s, args=(Limiter(backend), "has held a lock for 800 ms"))
        waits.start()
        asyncio.run(act())
        waits.join()

    # A busy machine makes some of them late. The last ones do not meet the thread any more.
    assert median(held) < WAIT_MS / 1000


def test_greenlets_wait_as_briefly_as_an_event_loop(path: Path) -> None:
    """A greenlet that waits for a process holds up those of the same thread."""
    in_greenlet = greenlet.greenlet(process_wait_limit_ms).switch()

    assert in_greenlet == WAIT_MS
    assert process_wait_limit_ms() == THREAD_WAIT_MS


def test_import_in_an_event_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module opens no file when it is imported, and the detector of blocking calls finds none in opening one."""
    opened: list[object] = []
    for place in (io, os):
        monkeypatch.setattr(place, "open", partial(_noted, opened, place.open))
    spec = find_spec("awx_ratelimit.backends.host.opening")
    assert spec is not None
    loader, module = spec.loader, module_from_spec(spec)
    assert loader is not None

    async def load() -> int:
        loader.exec_module(module)
        assert opened == []
        table = module.open_table(str(path), 0, allow_other_users=False, create=module.creator())
        return int(table.damaged)

    assert asyncio.run(load()) == 0


def _noted(
    opened: list[object], really_open: Callable[..., object], path: object, *args: object, **options: object
) -> object:
    opened.append(path)
    return really_open(path, *args, **options)


def test_constructor_in_an_event_loop(path: Path) -> None:
    """In an event loop the constructor does not wait for a file that another process is creating."""

    async def made() -> None:
        begun_s = time.monotonic()
        limiter = AsyncLimiter(HostBackend(path, clock=ManualClock(START_MS)))
        held.append(time.monotonic() - begun_s)
        with pytest.raises(BackendUnavailable, match="has been creating the file"):
            await limiter.acquire("s", SLOTS_3)
        making.unlock()
        until_s = time.monotonic() + NEVER_S
        while (await limiter.health())["state"] != "ok" and time.monotonic() < until_s:  # noqa: ASYNC110  # by a thread
            await asyncio.sleep(0.01)
        assert (await limiter.acquire("s", SLOTS_3)).allowed
        await limiter.aclose()

    held: list[float] = []
    path.touch(mode=0o600)
    with path.open("r+b") as file:
        making = ByteLock(file.fileno(), CREATION_LOCK)
        assert not making.try_lock()
        asyncio.run(made())

    assert held[0] < 1.0
