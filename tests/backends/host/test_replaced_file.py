"""A file that is removed or replaced in use, and other faults of the running process."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.backends.host.limiters import wait_until
from tests.host_processes import SLOTS_3, START_MS

from awx_ratelimit import BackendUnavailable, Limiter
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.locks import ByteLock
from awx_ratelimit.backends.host.mapped_file import (
    CREATION_LOCK,
)
from awx_ratelimit.testing import ManualClock


@pytest.mark.parametrize("how", ["removed", "replaced", "moved", "emptied"])
def test_file_disappears(path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Within a second the processes continue in a new file without debts and with all leases, and the log says so."""
    clock = ManualClock(START_MS)
    first, second = (Limiter(HostBackend(path, clock=clock)) for _ in range(2))
    held = [first.acquire("s", SLOTS_3), second.acquire("s", SLOTS_3)]
    if how == "removed":
        path.unlink()
    elif how == "replaced":
        HostBackend(path.with_name("other")).close()
        path.with_name("other").replace(path)
    elif how == "moved":
        path.rename(path.with_name("old"))
    else:
        os.truncate(path, 0)
    wait_until(lambda: [usage.remaining for usage in first.peek("s", SLOTS_3).usages] == [1_000, 1])
    wait_until(lambda: [usage.remaining for usage in second.peek("s", SLOTS_3).usages] == [1_000, 1])
    first.release(held[0])

    assert [usage.remaining for usage in second.peek("s", SLOTS_3).usages] == [1_000, 2]
    assert f"{path}: the file was removed or replaced; the usage recorded in it is lost" in caplog.text


def test_creator_of_another_file_is_stopped(path: Path) -> None:
    """While another process is stuck creating a new file, decisions continue in the old one without delay."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    limiter.acquire("s", SLOTS_3)
    unmade = os.open(path.with_name("unmade"), os.O_RDWR | os.O_CREAT)
    assert not ByteLock(unmade, CREATION_LOCK).try_lock()
    path.with_name("unmade").rename(path)
    waits_s = []

    def is_noticed() -> bool:
        begun_s = time.monotonic()
        limiter.acquire("s", SLOTS_3)
        waits_s.append(time.monotonic() - begun_s)
        return "another process has been creating the file for 40 ms" in limiter.health()["state"]

    wait_until(is_noticed)
    os.close(unmade)
    wait_until(lambda: limiter.peek("s", SLOTS_3).usages[0].remaining == 1_000)

    assert max(waits_s) < 0.5


def test_closed_descriptor(path: Path) -> None:
    """If other code closes the descriptor, decisions fail for up to a second, and the usage stays."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    limiter.acquire("s", SLOTS_3)
    backend: Any = limiter.backend
    os.close(backend._session.open().file.fd)
    with pytest.raises(BackendUnavailable):
        limiter.acquire("s", SLOTS_3)
    wait_until(lambda: limiter.acquire("s", SLOTS_3).allowed)

    # Until the maintenance thread runs, the slot held through the old descriptor may count twice.
    wait_until(lambda: [usage.remaining for usage in limiter.peek("s", SLOTS_3).usages] == [998, 1])


def test_release_after_the_file_was_replaced(path: Path) -> None:
    """The release frees the slot even if the old descriptor number belongs to a larger file by now."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    held = [limiter.acquire("s", SLOTS_3) for _ in range(2)]
    backend: Any = limiter.backend
    old = backend._session.open()
    number = old.file.fd
    path.unlink()
    backend._session._switch_file(old)
    larger = os.open(path.with_name("larger"), os.O_RDWR | os.O_CREAT)
    os.truncate(larger, 10_000_000)
    os.dup2(larger, number)
    limiter.backend.release(held[0])
    for descriptor in {larger, number}:
        os.close(descriptor)

    assert limiter.acquire("s", SLOTS_3).held == 2


def test_no_thread_can_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a maintenance thread there are still decisions, and the health says what is wrong until one can start."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))

    def failing(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("awx_ratelimit.backends.host.session.PeriodicThread.start", failing)
        allowed = limiter.acquire("s", SLOTS_3).allowed
    state = limiter.health()["state"]
    limiter.acquire("another", SLOTS_3)
    wait_until(lambda: limiter.health()["state"] == "ok")

    assert allowed is True
    assert state == "can't start new thread"
