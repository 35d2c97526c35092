"""One timer per event loop for the deadlines of a guard's claims."""

import asyncio
from typing import Any

import pytest
from tests.runtime.test_call_timer import Loop

from awx_ratelimit.runtime.task_deadlines import LoopTimer, TaskDeadlines


class Timer:
    """A timer of deadlines of 50 ms, in a loop whose time the test sets, and the tasks that it has cancelled."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.cancelled: dict[str, float] = {}
        as_loop: Any = self.loop
        self._timer = LoopTimer(as_loop, 0.05)

    def begin(self, name: str) -> Any:
        task: Any = Task(name, self)
        return self._timer.begin(task)


class Task:
    def __init__(self, name: str, timer: Timer) -> None:
        self._name = name
        self._timer = timer

    def cancelling(self) -> int:
        return 0

    def cancel(self) -> None:
        self._timer.cancelled[self._name] = round(self._timer.loop.now_s - 100, 3)


@pytest.fixture
def timer() -> Timer:
    return Timer()


def test_each_task_has_its_own_deadline(timer: Timer) -> None:
    """Each one expires after its time, and one that has ended does not."""
    timer.begin("first")
    timer.loop.run(100.02)
    timer.begin("second")
    with timer.begin("third"):
        pass
    timer.loop.run(101.0)

    assert timer.cancelled == {"first": 0.05, "second": 0.07}


def test_all_delays_are_added(timer: Timer) -> None:
    """A loop that wakes up late five times moves the deadline by all five delays."""
    timer.begin("one")
    timer.loop.run(101.0, late_s=0.01)

    # Four iterations follow, in which a late reply may still be read.
    assert timer.cancelled == {"one": 0.1 + 0.04}


def test_a_delay_before_it_began_is_not_its_own(timer: Timer) -> None:
    """A deadline that begins at the end of a delay is not moved by it."""
    timer.begin("first")
    timer.loop.now_s += 0.3
    timer.begin("second")
    timer.loop.run(102.0)

    assert timer.cancelled == {"first": 0.34, "second": 0.35}


def test_one_timer_for_all(timer: Timer) -> None:
    """A hundred deadlines that have ended made one timer, which makes no other."""
    for number in range(100):
        with timer.begin(str(number)):
            pass
    timer.loop.run(101.0)

    assert timer.loop.timers_made == 1


async def hanging(deadlines: TaskDeadlines) -> None:
    with deadlines.begin():
        await asyncio.Event().wait()


def test_timeout_in_a_task() -> None:
    """The error is a TimeoutError, and the task has no pending cancellation."""

    async def late() -> int:
        with pytest.raises(TimeoutError):
            await hanging(TaskDeadlines(0.01))
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(late()) == 0


def test_another_cancellation_is_no_timeout() -> None:
    """A task that is cancelled by another gets CancelledError."""

    async def cancelled() -> bool:
        task = asyncio.create_task(hanging(TaskDeadlines(10.0)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())
