"""Threads for what blocks: so many at a time, whoever leaves, in whatever event loop and process."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextvars import ContextVar
from threading import Barrier, BrokenBarrierError, Event, get_ident
from typing import Any

import pytest
from tests.processes import FORK_PARAMETERS

from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.event_loops import ThreadPool, call_in_event_loop


async def _all(threads: ThreadPool, function: Callable[[], Any], times: int) -> list[Any]:
    return await asyncio.gather(*(threads.run(function) for _ in range(times)), return_exceptions=True)


@pytest.mark.parametrize(("most", "met"), [(1, False), (2, True)])
def test_so_many_run_at_a_time(most: int, met: bool) -> None:
    """Two functions that wait for one another meet where two may run, and do not where one may."""
    barrier = Barrier(2)
    answers = asyncio.run(_all(ThreadPool(most), lambda: barrier.wait(10 if met else 0.2), 2))

    assert {isinstance(answer, BrokenBarrierError) for answer in answers} == {not met}


def test_a_thread_keeps_its_place_though_nobody_waits() -> None:
    """A cancelled task leaves at once; its thread goes on, and until it has ended no other begins."""
    threads, let_go, begun = ThreadPool(1), Event(), Event()
    order: list[str] = []

    def first() -> None:
        begun.set()
        let_go.wait(10)
        order.append("first")

    async def leave() -> None:
        task = asyncio.ensure_future(threads.run(first))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        await asyncio.wait({task})
        order.append("left")
        second = asyncio.ensure_future(threads.run(order.append, "second"))
        await asyncio.sleep(0.05)
        let_go.set()
        await second

    asyncio.run(leave())

    assert order == ["left", "first", "second"]


def test_what_has_not_begun_never_does() -> None:
    """A task that is cancelled while it waits for a thread is not carried out later."""
    threads, let_go, begun = ThreadPool(1), Event(), Event()
    done: list[str] = []

    def hold() -> None:
        begun.set()
        let_go.wait(10)

    async def leave() -> None:
        holding = asyncio.ensure_future(threads.run(hold))
        await asyncio.to_thread(begun.wait, 10)
        waiting = asyncio.ensure_future(threads.run(done.append, "waiting"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        let_go.set()
        await holding
        await threads.run(done.append, "later")

    asyncio.run(leave())

    assert done == ["later"]


def test_one_loop_after_another() -> None:
    """The threads outlive a loop, and serve the next."""
    threads = ThreadPool(1)

    assert [get_ident() in asyncio.run(_all(threads, get_ident, 3)) for _ in range(3)] == [False] * 3


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_a_child_process_has_threads_of_its_own(fork: Callable[[], int]) -> None:
    """After a fork nothing waits for a thread that is not there."""
    threads = ThreadPool(1)
    asyncio.run(_all(threads, get_ident, 1))
    pid = fork()
    if not pid:
        signal.alarm(10)
        os._exit(asyncio.run(asyncio.wait_for(threads.run(lambda: 7), 10)))

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_function_has_the_context_of_its_task() -> None:
    """What a request has set is seen in its thread: for tracing, and for logs."""
    name: ContextVar[str] = ContextVar("name")

    async def seen() -> str:
        name.set("acme")
        return await ThreadPool(1).run(name.get)

    assert asyncio.run(seen()) == "acme"


async def _double(number: int) -> tuple[int, int]:
    return number * 2, get_ident()


def test_a_function_in_a_thread_can_ask_the_loop() -> None:
    """What has to be awaited is awaited where it lives."""
    assert asyncio.run(ThreadPool(1).run(call_in_event_loop, _double, 21)) == (42, get_ident())


def test_elsewhere_there_is_no_loop_to_ask() -> None:
    """It is an error that says so, and not a wait without end."""
    with pytest.raises(RuntimeError, match="no event loop"):
        call_in_event_loop(_double, 21)


def test_a_loop_that_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is told after a while, as of a backend that gives none."""
    monkeypatch.setattr("awx_ratelimit.runtime.event_loops._LOOP_TIMEOUT_S", 0.05)

    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(BackendUnavailable, match="did not respond"):
        asyncio.run(ThreadPool(1).run(call_in_event_loop, never))
