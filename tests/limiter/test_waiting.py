"""Claims that wait for room: law 17, in tasks, in threads and in both."""

import asyncio
import gc
import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from tests.machine import eventually, timed
from tests.processes import FORK_PARAMETERS, in_child

from awx_ratelimit import (
    AsyncLimiter,
    BackendUnavailable,
    Budget,
    Concurrency,
    Decision,
    ImpossibleClaim,
    Limiter,
    MemoryBackend,
    Plan,
    Rate,
)
from awx_ratelimit.backends.base import OTHER_VERBS
from awx_ratelimit.core.joint_claim import acquired_jointly
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.waiting import lines

SECOND = Plan.of("second", per_second=1)
TEN = Plan.of("ten", per_second=10)
SLOT = Plan.of("slot", concurrent=1)


class Rig:
    """A limiter over a backend with a manual clock, and the claims that wait in it."""

    def __init__(self, backend: MemoryBackend | None = None) -> None:
        self.clock = ManualClock(1_000)
        self.backend = backend or MemoryBackend(clock=self.clock)
        self.limiter = AsyncLimiter(self.backend)
        self.admitted: list[Any] = []
        self.refused: list[Any] = []
        self.tasks: dict[Any, asyncio.Task[Any]] = {}

    async def wait(self, name: Any, plan: Plan = SECOND, wait_ms: int = 10**6, **terms: Any) -> None:
        """Start a claim that waits, and run it until it sleeps or ends."""

        async def run() -> None:
            decision = await self.limiter.acquire("s", plan, wait_ms=wait_ms, **terms)
            (self.admitted if decision.allowed else self.refused).append(name)

        self.tasks[name] = asyncio.create_task(run())
        await until_idle()

    async def advance(self, ms: int) -> None:
        self.clock.advance(ms)
        await until_idle()

    def leftovers(self) -> tuple[int, int, int]:
        """What is left of claims that waited: places, records and alarms."""
        waiting = lines.lines_of(self.backend)
        return len(waiting), len(waiting.by_bucket), self.clock.alarms


