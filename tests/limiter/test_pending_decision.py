"""The result of a method before it is awaited: an error if used as a decision, and otherwise a normal coroutine."""

import asyncio
import gc
import inspect
import re
import warnings
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any
from unittest.mock import create_autospec

import anyio
import pytest
import trio

from awx_ratelimit import STARTER, AsyncLimiter, Decision, Limiter, MemoryBackend
from awx_ratelimit.backends.base import NonBlocking

VERBS = ["acquire", "peek", "reset"]


@pytest.fixture
def limiter() -> AsyncLimiter:
    return AsyncLimiter(MemoryBackend())


def undecided(limiter: AsyncLimiter, verb: str) -> Any:
    return limiter.reset("u") if verb == "reset" else getattr(limiter, verb)("u", STARTER)


CONDITIONS: dict[str, Callable[[Any], Any]] = {
    "if": lambda answer: 1 if answer else 2,
    "not": lambda answer: not answer,
    "and": lambda answer: answer and 1,
    "or": lambda answer: answer or 1,
    "bool": bool,
    "filter": lambda answer: [*filter(None, [answer])],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_condition_without_await(limiter: AsyncLimiter, verb: str, condition: str) -> None:
    """A coroutine in a condition raises TypeError, without a second warning."""
    says = f"{verb}(...) was not awaited; write `await limiter.{verb}(...)`"

    with pytest.raises(TypeError, match=f"^{re.escape(says)}$"):
        CONDITIONS[condition](undecided(limiter, verb))


@pytest.mark.parametrize("verb", VERBS)
def test_fields_without_await(limiter: AsyncLimiter, verb: str) -> None:
    """Fields of a Decision do not exist before the await, and the error says so."""
    answer = undecided(limiter, verb)
    says = f"{verb}(...) was not awaited; write `await limiter.{verb}(...)`"

    with pytest.raises(AttributeError, match=f"^{re.escape(says)}$"):
        _ = answer.allowed
    answer.close()


def test_dropped_coroutine(limiter: AsyncLimiter) -> None:
    """A coroutine that is dropped causes Python's own warning, with the method's name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        undecided(limiter, "acquire")
        gc.collect()

    assert [str(warning.message) for warning in caught] == ["coroutine 'AsyncLimiter.acquire' was never awaited"]


async def _awaiting(make: Callable[[], Any]) -> Any:
    return await make()


async def _from_a_thread(answer: Any) -> Any:
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(answer, loop).result(30))


def _by_hand(answer: Any) -> Any:
    with pytest.raises(StopIteration) as stopped:
        answer.send(None)
    return stopped.value.value


AWAITED: dict[str, Callable[[Coroutine[Any, Any, Decision]], Any]] = {
    "run": asyncio.run,
    "task": lambda answer: asyncio.run(_awaiting(lambda: asyncio.create_task(answer))),
    "gather": lambda answer: asyncio.run(_awaiting(lambda: asyncio.gather(answer)))[0],
    "wait_for": lambda answer: asyncio.run(_awaiting(lambda: asyncio.wait_for(answer, 60))),
    "shield": lambda answer: asyncio.run(_awaiting(lambda: asyncio.shield(answer))),
    "threadsafe": lambda answer: asyncio.run(_from_a_thread(answer)),
    "by hand": _by_hand,
}


@pytest.mark.parametrize("way", AWAITED)
def test_works_as_a_coroutine(limiter: AsyncLimiter, way: str) -> None:
    """Every way to run a coroutine gives the decision."""
    assert AWAITED[way](limiter.acquire("u", STARTER)).usages[0].remaining == 59


def test_repr_of_a_task(limiter: AsyncLimiter) -> None:
    """A task of it can be shown, which asyncio.run does on Python 3.12."""

    async def main() -> str:
        task = asyncio.create_task(limiter.acquire("u", STARTER))
        shown = repr(task)
        await task
        return shown

    assert "AsyncLimiter.acquire()" in asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_task_groups(limiter: AsyncLimiter, backend: str) -> None:
    """Task groups of anyio start it."""

    async def main() -> int:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(limiter.acquire, "u", STARTER)
        return (await limiter.peek("u", STARTER)).usages[0].remaining

    assert anyio.run(main, backend=backend) == 57


def test_trio(limiter: AsyncLimiter) -> None:
    """trio.run runs the method."""
    assert trio.run(limiter.acquire, "u", STARTER).allowed


def test_cancellation() -> None:
    """A cancellation reaches the waiting backend."""
    ended: list[str] = []

    class Hangs(NonBlocking):
        async def acquire(self, *_: Any) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("ended")

    async def main() -> None:
        limiter = AsyncLimiter(Hangs(MemoryBackend()))  # type: ignore[arg-type]
        task = asyncio.create_task(limiter.acquire("u", STARTER))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended == ["ended"]


@pytest.mark.parametrize("verb", VERBS)
def test_is_a_coroutine_function(limiter: AsyncLimiter, verb: str) -> None:
    """The signature and the kind of the method are kept, so that mocks await it."""
    written = "(subject: str, *, scope: "
    if verb != "reset":
        written = (
            "(subject: str, plan: awx_ratelimit.core.plan.Plan, cost: int | collections.abc.Mapping[str, int] = 1, "
        )
    mock = create_autospec(AsyncLimiter, instance=True)

    assert str(inspect.signature(getattr(limiter, verb))).startswith(written)
    assert asyncio.iscoroutinefunction(getattr(limiter, verb))
    mocked = undecided(mock, verb)
    assert inspect.iscoroutine(mocked)
    mocked.close()


def _with(manager: Any) -> None:
    with manager:
        pass


def _async_with(manager: Any) -> None:
    async def main() -> None:
        async with manager:
            pass

    asyncio.run(main())


def test_wrong_with(limiter: AsyncLimiter) -> None:
    """`with` instead of `async with`, and the reverse, is a TypeError with the correct line."""
    asynchronous = "AsyncLimiter.hold(...) is asynchronous; write `async with limiter.hold(...) as decision:`"
    plain = "Limiter.hold(...) is not asynchronous; write `with limiter.hold(...) as decision:`"

    with pytest.raises(TypeError, match=f"^{re.escape(asynchronous)}$"):
        _with(limiter.hold("u", STARTER))
    with pytest.raises(TypeError, match=f"^{re.escape(plain)}$"):
        _async_with(Limiter(MemoryBackend()).hold("u", STARTER))


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_hold_in_a_condition(kind: Any) -> None:
    """`if limiter.hold(...)` is a TypeError and takes no slot."""
    limiter = kind(MemoryBackend())
    with pytest.raises(TypeError, match=r"^hold\(\.\.\.\) is not a decision; write `(async )?with limiter.hold"):
        bool(limiter.hold("u", STARTER))

    assert Limiter(MemoryBackend()).peek("u", STARTER).usages[-1].remaining == 5


def test_hold_releases() -> None:
    """A block that raises, a reused hold, and a block that is never left release the slot."""
    limiter = Limiter(MemoryBackend())

    def free() -> int:
        return limiter.peek("u", STARTER).usages[-1].remaining

    hold = limiter.hold("u", STARTER)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), hold:
            _ = 1 / 0
    after_raising = free()
    stack = ExitStack()
    stack.enter_context(limiter.hold("u", STARTER))
    held = free()
    del stack
    gc.collect()

    assert after_raising == 5
    assert held == 4
    assert free() == 5


def test_nested_hold() -> None:
    """Entering a hold inside its own block is a RuntimeError, because it would lose a slot."""
    limiter = Limiter(MemoryBackend())
    hold = limiter.hold("u", STARTER)
    with hold, pytest.raises(RuntimeError, match=r"^this hold\(\.\.\.\) is already in use"):
        hold.__enter__()

    assert limiter.peek("u", STARTER).usages[-1].remaining == 5
