"""The lock of a shard in the compiled form."""

import sys
import threading

import pytest

from awx_ratelimit import MemoryBackend
from awx_ratelimit.backends.memory import latch
from awx_ratelimit.backends.memory.latch import Latch, new_lock
from awx_ratelimit.runtime.compiled import IS_COMPILED


def test_attempts() -> None:
    """Only the first attempt takes it, until it is released."""
    lock = Latch()

    assert [next(lock), next(lock), lock.acquire(False)] == [True, False, False]
    assert lock.locked()

    lock.release()

    assert not lock.locked()
    assert next(lock)


def test_waiting() -> None:
    """A thread waits in `with` until another one releases it."""
    lock, is_inside = Latch(), threading.Event()
    lock.acquire()

    def wait() -> None:
        with lock:
            is_inside.set()

    waiting = threading.Thread(target=wait)
    waiting.start()

    assert not is_inside.is_set()

    lock.release()
    waiting.join(10)

    assert is_inside.is_set()
    assert not lock.locked()


def test_form() -> None:
    """Shards have a Latch in the compiled form, and Python's lock in the other."""
    lock = MemoryBackend()._shards[0].lock

    assert isinstance(lock, Latch) == IS_COMPILED


def test_free_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an interpreter with a lock for all threads can have a Latch."""
    monkeypatch.setattr(latch, "IS_COMPILED", True)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)

    assert isinstance(new_lock(), Latch)

    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)

    assert not isinstance(new_lock(), Latch)
