"""A process that decides as fast as it can until it is killed: ``host_hammer.py FOLDER``.

It writes one byte for each claim that was let in. Whoever holds a lease takes one of as many permits, which are locks
of the kernel: who finds none free sees more leases than slots. One that is held by a process which is being killed
comes free in a moment.

A signal from outside hardly ever comes in the middle of a write, which takes less than a microsecond: of some writes a
process does but the beginning, and kills itself.
"""

import contextlib
import fcntl
import mmap
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from awx_ratelimit import BackendUnavailable, Concurrency, Limiter, Plan, Rate
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.testing import ManualClock

START_MS = 1_700_006_400_000
SLOTS = 3
#: Nothing comes back, for time stands still: what was let in can be counted.
MANY = Plan("many", (Rate("minute", 10**8, 60_000), Rate("day", 10**8, 86_400_000)), Concurrency(SLOTS))
FEW = Plan("few", (Rate("minute", 300, 60_000),))
_LOCK = struct.Struct("@hhqqi4x")
#: Of so many writes one is cut short.
_CUT_OF = 400


@contextlib.contextmanager
def permit(fd: int, folder: Path) -> Iterator[None]:
    """One of the permits, while a lease is held."""
    number = next(number for number in _tries() if _taken(fd, number, folder))
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_SETLK, _LOCK.pack(fcntl.F_UNLCK, 0, number, 1, 0))


def _tries() -> Iterator[int]:
    while True:
        yield from range(SLOTS)


def _taken(fd: int, number: int, folder: Path) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLK, _LOCK.pack(fcntl.F_WRLCK, 0, number, 1, 0))
    except OSError:
        if number == SLOTS - 1 and not any(_is_being_killed(fd, each, folder) for each in range(SLOTS)):
            (folder / "over").touch()
        return False
    return True


def _is_being_killed(fd: int, number: int, folder: Path) -> bool:
    """Whether the permit is free by now, or its holder is one of those that are killed."""
    said = fcntl.fcntl(fd, fcntl.F_GETLK, _LOCK.pack(fcntl.F_WRLCK, 0, number, 1, 0))
    kind, _, _, _, pid = _LOCK.unpack(said[: _LOCK.size])
    return kind == fcntl.F_UNLCK or (folder / "killed" / str(pid)).exists()


class Cut(mmap.mmap):
    """Memory of which some writes are begun, and never ended."""

    folder: Path

    def __setitem__(self, place: Any, written: Any) -> None:
        if random.randrange(_CUT_OF):
            super().__setitem__(place, written)
            return
        end = random.randrange(len(written))
        super().__setitem__(slice(place.start, place.start + end), written[:end])
        (self.folder / "killed" / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def hammer(folder: Path) -> None:
    """Decide until the end."""
    Cut.folder = folder
    mmap.mmap = Cut  # type: ignore[misc]
    permits = os.open(folder / "permits", os.O_RDWR | os.O_CREAT)
    many, few = (os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for name in ("many", "few"))
    limiter = Limiter(HostBackend(folder / "limits", clock=ManualClock(START_MS)))
    (folder / "begun" / str(os.getpid())).touch()
    while True:
        with contextlib.suppress(BackendUnavailable):
            decision = limiter.acquire("many", MANY)
            if decision.allowed:
                os.write(many, b"x")
                with permit(permits, folder):
                    if random.random() < 0.1:
                        time.sleep(random.random() / 500)
                limiter.release(decision)
        with contextlib.suppress(BackendUnavailable):
            if limiter.acquire("few", FEW).allowed:
                os.write(few, b"x")
            # Subjects that come and go, so that the file grows and is swept meanwhile.
            limiter.acquire(str(random.getrandbits(14)), FEW)


if __name__ == "__main__":
    hammer(Path(sys.argv[1]))
