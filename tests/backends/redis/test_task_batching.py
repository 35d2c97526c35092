"""Batching for tasks: few calls, and every result reaches its caller."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from tests.backends.redis.test_thread_batching import Batch

from awx_ratelimit import BackendUnavailable
from awx_ratelimit.backends.remote.batching import MAX_BATCH_CLAIMS, MIN_BALANCED_CLAIMS, MIN_SPLIT_CLAIMS, TaskBatching


def ended(call: "asyncio.Future[Any]") -> Any:
    return call.exception() or call.result()


class Server:
    """Answers a batch on demand, and records what was sent, abandoned and left unanswered."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.abandoned: list[int] = []
        self.unanswered: list[int] = []
        self.free = asyncio.Event()
        self.error: BaseException | None = None
        self.commit: TaskBatching[int, int] = TaskBatching(
            self.start, partial(Batch, self.unanswered), self.abandoned.append
        )

    def start(self, claims: Any, done: Callable[[Any], None]) -> None:
        self.batches.append(claims)
        call = asyncio.ensure_future(self.run(claims))
        call.add_done_callback(lambda _: done(asyncio.CancelledError() if call.cancelled() else ended(call)))

    async def run(self, claims: list[int]) -> list[int]:
        await self.free.wait()
        if self.error is not None:
            raise self.error
        return [-claim for claim in claims]

    async def ask(self, claim: int) -> int:
        return await self.commit.send(claim)


async def settled(*tasks: "asyncio.Task[int]") -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def started(server: Server, *claims: int) -> "list[asyncio.Task[int]]":
    """Tasks that have asked, each after the one before; the first is under way."""
    tasks = []
    for claim in claims:
        tasks.append(asyncio.create_task(server.ask(claim)))
        for _ in range(3):
            await asyncio.sleep(0)
    return tasks


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, 10))


def test_claims_queue_while_a_batch_is_in_flight() -> None:
    """The first claim is sent at once, the later ones in one call after it; each gets its own result."""

    async def many() -> tuple[list[list[int]], list[int]]:
        server = Server()
        tasks = await started(server, 1, 2, 3, 4)
        server.free.set()
        answers = await settled(*tasks)
        return server.batches, answers

    assert run(many()) == ([[1], [2, 3, 4]], [-1, -2, -3, -4])


def test_batches_have_a_maximum_size() -> None:
    """No call has more claims than MAX_BATCH_CLAIMS."""

    async def many() -> list[int]:
        server = Server()
        server.free.set()
        await asyncio.gather(*(server.ask(number) for number in range(300)))
        return [len(batch) for batch in server.batches]

    assert run(many()) == [MAX_BATCH_CLAIMS, MAX_BATCH_CLAIMS, 300 - 2 * MAX_BATCH_CLAIMS]