async def until_idle() -> None:
    """Let all tasks run until they sleep."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    for task in rig.tasks.values():
        task.cancel()
    await asyncio.gather(*rig.tasks.values(), return_exceptions=True)
    assert rig.leftovers() == (0, 0, 0)


pytestmark = pytest.mark.anyio


async def test_waits_as_long_as_the_refusal_says(rig: Rig) -> None:
    """A claim waits exactly for the wait of its refusal, and a shorter time is not enough."""
    await rig.limiter.acquire("s", SECOND)
    await rig.wait("a")
    await rig.advance(999)
    early = [*rig.admitted]
    await rig.advance(1)

    assert early == []
    assert rig.admitted == ["a"]


@pytest.mark.parametrize(("wait_ms", "waits"), [(999, False), (1_000, True)])
async def test_refused_at_once_beyond_the_deadline(rig: Rig, wait_ms: int, waits: bool) -> None:
    """A claim whose next wait would end after its deadline is refused at once; at the deadline, it waits."""
    await rig.limiter.acquire("s", SECOND)
    await rig.wait("a", wait_ms=wait_ms)
    refused = [*rig.refused]
    await rig.advance(1_000)

    assert refused == ([] if waits else ["a"])
    assert rig.admitted == (["a"] if waits else [])


async def test_claims_again_until_the_deadline(rig: Rig) -> None:
    """A claim whose tokens others took claims again, and is refused once the next wait would be too long."""
    await rig.limiter.acquire("s", SECOND)
    await rig.wait("a", wait_ms=2_500)
    for _ in range(2):
        rig.clock._now_ms += 1_000
        assert (await rig.limiter.acquire("s", SECOND)).allowed
        await rig.advance(0)

    assert rig.refused == ["a"]
    assert rig.clock.now_ms() == 3_000


async def test_a_hundred_in_order(rig: Rig) -> None:
    """A hundred equal claims are admitted in the order in which they came, each in its own second."""
    await rig.limiter.acquire("s", SECOND)
    for number in range(100):
        await rig.wait(number)
    for second in range(100):
        await rig.advance(1_000)
        assert rig.admitted == [*range(second + 1)]


async def test_several_in_one_moment(rig: Rig) -> None:
    """All that there is room for are admitted at once, in order."""
    await rig.limiter.acquire("s", TEN, 10)
    for number in range(25):
        await rig.wait(number, TEN)
    await rig.advance(1_000)
    first = [*rig.admitted]
    await rig.advance(1_000)

    assert first == [*range(10)]
    assert rig.admitted == [*range(20)]


async def test_a_new_claim_does_not_overtake(rig: Rig) -> None:
    """A claim that comes when there is room again stands behind those who have waited."""
    await rig.limiter.acquire("s", SECOND)
    await rig.wait("a")
    rig.clock._now_ms += 1_000
    await rig.wait("b")
    assert rig.admitted == []
    await rig.advance(0)
    await rig.advance(1_000)

    assert rig.admitted == ["a", "b"]


@pytest.mark.parametrize(("wait_ms", "waits"), [(3_999, False), (4_000, True)])
async def test_place_in_the_line(rig: Rig, wait_ms: int, waits: bool) -> None:
    """A claim that would wait too long behind those ahead of it is refused at once, although its own wait is short."""
    await rig.limiter.acquire("s", SECOND)
    for number in range(3):
        await rig.wait(number)
    await rig.wait("last", wait_ms=wait_ms)

    assert rig.refused == ([] if waits else ["last"])
    for _ in range(4):
        await rig.advance(1_000)
    assert ("last" in rig.admitted) is waits


@pytest.mark.parametrize(("cost", "ahead", "days"), [(1, 0, 1), (1, 3, 1), (1, 4, 2), (1, 9, 3), (2, 2, 2), (3, 1, 2)])
async def test_place_in_the_line_of_a_calendar_rate(rig: Rig, cost: int, ahead: int, days: int) -> None:
    """A calendar rate admits its tokens in each period, and a later claim waits for a later period."""
    plan = Plan("day", (Rate("day", 4, period="day"),))
    await rig.limiter.acquire("s", plan, 4)
    for number in range(ahead):
        await rig.wait(number, plan, wait_ms=10**9, cost=cost)
    boundary_ms = 86_400_000 * days - 1_000
    await rig.wait("early", plan, wait_ms=boundary_ms - 1, cost=cost)
    await rig.wait("last", plan, wait_ms=boundary_ms, cost=cost)

    assert rig.refused == ["early"]
    for day in range(days):
        assert len(rig.admitted) == day * (4 // cost)
        rig.clock.set((rig.clock.now_ms() // 86_400_000 + 1) * 86_400_000)
        await until_idle()
    assert {*rig.admitted} == {*range(ahead), "last"}


async def test_lines_of_other_limits(rig: Rig) -> None:
    """A claim that waits for other limits stands in another line; a small one does not overtake a large one."""
    await rig.limiter.acquire("s", TEN, 10)
    await rig.wait("ten", TEN, cost=10)
    await rig.wait("one", TEN, cost=1)
    await rig.wait("other limit", Plan.of("minute", per_minute=600), cost=600)
    await rig.wait("other scope", TEN, scope="x")
    await rig.advance(100)
    first = [*rig.admitted]
    await rig.advance(900)
    await rig.advance(100)

    assert first == ["other limit", "other scope"]
    assert rig.admitted == [*first, "ten", "one"]


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_cancelled_claims_leave_nothing(rig: Rig, position: int) -> None:
    """A cancelled claim gives up its place, wherever it stands, and the others keep their order."""
    await rig.limiter.acquire("s", SECOND)
    for number in range(4):
        await rig.wait(number)
    rig.tasks[position].cancel()
    await until_idle()
    for _ in range(3):
        await rig.advance(1_000)

    assert rig.admitted == [number for number in range(4) if number != position]
    assert rig.leftovers() == (0, 0, 0)


class AsyncSlow:
    """An async backend, so that a claim can be cancelled while it is decided."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.backend = backend
        self.release = backend.release
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        if name not in ("acquire", "peek", *OTHER_VERBS):
            raise AttributeError(name)
        verb = getattr(self.backend, name)

        async def call(*args: Any) -> Any:
            for _ in range(3):
                await asyncio.sleep(0)
            if self.fails:
                raise BackendUnavailable("away")
            return verb(*args)

        return call


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_every_await(turns: int) -> None:
    """A claim that is cancelled at any moment leaves no place, takes no token, and wakes the next one."""
    clock = ManualClock(1_000)
    backend = AsyncSlow(MemoryBackend(clock=clock))
    limiter = AsyncLimiter(backend)
    for _ in range(9):
        await limiter.acquire("s", TEN)
    first, second = (asyncio.create_task(limiter.acquire("s", TEN, wait_ms=10_000)) for _ in range(2))
    for _ in range(turns):
        await asyncio.sleep(0)
    first.cancel()
    for _ in range(3):
        await until_idle()
        clock.advance(100)
    await until_idle()

    assert second.done() is True
    assert second.result().allowed
    await asyncio.gather(first, return_exceptions=True)
    assert len(limiter.lines) == 0
    assert limiter.lines.by_bucket == {}
    assert clock.alarms == 0


