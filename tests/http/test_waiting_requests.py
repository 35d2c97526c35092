"""Requests that wait for room in a gate: `Rule(wait_ms=..., max_waiting=...)`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from awx_ratelimit import AsyncGate, AsyncLimiter, Caller, MemoryBackend, Plan, PlanTable, Request, Rule
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("p", per_second=1)
pytestmark = pytest.mark.anyio


class Waiters:
    """Requests through a gate, each with a key of its own or one of others."""

    def __init__(self, *rules: Rule) -> None:
        self.clock = ManualClock(1_000_000)
        self.gate = AsyncGate(
            AsyncLimiter(MemoryBackend(clock=self.clock)),
            plans=PlanTable([PLAN], default="p"),
            identify=lambda request: Caller(request.header("x-api-key") or "nobody"),
            rules=rules,
        )
        self.tasks: list[asyncio.Task[Any]] = []
        self.statuses: list[tuple[str, int]] = []

    async def send(self, name: str, path: str = "/wait") -> None:
        """Start a request with the key that is the first letter of `name`, and run it until it waits or ends."""
        request = Request(
            "GET", path, "192.0.2.1", lambda header: [name[:1].encode()] if header == b"x-api-key" else []
        )

        async def run() -> None:
            admission = await self.gate.admit(request)
            self.statuses.append((name, admission.reply.status if admission.reply else 200))

        self.tasks.append(asyncio.create_task(run()))
        await until_idle()

    async def advance(self, ms: int) -> None:
        self.clock.advance(ms)
        await until_idle()


async def until_idle() -> None:
    """Let all tasks run until they sleep."""
    for _ in range(40):
        await asyncio.sleep(0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def waiters() -> AsyncIterator[Waiters]:
    made = Waiters(Rule("/wait", wait_ms=2_000, max_waiting=2))
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_first_come_first_served(waiters: Waiters) -> None:
    """A request waits as long as its refusal would say, and is admitted in the order of arrival."""
    for name in ("a1", "a2", "a3"):
        await waiters.send(name)
    before = [*waiters.statuses]
    await waiters.advance(1_000)
    after_a_second = [*waiters.statuses]
    await waiters.advance(1_000)

    assert before == [("a1", 200)]
    assert after_a_second == [("a1", 200), ("a2", 200)]
    assert waiters.statuses == [("a1", 200), ("a2", 200), ("a3", 200)]


async def test_no_more_than_the_bound(waiters: Waiters) -> None:
    """No more than `max_waiting` requests of a rule wait, whoever sends them; another is refused at once."""
    for name in ("a1", "b1", "c1", "a2", "b2", "c2"):
        await waiters.send(name)

    assert waiters.statuses == [("a1", 200), ("b1", 200), ("c1", 200), ("c2", 429)]


async def test_beyond_the_deadline(waiters: Waiters) -> None:
    """A request that would have to wait longer than `wait_ms` is refused at once."""
    other = Waiters(Rule("/wait", wait_ms=999, max_waiting=2))
    for name in ("a1", "a2"):
        await other.send(name)

    assert other.statuses == [("a1", 200), ("a2", 429)]


async def test_cancelled_request(waiters: Waiters) -> None:
    """A request whose client hangs up while it waits leaves its place to another."""
    for name in ("a1", "b1", "a2", "b2"):
        await waiters.send(name)
    waiters.tasks[2].cancel()
    await until_idle()

    await waiters.send("a3")
    await waiters.advance(1_000)

    assert sorted(waiters.statuses) == [("a1", 200), ("a3", 200), ("b1", 200), ("b2", 200)]


SHARED = Plan.of("shared", per_second=2)
FOR_ALL: Any = {"budget": "all", "plan": SHARED, "per": "everyone"}


async def test_callers_of_a_shared_budget_in_order() -> None:
    """Requests of different callers that wait for the budget of everyone are admitted in the order of arrival."""
    made = Waiters(Rule("/wait", wait_ms=60_000, **FOR_ALL))
    for name in "abcdefgh":
        await made.send(name)
    for _ in range(6):
        await made.advance(500)

    assert made.statuses == [(name, 200) for name in "abcdefgh"]


async def test_full_queue_is_not_overtaken() -> None:
    """A request that finds the queue full is refused, although it came in the moment in which there is room again."""
    made = Waiters(Rule("/wait", wait_ms=60_000, max_waiting=2, **FOR_ALL))
    for name in "abcd":
        await made.send(name)
    made.clock._now_ms += 500
    await made.send("newcomer")
    await made.advance(0)
    await made.advance(500)

    assert made.statuses == [("a", 200), ("b", 200), ("newcomer", 429), ("c", 200), ("d", 200)]


async def test_ambiguous_paths_share_the_queue() -> None:
    """Requests that two rules may be meant for wait in the queues of both."""
    made = Waiters(
        Rule("/wait/**", budget="wait", plan=Plan.of("wide", per_second=99), wait_ms=5_000, max_waiting=2),
        Rule("/other/**", wait_ms=5_000, max_waiting=9, **FOR_ALL),
    )
    for name in ("a1", "b1", "c1", "a2"):
        await made.send(name, "/wait")
    for name in ("b2", "c2"):
        await made.send(name, "/wait/../other")
    before = [*made.statuses]
    await made.advance(1_000)

    assert before == [("a1", 200), ("b1", 200), ("c1", 200), ("c2", 429)]
    assert sorted(made.statuses[4:]) == [("a2", 200), ("b2", 200)]


async def test_other_rules_do_not_wait(waiters: Waiters) -> None:
    """Requests of rules without `wait_ms` are refused at once."""
    for name in ("a1", "a2"):
        await waiters.send(name, "/other")

    assert waiters.statuses == [("a1", 200), ("a2", 429)]
