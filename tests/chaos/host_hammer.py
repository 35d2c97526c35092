"""A process that claims as fast as it can until it is killed, by `host_storm`.

It writes one byte for each claim that was allowed, and for claims of several budgets one for each token that they were
settled at. While it holds a lease it also holds one permit, which is a lock of
the kernel; there are as many permits as slots. A process that finds no free permit has seen more leases than slots,
unless the holder of a permit is being killed at that moment.

A signal from outside hardly ever hits a write, which takes less than a microsecond. So the process cuts some writes
short itself, and then kills itself.
"""

import contextlib
import fcntl
import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from awx_ratelimit import BackendUnavailable, Budget, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.testing import ManualClock

START_MS = 1_700_006_400_000
SLOTS = 3
#: The clock stands still, so nothing is refilled and the allowed claims can be counted.
MANY = Plan("many", (Rate("minute", 10**8, 60_000), Rate("day", 10**8, 86_400_000)), Concurrency(SLOTS))
FEW = Plan("few", (Rate("minute", 300, 60_000),))
KEY = Plan("key", (Rate("hour", 10**8, 3_600_000),), Concurrency(SLOTS))
KEYS = [f"key-{number}" for number in range(4)]
#: Every key belongs to this account, whose slots have permits too, and some claims use the service.
ACCOUNT = Budget("acme", MANY, "account")
SERVICE = Budget("everybody", FEW, "service")
MOST_SETTLED = 3
_LOCK = struct.Struct("@hhqqi4x")
#: One of so many writes is cut short.
_WRITES_PER_CUT = 400


@contextlib.contextmanager
def permit(fd: int, folder: Path, first: int = 0) -> Iterator[None]:
    """Hold one of the permits from number `first` on, together with a lease."""
    number = next(number for number in _tries(first) if _taken(fd, number, folder))
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_SETLK, _LOCK.pack(fcntl.F_UNLCK, 0, number, 1, 0))


def _tries(first: int) -> Iterator[int]:
    while True:
        yield from range(first, first + SLOTS)


def _taken(fd: int, number: int, folder: Path) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLK, _LOCK.pack(fcntl.F_WRLCK, 0, number, 1, 0))
    except OSError:
        is_last = number % SLOTS == SLOTS - 1
        if is_last and not any(_is_being_killed(fd, number - each, folder) for each in range(SLOTS)):
            (folder / "over").touch()
        return False
    return True


def _is_being_killed(fd: int, number: int, folder: Path) -> bool:
    """Whether the permit is free by now, or its holder is being killed."""
    said = fcntl.fcntl(fd, fcntl.F_GETLK, _LOCK.pack(fcntl.F_WRLCK, 0, number, 1, 0))
    kind, _, _, _, pid = _LOCK.unpack(said[: _LOCK.size])
    return kind == fcntl.F_UNLCK or (folder / "killed" / str(pid)).exists()


class TornMemory(mmap.mmap):
    """A mapping in which some writes are cut short."""

    folder: Path

    def __setitem__(self, place: Any, written: Any) -> None:
        if not written or random.randrange(_WRITES_PER_CUT):
            super().__setitem__(place, written)
            return
        end = random.randrange(len(written))
        super().__setitem__(slice(place.start, place.start + end), written[:end])
        (self.folder / "killed" / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def hammer(folder: Path) -> None:
    """Claim and release until the process is killed, or its parent has ended."""
    parent = os.getppid()
    TornMemory.folder = folder
    mmap.mmap = TornMemory  # type: ignore[misc]
    permits = os.open(folder / "permits", os.O_RDWR | os.O_CREAT)
    many, few, account, service = (
        os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for name in ("many", "few", "account", "service")
    )
    limiter = Limiter(HostBackend(folder / "limits", clock=ManualClock(START_MS)))
    (folder / "begun" / str(os.getpid())).touch()
    while os.getppid() == parent:
        with contextlib.suppress(BackendUnavailable):
            decision = limiter.acquire("many", MANY)
            if decision.allowed:
                os.write(many, b"x")
                with permit(permits, folder):
                    if random.random() < 0.1:
                        time.sleep(random.random() / 500)
                limiter.release(decision)
        with contextlib.suppress(BackendUnavailable):
            decision = limiter.acquire(random.choice(KEYS), KEY, also=[ACCOUNT], settle=True)
            if decision.allowed:
                with permit(permits, folder, SLOTS):
                    os.write(account, b"x" * _settled(limiter, decision))
                limiter.release(decision)
        with contextlib.suppress(BackendUnavailable):
            decision = limiter.acquire(random.choice(KEYS), KEY, also=[SERVICE])
            if decision.allowed:
                os.write(service, b"x")
                limiter.release(decision)
        with contextlib.suppress(BackendUnavailable):
            if limiter.acquire("few", FEW).allowed:
                os.write(few, b"x")
            # Short-lived subjects, so that the file grows and is swept at the same time.
            limiter.acquire(str(random.getrandbits(14)), FEW)


def _settled(limiter: Limiter, decision: Decision) -> int:
    """Settle a claim of one token; what it cost."""
    cost = random.choice((0, 1, 1, MOST_SETTLED))
    try:
        limiter.settle(decision, cost)
    except BackendUnavailable:
        return 1
    return cost