async def test_failing_backend_leaves_nothing() -> None:
    """If the backend fails during a wait, the claim raises its error, and so do those behind it, one by one."""
    clock = ManualClock(1_000)
    backend = AsyncSlow(MemoryBackend(clock=clock))
    limiter = AsyncLimiter(backend)
    await limiter.acquire("s", SECOND)
    tasks = [asyncio.create_task(limiter.acquire("s", SECOND, wait_ms=10_000)) for _ in range(3)]
    await until_idle()
    backend.fails = True
    clock.advance(1_000)

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [BackendUnavailable] * 3
    assert len(limiter.lines) == 0
    assert clock.alarms == 0


async def test_closed_limiter(rig: Rig) -> None:
    """When a limiter closes, its waiting claims are refused at once; those of another limiter go on."""
    other = AsyncLimiter(rig.backend)
    await rig.limiter.acquire("s", SECOND)
    for number in range(3):
        await rig.wait(number)
    going_on = asyncio.create_task(other.acquire("s", SECOND, wait_ms=10**6))
    await until_idle()
    await rig.limiter.aclose()
    await until_idle()
    refused = sorted(rig.refused)
    await rig.advance(1_000)

    assert refused == [0, 1, 2]
    assert (await going_on).allowed


@pytest.mark.parametrize("way", ["release", "give_back", "hold", "other limiter", "limited"])
async def test_a_release_wakes_the_first_that_waits_for_a_slot(rig: Rig, way: str) -> None:
    """A slot that this process gives back in any way goes to the first that waits, at once."""
    other = Limiter(rig.backend)
    hold = rig.limiter.hold("s", SLOT)
    held = await hold.__aenter__()
    for name in ("a", "b"):
        await rig.wait(name, SLOT)
    if way == "release":
        await rig.limiter.release(held)
    elif way == "give_back":
        rig.limiter.give_back(held)
    elif way == "hold":
        await hold.__aexit__(None, None, None)
    elif way == "other limiter":
        other.release(held)
    else:
        limited_release(rig.limiter, held)
    await until_idle()

    assert rig.admitted == ["a"]


def limited_release(limiter: Any, held: Decision) -> None:
    from awx_ratelimit import limited_functions

    limited_functions._release([(limiter, held)])


async def test_slot_of_another_process(rig: Rig) -> None:
    """If nobody in this process gives a slot back, the claim looks again after the estimated wait."""
    held = await rig.limiter.acquire("s", SLOT)
    await rig.wait("a", SLOT)
    rig.backend.release(held)
    await rig.advance(999)
    early = [*rig.admitted]
    await rig.advance(1)

    assert early == []
    assert rig.admitted == ["a"]


async def test_slot_of_an_account(rig: Rig) -> None:
    """A claim that waits for the slot of its account is woken by a release of another key of the account."""
    also = [Budget("acme", SLOT, scope="account")]
    held = await rig.limiter.acquire("key_2", SECOND, also=also)
    await rig.wait("a", SECOND, also=also)
    await rig.limiter.release(held)
    await until_idle()

    assert rig.admitted == ["a"]


