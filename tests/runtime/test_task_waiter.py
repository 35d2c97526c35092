"""`TaskWaiter` does for a Task what a future does, and earlier."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from awx_ratelimit.runtime.task_waiter import TaskWaiter


class Call:
    """A task that waits, what it got, and what was abandoned."""

    def __init__(self) -> None:
        self.abandoned: list[int] = []
        self.got: list[int] = []
        self.waiter: TaskWaiter[str, int] = TaskWaiter("call", asyncio.get_running_loop(), self.abandoned.append)
        self.task = asyncio.create_task(self._wait())

    async def _wait(self) -> int:
        self.got.append(await self.waiter)
        return self.got[0]


async def waiting() -> Call:
    call = Call()
    await asyncio.sleep(0)
    return call


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, 10))


def test_the_task_goes_on_at_once() -> None:
    """In a callback of the loop, `set_result` returns after the task has gone on."""

    async def at_once() -> tuple[list[int], int]:
        call, seen = await waiting(), list[int]()

        def answer() -> None:
            call.waiter.set_result(7)
            seen.extend(call.got)

        asyncio.get_running_loop().call_soon(answer)
        return seen, await call.task

    assert run(at_once()) == ([7], 7)


def test_the_turn_of_another_task() -> None:
    """Where another task runs, as in a nested loop, the task goes on later and loses nothing."""

    async def nested() -> tuple[list[int], int]:
        call = await waiting()
        call.waiter.set_result(7)
        return [*call.got], await call.task

    assert run(nested()) == ([], 7)


def test_an_error_reaches_the_task() -> None:
    """The task gets the error, also if it came before the task waited."""

    async def failing(*, early: bool) -> None:
        call = Call() if early else await waiting()
        call.waiter.set_error(LookupError("no"))
        with pytest.raises(LookupError, match="no"):
            await call.task

    run(failing(early=True))
    run(failing(early=False))


def test_a_cancelled_task() -> None:
    """It gets CancelledError with its message, and a waiter that is done already cannot be cancelled."""

    async def cancelled() -> tuple[Any, ...]:
        call = await waiting()
        call.task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await call.task
        return call.waiter.is_done, call.waiter.cancel(), call.abandoned

    assert run(cancelled()) == (True, False, [])


def test_a_cancellation_after_the_result() -> None:
    """If the result has arrived and the task is cancelled before it goes on, the result is abandoned."""

    async def late() -> list[int]:
        call = await waiting()
        call.waiter.set_result_later(7)
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task
        return call.abandoned

    assert run(late()) == [7]
