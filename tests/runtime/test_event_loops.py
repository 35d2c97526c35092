"""Threads for blocking calls: bounded in number, also after cancellations, in any event loop and process."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from threading import Barrier, BrokenBarrierError, Event, get_ident
from typing import Any

import pytest
from tests.processes import FORK_PARAMETERS, in_child

from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.event_loops import ThreadPool, call_in_event_loop


async def _all(threads: ThreadPool, function: Callable[[], Any], times: int) -> list[Any]:
    return await asyncio.gather(*(threads.run(function) for _ in range(times)), return_exceptions=True)


@pytest.mark.parametrize(("most", "met"), [(1, False), (2, True)])
def test_max_threads(most: int, met: bool) -> None:
    """At most `max_threads` functions run at the same time."""
    barrier = Barrier(2)
    answers = asyncio.run(_all(ThreadPool(most), lambda: barrier.wait(10 if met else 0.2), 2))

    assert {isinstance(answer, BrokenBarrierError) for answer in answers} == {not met}


def test_cancelled_task_keeps_its_thread() -> None:
    """A cancelled task ends at once; its thread stays busy until the function returns."""
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


def test_waiting_function_is_cancelled() -> None:
    """A function whose task is cancelled before it starts never runs."""
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


def test_two_loops() -> None:
    """A pool works in one event loop after another."""
    threads = ThreadPool(1)

    assert [get_ident() in asyncio.run(_all(threads, get_ident, 3)) for _ in range(3)] == [False] * 3


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_child_process(fork: Callable[[], int]) -> None:
    """A child process creates its own threads."""
    threads = ThreadPool(1)
    asyncio.run(_all(threads, get_ident, 1))

    assert in_child(fork, lambda: asyncio.run(asyncio.wait_for(threads.run(lambda: 7), 10)) == 7) is True


def test_context() -> None:
    """A function sees the context variables of its task."""
    name: ContextVar[str] = ContextVar("name")

    async def seen() -> str:
        name.set("acme")
        return await ThreadPool(1).run(name.get)

    assert asyncio.run(seen()) == "acme"


async def _double(number: int) -> tuple[int, int]:
    return number * 2, get_ident()


def test_call_in_event_loop() -> None:
    """A function in a thread can call a coroutine function in the loop."""
    assert asyncio.run(ThreadPool(1).run(call_in_event_loop, _double, 21)) == (42, get_ident())


def test_no_event_loop() -> None:
    """In any other thread it is a RuntimeError."""
    with pytest.raises(RuntimeError, match="no event loop"):
        call_in_event_loop(_double, 21)


def test_unresponsive_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that does not respond is a BackendUnavailable."""
    monkeypatch.setattr("awx_ratelimit.runtime.event_loops._LOOP_TIMEOUT_S", 0.05)

    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(BackendUnavailable, match="did not respond"):
        asyncio.run(ThreadPool(1).run(call_in_event_loop, never))
