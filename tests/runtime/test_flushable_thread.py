"""A thread whose next attempt others can wait for."""

import threading
from collections.abc import Iterator

import pytest
from tests.machine import timed

from awx_ratelimit.runtime import flushable_thread
from awx_ratelimit.runtime.flushable_thread import FlushableThread


class Work:
    """Attempts that count themselves, and fail or hang while the test says so."""

    def __init__(self) -> None:
        self.done = 0
        self.failing = False
        self.may_end = threading.Event()
        self.may_end.set()
        self.thread = FlushableThread("awx-key-test", self.work, 1_000.0)

    def work(self) -> None:
        with self.thread.attempt():
            self.may_end.wait(60)
            self.done += 1
            if self.failing:
                raise ArithmeticError("the reason")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    # On a busy machine an attempt may take longer than 2 s.
    monkeypatch.setattr(flushable_thread, "FLUSH_TIMEOUT_S", 30.0)
    work = Work()
    yield work
    work.may_end.set()
    work.thread.stop(5)


def test_flush_waits_for_an_attempt(work: Work) -> None:
    """`flush` starts the thread and returns after one attempt."""
    work.thread.flush()

    assert work.done == 1
    assert work.thread.is_failing is False


def test_flush_after_a_failure(work: Work) -> None:
    """After an attempt that failed, `flush` does not wait; after one that succeeds, it waits again."""
    work.failing = True
    work.thread.flush()
    was_failing = work.thread.is_failing
    work.may_end.clear()
    with timed() as watch:
        work.thread.flush()
    work.failing = False
    work.may_end.set()
    work.work()
    before = work.done
    work.thread.flush()

    assert was_failing is True
    assert watch.seconds < watch.limit(0.5)
    assert work.done > before


def test_attempt_that_hangs(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that does not end in time counts as a failure, so that the next `flush` does not wait for it."""
    monkeypatch.setattr(flushable_thread, "FLUSH_TIMEOUT_S", 0.01)
    work.may_end.clear()
    work.thread.flush()

    assert work.done == 0
    assert work.thread.is_failing is True
