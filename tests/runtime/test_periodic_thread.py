"""A thread that calls a method periodically."""

import threading
from collections.abc import Iterator

import pytest
from tests.machine import eventually

from awx_ratelimit.runtime.periodic_thread import PeriodicThread


class Work:
    """A method that counts its calls, and fails while the test says so."""

    def __init__(self) -> None:
        self.done = 0
        self.failing = False
        self.ticker = PeriodicThread("awx-key-test", self.work, 1_000.0)

    def work(self) -> None:
        self.done += 1
        if self.failing:
            raise ArithmeticError("the reason")

    def once(self) -> None:
        """Wake the thread, and wait until it has called the method."""
        before = self.done
        self.ticker.wake()
        assert eventually(lambda: self.done, before + 1) == before + 1


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    work.ticker.start()
    yield work
    work.ticker.stop(5)


def test_failure_is_logged_once(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    """Repeated failures are one log line until the next success."""
    for failing in (True, True, True, False, True, True):
        work.failing = failing
        work.once()
    work.ticker.stop(5)

    assert caplog.messages == ["awx-key-test: the reason; will retry"] * 2


def test_stop_works_once_more(work: Work) -> None:
    """`stop` calls the method once more; later calls of start and stop do nothing."""
    work.once()
    work.ticker.stop(5)
    work.ticker.stop(5)
    work.ticker.start()

    assert work.done == 2
    assert work.ticker.thread is None


def test_interval() -> None:
    """Without a wake-up the method is called after each interval."""
    work = Work()
    work.ticker = PeriodicThread("awx-key-test", work.work, 0.001)
    work.ticker.start()
    often = eventually(lambda: work.done >= 3, expected=True)
    work.ticker.stop(5)

    assert often


@pytest.mark.parametrize("started", [False, True])
def test_stop_within_start(started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that interrupts `start` can call `stop`, and the thread ends."""
    work, threads, start = Work(), [], threading.Thread.start

    def interrupted_start(thread: threading.Thread) -> None:
        threads.append(thread)
        if started:
            start(thread)
        work.ticker.stop(0)
        if not started:
            start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    work.ticker.start()
    threads[0].join(5)

    assert threads[0].is_alive() is False
    assert work.ticker.thread is None


class Pausing:
    """A method that pauses in each call."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends: list[bool] = []
        self.begun = 0
        self.ticker = PeriodicThread("awx-key-pausing", self.work, 1_000.0)

    def work(self) -> None:
        self.begun += 1
        self.ends.append(self.ticker.pause(self.seconds))


def test_stop_ends_a_pause() -> None:
    """A pause returns at once if the thread is to end, and the thread then does its last work."""
    pausing, last = Pausing(1_000.0), threading.Event()
    pausing.ticker.start()
    pausing.ticker.wake()
    assert eventually(lambda: pausing.begun, 1) == 1
    thread = pausing.ticker.thread
    pausing.ticker.wake()
    pausing.ticker.stop(30, last.set)

    assert thread is not None
    assert not thread.is_alive()
    assert last.is_set()
    assert pausing.ends == [True]


def test_wake_during_a_pause() -> None:
    """A pause lasts its whole time although the thread is woken, and then the method is called again."""
    pausing = Pausing(0.01)
    pausing.ticker.start()
    pausing.ticker.wake()
    assert eventually(lambda: pausing.begun, 1) == 1
    pausing.ticker.wake()

    assert eventually(lambda: pausing.ends, [False, False]) == [False, False]
    pausing.ticker.stop(30)


def test_restart_while_a_stopped_thread_hangs() -> None:
    """A thread that starts before the one before it has ended is not ended by the `stop` of before."""
    calls: list[threading.Thread] = []
    may_end = threading.Event()

    class Hanging:
        def work(self) -> None:
            calls.append(threading.current_thread())
            assert may_end.wait(60)

    hanging = Hanging()
    thread = Restartable("awx-key-test", hanging.work, 1_000.0)
    for number in (1, 2):
        thread.start()
        thread.wake()
        assert eventually(lambda: len(calls), number) == number
        if number == 1:
            thread.end(0.01)
    may_end.set()
    calls[0].join(10)
    thread.wake()

    assert not calls[0].is_alive()
    assert eventually(lambda: calls[1:], [calls[1]] * 2) == [calls[1]] * 2
    thread.end(30)
    assert not calls[1].is_alive()


class Restartable(PeriodicThread):
    """A thread that may start again after its end."""

    def end(self, timeout_s: float) -> None:
        self._end(timeout_s, lambda: None)


def test_successor_of_a_hanging_thread() -> None:
    """After `stop`, a successor runs, and a thread that has outlived `stop` ends with its last call."""
    calls: list[threading.Thread] = []
    may_end = threading.Event()

    class Hanging:
        def work(self) -> None:
            calls.append(threading.current_thread())
            assert may_end.wait(60)

    hanging = Hanging()
    old = PeriodicThread("awx-key-test", hanging.work, 1_000.0)
    old.start()
    old.wake()
    assert eventually(lambda: len(calls), 1) == 1
    old.stop(0.01)
    new = old.successor()
    new.start()
    new.wake()
    assert eventually(lambda: len(calls), 2) == 2
    may_end.set()
    calls[0].join(10)

    assert not calls[0].is_alive()
    assert calls[1].is_alive()
    new.stop(30)
    assert calls.count(calls[1]) == 2