async def test_release_does_not_wake_those_who_wait_for_tokens(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release ends no wait for tokens: the claim is decided once at its end."""
    plan = Plan("both", (Rate("second", 1, 1_000),), Concurrency(5))
    decided: list[Decision] = []
    held = await rig.limiter.acquire("s", plan)
    acquire = rig.backend.acquire

    async def counted_async(*args: Any) -> Decision:
        decided.append(acquire(*args))
        return decided[-1]

    monkeypatch.setattr(rig.limiter.backend, "acquire", counted_async)
    await rig.wait("a", plan)
    await rig.limiter.release(held)
    await until_idle()
    await rig.advance(1_000)

    assert [decision.allowed for decision in decided] == [False, True]
    assert rig.admitted == ["a"]


async def test_joint_claims_wait_together(rig: Rig) -> None:
    """Equal claims of several budgets wait in one line for the longest of their waits."""
    also = [Budget("acme", Plan.of("slow", per_minute=1), scope="account")]
    await rig.limiter.acquire("s", TEN, also=also)
    for name in ("a", "b"):
        await rig.wait(name, TEN, also=also)
    await rig.advance(60_000)
    first = [*rig.admitted]
    await rig.advance(60_000)

    assert first == ["a"]
    assert rig.admitted == ["a", "b"]


async def test_max_waiting(rig: Rig) -> None:
    """A claim is refused at once if its queue is full."""
    claim = acquired_jointly("s", SECOND, 1, "x", ())
    queue = lines.Queue(2)
    await rig.limiter.claim_jointly(claim)
    tasks = [asyncio.create_task(rig.limiter.claim_jointly(claim, 10**6, [queue])) for _ in range(3)]
    await until_idle()
    done = [task.done() for task in tasks]
    await rig.advance(1_000)
    await rig.advance(1_000)

    assert done == [False, False, True]
    assert [(await task).allowed for task in tasks] == [True, True, False]


async def test_waiting_claims_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process lets only so many claims wait for one backend, over all lines."""
    monkeypatch.setattr(lines, "MAX_WAITING", 3)
    for number in range(5):
        await rig.limiter.acquire(f"s{number}", SECOND)
    tasks = [asyncio.create_task(rig.limiter.acquire(f"s{number}", SECOND, wait_ms=5_000)) for number in range(5)]
    await until_idle()
    done = [task.done() for task in tasks]
    await rig.advance(1_000)

    assert done == [False, False, False, True, True]
    assert [(await task).allowed for task in tasks] == [True, True, True, False, False]


@pytest.mark.parametrize("wait_ms", [-1, 1.5, "5", True, None])
async def test_wrong_wait(wait_ms: Any) -> None:
    """A wait is an integer of at least 0, else a ValueError that charges nothing."""
    limiter = AsyncLimiter(MemoryBackend())
    says = re.escape("wait_ms: expected an integer >= 0")
    for terms in ({}, {"scope": "x"}, {"also": [Budget("acme", TEN, "account")]}):
        with pytest.raises(ValueError, match=says):
            await limiter.acquire("s", TEN, wait_ms=wait_ms, **terms)

    assert (await limiter.peek("s", TEN)).usages[0].remaining == 10


async def test_impossible_claims_do_not_wait() -> None:
    """A cost above a burst raises at once."""
    limiter = AsyncLimiter(MemoryBackend())
    for terms in ({}, {"scope": "x"}):
        with pytest.raises(ImpossibleClaim):
            await limiter.acquire("s", SECOND, 2, wait_ms=10**9, **terms)  # type: ignore[arg-type]


async def test_listeners_hear_one_decision() -> None:
    """Listeners hear the decision that `acquire` returns, and not the refusals before it."""
    clock, heard = ManualClock(1_000), list[Decision]()
    limiter = AsyncLimiter(MemoryBackend(clock=clock), listeners=[heard.append])
    shadow = Plan("p", (Rate("second", 1, 1_000), Rate("minute", 1, 60_000, shadow=True)))
    first = await limiter.acquire("s", shadow)
    task = asyncio.create_task(limiter.acquire("s", shadow, wait_ms=5_000))
    await until_idle()
    clock.advance(1_000)
    await until_idle()

    assert heard == [first, await task]
    assert (await limiter.health())["shadow_refusals"] == {"p": {"minute": 1}}


def wait_in_turn(threads: list[threading.Thread], limiter: Limiter, clock: ManualClock, admitted: list[int]) -> None:
    """Let the threads join one line in their order, then admit one a second until all have ended."""
    for number, thread in enumerate(threads):
        thread.start()
        assert eventually(lambda: len(limiter.lines), number + 1) == number + 1
    for number in range(len(threads)):
        # A claim that has not looked at its turn yet would be overtaken.
        assert eventually(lambda: waits_for_a_second(limiter, clock), expected=True)
        clock.advance(1_000)
        assert eventually(lambda: len(admitted), number + 1) == number + 1
    for thread in threads:
        thread.join()


def waits_for_a_second(limiter: Limiter, clock: ManualClock) -> bool:
    """Whether the first claim in the line has been refused, and waits for the next second."""
    first = next(iter(limiter.lines.by_bucket.values()))[0]
    return not first.is_claiming and first.due_ms == clock.now_ms() + 1_000


def test_threads_wait_in_order() -> None:
    """Threads wait in one line, and are admitted in order as the clock advances."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    limiter.acquire("s", SECOND)
    admitted: list[int] = []

    def wait(number: int) -> None:
        assert limiter.acquire("s", SECOND, wait_ms=10**6).allowed
        admitted.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(20)]
    wait_in_turn(threads, limiter, clock, admitted)

    assert admitted == [*range(20)]
    assert (len(limiter.lines), limiter.lines.by_bucket, clock.alarms) == (0, {}, 0)


def test_threads_and_loops_wait_in_one_line() -> None:
    """Tasks of several event loops and threads that use one backend are admitted in the order in which they came."""
    clock = ManualClock(1_000)
    backend = MemoryBackend(clock=clock)
    blocking, tasks = Limiter(backend), AsyncLimiter(backend)
    blocking.acquire("s", SECOND)
    admitted: list[int] = []

    def in_thread(number: int) -> None:
        assert blocking.acquire("s", SECOND, wait_ms=10**6).allowed
        admitted.append(number)

    def in_loop(number: int) -> None:
        async def main() -> None:
            assert (await tasks.acquire("s", SECOND, wait_ms=10**6)).allowed
            admitted.append(number)

        asyncio.run(main())

    threads = [threading.Thread(target=(in_thread, in_loop)[number % 2], args=(number,)) for number in range(8)]
    wait_in_turn(threads, blocking, clock, admitted)

    assert admitted == [*range(8)]


@pytest.mark.parametrize("waits_in", ["thread", "task"])
def test_deadline_in_real_time(waits_in: str) -> None:
    """In real time, a claim is admitted after its wait, and one whose wait is too long is refused at once."""
    backend = MemoryBackend()
    limiter, tasks = Limiter(backend), AsyncLimiter(backend)
    plan = Plan("p", (Rate("x", 1, 300),))

    def run() -> tuple[Decision, Decision]:
        if waits_in == "thread":
            return limiter.acquire("s", plan, wait_ms=400), limiter.acquire("s", plan, wait_ms=200)

        async def main() -> tuple[Decision, Decision]:
            return await tasks.acquire("s", plan, wait_ms=400), await tasks.acquire("s", plan, wait_ms=200)

        return asyncio.run(main())

    with timed() as watch:
        limiter.acquire("s", plan)
        admitted, refused = run()

    assert admitted.allowed is True
    assert refused.allowed is False
    assert 0.299 <= watch.seconds < watch.limit(0.45)


def test_trio() -> None:
    """Claims wait in tasks of trio, too: for time, and for a release."""

    async def main() -> tuple[bool, bool]:
        limiter = AsyncLimiter(MemoryBackend())
        plan = Plan("p", (Rate("x", 1, 20),))
        await limiter.acquire("s", plan)
        after_time = await limiter.acquire("s", plan, wait_ms=1_000)
        held = await limiter.acquire("s", SLOT)
        decisions: list[Decision] = []

        async def wait() -> None:
            decisions.append(await limiter.acquire("s", SLOT, wait_ms=10**7))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            while not len(limiter.lines):
                await trio.lowlevel.checkpoint()
            await limiter.release(held)
        return after_time.allowed, decisions[0].allowed

    assert trio.run(main) == (True, True)


def test_interrupted_thread() -> None:
    """A thread whose sleep is interrupted by an exception leaves nothing behind."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    limiter.acquire("s", SECOND)

    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.call_at(1_500, interrupt)
    call_at = clock.call_at

    def advancing(at_ms: int, function: Callable[[], None]) -> Any:
        cancel = call_at(at_ms, function)
        try:
            clock.advance(600)
        except BaseException:
            cancel()
            raise
        return cancel

    clock.call_at = advancing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("s", SECOND, wait_ms=5_000)

    assert (len(limiter.lines), limiter.lines.by_bucket, clock.alarms) == (0, {}, 0)


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_fork_with_waiting_claims(fork: Callable[[], int]) -> None:
    """In a child process nobody waits, and its claims are admitted."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    limiter.acquire("s", SECOND)
    thread = threading.Thread(target=limiter.acquire, args=("s", SECOND), kwargs={"wait_ms": 5_000})
    thread.start()
    assert eventually(lambda: clock.alarms, 1) == 1

    def act() -> bool:
        clock.advance(1_000)
        return limiter.acquire("s", SECOND, wait_ms=500).allowed and len(limiter.lines) == 0

    good = in_child(fork, act)
    clock.advance(1_000)
    thread.join()

    assert good is True


def test_lines_are_freed_with_their_backend() -> None:
    """The lines of a backend are freed together with it."""
    before = len(lines._LINES)
    limiter = Limiter(MemoryBackend())
    during = len(lines._LINES)
    del limiter
    gc.collect()

    assert during == before + 1
    assert len(lines._LINES) <= before