def test_a_large_first_batch_is_split() -> None:
    """The second half is sent when the first returns, before its callers go on."""

    async def many() -> tuple[list[int], int]:
        server = Server()
        server.free.set()

        async def caller(number: int) -> int:
            await server.ask(number)
            return len(server.batches)

        sent = await asyncio.gather(*(caller(number) for number in range(MIN_SPLIT_CLAIMS)))
        return [len(batch) for batch in server.batches], sent[0]

    assert run(many()) == ([MIN_SPLIT_CLAIMS // 2, MIN_SPLIT_CLAIMS // 2], 2)


@pytest.mark.parametrize("tasks", [MIN_BALANCED_CLAIMS, MIN_SPLIT_CLAIMS, 2 * MIN_SPLIT_CLAIMS])
def test_tasks_that_claim_again_travel_in_two_halves(tasks: int) -> None:
    """Whatever the sizes of the first batches were, both halves have as many claims in the end."""

    async def many() -> list[int]:
        server = Server()

        async def caller(number: int) -> None:
            for _ in range(4):
                await server.ask(number)

        callers = [asyncio.create_task(caller(0))]
        for _ in range(3):
            await asyncio.sleep(0)
        callers += [asyncio.create_task(caller(number)) for number in range(1, tasks)]
        await asyncio.sleep(0)
        server.free.set()
        await asyncio.gather(*callers)
        return [len(batch) for batch in server.batches]

    sizes = run(many())

    # The first task is alone, and all others wait meanwhile: they may never claim again.
    assert sizes[:3] == [1, tasks - 1, 1]
    assert set(sizes[3:-1]) == {tasks // 2}


def test_claims_cancelled_in_the_queue_are_dropped() -> None:
    """A claim that is cancelled before it is sent is never sent."""

    async def cancelled() -> tuple[list[list[int]], list[int]]:
        server = Server()
        tasks = await started(server, 1, 2, 3)
        tasks[1].cancel()
        server.free.set()
        await settled(*tasks)
        return server.batches, server.abandoned

    assert run(cancelled()) == ([[1], [3]], [])


def test_results_of_cancelled_callers_are_abandoned() -> None:
    """The result of a cancelled claim is abandoned; the other claims of its batch get theirs."""

    async def cancelled() -> tuple[list[Any], list[int], list[int]]:
        server = Server()
        tasks = await started(server, 1, 2)
        tasks[0].cancel()
        await asyncio.sleep(0)
        server.free.set()
        cancelled, answer = await settled(*tasks)
        return [type(cancelled), answer], server.abandoned, server.unanswered

    assert run(cancelled()) == ([asyncio.CancelledError, -2], [-1], [])


def test_a_failed_call_fails_the_queue() -> None:
    """Queued claims fail with the batch, each with its own exception; the next claim is sent."""

    async def failing() -> tuple[Any, ...]:
        server = Server()
        tasks = await started(server, 1, 2, 3)
        server.error = BackendUnavailable("no answer")
        server.free.set()
        errors = await settled(*tasks)
        server.error = None
        return [str(error) for error in errors], len(set(map(id, errors))), server.unanswered, await server.ask(4)

    assert run(failing()) == (["no answer"] * 3, 3, [1], -4)


def test_a_cancelled_sender_fails_its_claims() -> None:
    """If the sender is cancelled or `run` has a bug, waiting claims get BackendUnavailable."""

    async def broken() -> list[str]:
        server = Server()
        tasks = await started(server, 1, 2)
        server.error = asyncio.CancelledError()
        server.free.set()
        return [type(error).__name__ for error in await settled(*tasks)]

    assert run(broken()) == ["BackendUnavailable", "BackendUnavailable"]


def test_a_lone_caller_does_not_wait_for_others() -> None:
    """After a batch of one claim, the next claim is sent before its caller suspends."""

    async def alone() -> list[list[int]]:
        server = Server()
        server.free.set()
        await server.ask(1)
        asking = server.ask(2)
        asking.send(None)
        sent = [*server.batches]
        asking.close()
        return sent

    assert run(alone()) == [[1], [2]]


def test_a_bug_fails_the_claims_of_its_batch() -> None:
    """If the replies cannot be read, the error is raised where it can be seen, and nobody waits for ever."""

    async def broken() -> tuple[list[str], list[str]]:
        server, seen = Server(), list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(repr(context["exception"])))
        server.commit._prepare = lambda claims: Broken(server.unanswered, claims)
        tasks = await started(server, 1, 2)
        server.free.set()
        errors = await settled(*tasks)
        return [type(error).__name__ for error in errors], seen

    assert run(broken()) == (["BackendUnavailable"] * 2, ["ZeroDivisionError('division by zero')"] * 2)


def test_a_caller_that_exits_ends_the_loop_but_no_other_call() -> None:
    """If a task raises SystemExit when it gets its result, the others of its batch get theirs, and the loop ends."""
    got: list[int] = []

    async def caller(server: Server, number: int) -> None:
        answer = await server.ask(number)
        if number == 2:
            sys.exit(3)
        got.append(answer)

    async def main() -> None:
        server = Server()
        server.free.set()
        tasks = [asyncio.create_task(caller(server, number)) for number in (1, 2, 3)]
        try:
            await asyncio.sleep(10)
        finally:
            # Its exception is known already.
            tasks[1].exception()

    with pytest.raises(SystemExit, match="3"):
        asyncio.run(main())
    assert got == [-1, -3]


class Broken(Batch):
    def results(self, replies: Any) -> Any:
        return [1 / 0 for _ in replies]


@pytest.mark.parametrize("seed", range(5))
def test_random_cancellations_lose_no_result(seed: int) -> None:
    """Every sent claim is either answered or abandoned, whenever its caller is cancelled."""
    import random

    dice = random.Random(seed)

    async def storm() -> tuple[list[int], list[int]]:
        server = Server()
        server.free.set()
        tasks = []
        for number in range(1, 500):
            tasks.append(asyncio.create_task(server.ask(number)))
            if dice.random() < 0.3:
                dice.choice(tasks).cancel()
            if dice.random() < 0.2:
                await asyncio.sleep(0)
        answers = await settled(*tasks)
        got = [-answer for answer in answers if isinstance(answer, int)]
        sent = [claim for batch in server.batches for claim in batch]
        return sorted(sent), sorted(got + [-answer for answer in server.abandoned])

    sent, settled_ = run(storm())
    assert sent == settled_
