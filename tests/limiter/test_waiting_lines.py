"""Lines of waiting claims: event loops that do not run, shared limits, full queues, and interruptions."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from tests.interruptions import every_interruption

from awx_ratelimit import AsyncLimiter, Budget, Concurrency, Decision, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.core.joint_claim import acquired_jointly
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.waiting import lines
from awx_ratelimit.waiting.lines import TURN_MS

SECOND = Plan.of("second", per_second=1)
TEN = Plan.of("ten", per_second=10)
MANY = Plan.of("many", per_second=1_000)
SLOT = Plan.of("slot", concurrent=1)


class Loops:
    """Two event loops over one backend with a manual clock. A loop runs only in `run`, until all its tasks sleep."""

    def __init__(self) -> None:
        self.clock = ManualClock(1_000)
        self.backend = MemoryBackend(clock=self.clock)
        self.limiter = AsyncLimiter(self.backend)
        self.loops = asyncio.new_event_loop(), asyncio.new_event_loop()
        #: By the name of a claim: its decision and when it came.
        self.ended: dict[Any, tuple[Decision, int]] = {}
        self.tasks: dict[Any, asyncio.Task[Any]] = {}

    def start(self, name: Any, claim: Coroutine[Any, Any, Decision], loop: int = 0) -> None:
        """Start a claim, and run its loop."""

        async def run() -> None:
            decision = await claim
            self.ended[name] = decision, self.clock.now_ms()

        self.tasks[name] = self.loops[loop].create_task(run())
        self.run(loop)

    def wait(self, name: Any, wait_ms: int, loop: int = 0, plan: Plan = SECOND, **terms: Any) -> None:
        self.start(name, self.limiter.acquire("s", plan, wait_ms=wait_ms, **terms), loop)

    def run(self, loop: int = 0) -> None:
        self.loops[loop].run_until_complete(_until_idle())

    def advance(self, ms: int, *loops: int) -> None:
        """Let time pass from one alarm to the next, in which only these loops run; the first one by default."""
        until_ms = self.clock.now_ms() + ms
        while self.clock.now_ms() < until_ms:
            self.clock.set(min([until_ms, *(at_ms for at_ms, _ in self.clock._alarms.values())]))
            for loop in loops or (0,):
                self.run(loop)

    def admitted(self) -> list[Any]:
        return [name for name, (decision, _) in self.ended.items() if decision.allowed]

    def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
            task.get_loop().run_until_complete(asyncio.gather(task, return_exceptions=True))
        for loop in self.loops:
            loop.close()


async def _until_idle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
def rig() -> Iterator[Loops]:
    rig = Loops()
    yield rig
    rig.close()
    assert (len(rig.limiter.lines), rig.limiter.lines.by_bucket, rig.limiter.lines._queues) == (0, {}, {})


def first(rig: Loops, plan: Plan = SECOND) -> None:
    """Take all tokens."""
    rig.start("first", rig.limiter.acquire("s", plan, plan.max_cost or 1))


def test_stopped_loop_delays_by_one_turn(rig: Loops) -> None:
    """A claim whose loop does not run delays the next one by one turn, and claims when its loop runs again."""
    first(rig)
    rig.wait("stopped", 60_000, loop=1)
    rig.wait("a", 60_000)
    rig.advance(1_000 + TURN_MS)
    early = rig.admitted()
    rig.advance(TURN_MS)
    on_time = rig.admitted()
    rig.advance(1_000, 0, 1)

    assert early == ["first"]
    assert on_time == ["first", "a"]
    assert rig.admitted() == ["first", "a", "stopped"]


def test_stopped_loop_with_many_claims(rig: Loops) -> None:
    """Claims that come when a whole loop has stopped wait one turn for all of its claims together."""
    first(rig)
    for number in range(20):
        rig.wait(number, 60_000, loop=1)
    rig.advance(30_000)
    rig.wait("a", 60_000)
    rig.advance(TURN_MS)

    assert rig.admitted() == ["first", "a"]


@pytest.mark.parametrize("wait_ms", [20, 1_000])
def test_stopped_loop_and_a_near_deadline(rig: Loops, wait_ms: int) -> None:
    """A claim behind one whose loop does not run is admitted at its deadline at the latest."""
    first(rig)
    rig.wait("stopped", 60_000, loop=1)
    rig.advance(5_000)
    rig.wait("a", wait_ms)
    rig.advance(wait_ms)

    decision, at_ms = rig.ended["a"]
    assert decision.allowed is True
    assert at_ms - 6_000 == min(wait_ms, TURN_MS)


def test_closed_loop(rig: Loops) -> None:
    """A claim whose loop has closed loses its place."""
    first(rig)
    rig.wait("closed", 60_000, loop=1)
    rig.loops[1].close()
    task = rig.tasks.pop("closed")
    rig.advance(5_000)
    rig.wait("a", 60_000)
    rig.run()

    assert rig.admitted() == ["first", "a"]
    assert len(rig.limiter.lines) == 0
    assert task.done() is False


def test_closed_loop_that_waits_for_a_slot(rig: Loops) -> None:
    """A slot that comes back goes to the first claim whose loop has not closed, even if that one waits only shortly."""
    first(rig, SLOT)
    for number in range(3):
        rig.wait(number, 60_000, loop=1, plan=SLOT)
    tasks = [rig.tasks.pop(number) for number in range(3)]
    rig.loops[1].close()
    rig.loops[0].run_until_complete(rig.limiter.release(rig.ended["first"][0]))
    rig.wait("a", 10, plan=SLOT)
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    assert rig.admitted() == ["first", "a"]
    assert len(rig.limiter.lines) == 0


def test_stopped_loop_that_waits_for_a_slot(rig: Loops) -> None:
    """A released slot that the first in line does not take goes to the next one."""
    rig.start("held", rig.limiter.acquire("s", SLOT))
    for name, loop in (("stopped", 1), ("a", 0)):
        rig.wait(name, 60_000, loop, SLOT)
    rig.limiter.give_back(rig.ended["held"][0])
    rig.run()
    rig.advance(2 * TURN_MS)

    assert rig.admitted() == ["held", "a"]


def test_no_claim_ends_after_its_deadline(rig: Loops) -> None:
    """A claim that others are ahead of is refused at its deadline by a decision about itself."""
    first(rig, TEN)
    rig.wait("large", 60_000, plan=TEN, cost=10)
    rig.wait("a", 1_100, plan=TEN)
    for _ in range(10):
        rig.advance(100)
        rig.start("other", rig.limiter.acquire("s", TEN))
    rig.advance(100)

    decision, at_ms = rig.ended["a"]
    assert decision.allowed is False
    assert (decision.subject, decision.cost) == ("s", 1)
    assert at_ms <= 2_100
    assert decision.decided_at_ms == at_ms


def test_shared_budget_admits_in_order(rig: Loops) -> None:
    """Claims of different keys that wait for the limit of one account are admitted in the order in which they came."""
    also = [Budget("acme", SECOND, "account")]
    for number in range(6):
        rig.start(number, rig.limiter.acquire(f"key_{number % 3}", TEN, 1 + number % 2, also=also, wait_ms=60_000))
    rig.advance(20_000)

    assert rig.admitted() == [0, 2, 4]
    assert 1 not in rig.admitted()


def test_claim_that_waits_for_its_own_limit_holds_up_nobody(rig: Loops) -> None:
    """A claim that must wait longer for its own key lets others have the limit that they share."""
    also = [Budget("acme", TEN, "account")]
    slow = Plan.of("slow", per_minute=1)
    rig.start(0, rig.limiter.acquire("key_1", slow, also=also))
    rig.start("slow", rig.limiter.acquire("key_1", slow, also=also, wait_ms=10**6))
    rig.start(1, rig.limiter.acquire("key_2", MANY, 9, also=also))
    rig.start(2, rig.limiter.acquire("key_2", MANY, also=also, wait_ms=10**6))
    rig.advance(100)

    assert rig.admitted() == [0, 1, 2]
    rig.advance(60_000)
    assert rig.admitted() == [0, 1, 2, "slow"]


def test_claim_moves_to_the_line_of_another_limit(rig: Loops) -> None:
    """A claim that another limit refuses at its turn waits there, in its order of arrival, and the next goes on."""
    also, two = [Budget("acme", SECOND, "account")], Plan.of("two", per_second=2)
    for name, key in ((0, "key_1"), ("a", "key_1"), ("b", "key_2")):
        rig.start(name, rig.limiter.acquire(key, two, also=also, wait_ms=10**6))
    rig.clock._now_ms += 999
    rig.start("of its own limit", rig.limiter.acquire("key_1", two, 2))
    rig.advance(20_000)

    assert rig.ended["b"][1] == 2_000
    assert rig.ended["a"][1] == 3_000


def joint(limiter: AsyncLimiter, key: str, queue: lines.Queue) -> Coroutine[Any, Any, Decision]:
    """A claim of a key and of a limit for everyone, which may wait in a queue."""
    claim = acquired_jointly(key, MANY, 1, None, [Budget("all", SECOND, "all")])
    return limiter.claim_jointly(claim, 10_000, [queue])


def test_full_queue_is_not_overtaken(rig: Loops) -> None:
    """A claim that finds the queue full is refused, although there is room: it is reserved for those who wait."""
    queue = lines.Queue(2)
    for number in range(3):
        rig.start(number, joint(rig.limiter, f"key_{number}", queue))
    rig.clock._now_ms += 1_000
    rig.start("newcomer", joint(rig.limiter, "key_9", queue))
    rig.advance(1)
    rig.advance(1_000)

    refusal, _ = rig.ended["newcomer"]
    assert refusal.allowed is False
    assert refusal.subject == "key_9"
    assert rig.admitted() == [0, 1, 2]


def test_refusal_of_a_full_queue_counts_the_queue(rig: Loops) -> None:
    """The wait in the refusal of a full queue is the time until those who wait have been admitted, and this one."""
    queue = lines.Queue(3)
    for number in range(5):
        rig.start(number, joint(rig.limiter, f"key_{number}", queue))

    refusal, _ = rig.ended[4]
    assert refusal.retry_after_ms == 4_000
    assert [usage.remaining for usage in refusal.usages if usage.refused] == [0]


def test_full_queue_of_others(rig: Loops) -> None:
    """A claim that finds the queue full of claims for other limits is decided at once."""
    queue = lines.Queue(1)
    for number in range(2):
        rig.start(number, joint(rig.limiter, "key_1", queue))
    other = acquired_jointly("key_2", MANY, 1, None, [Budget("other", SECOND, "all")])
    rig.start("other", rig.limiter.claim_jointly(other, 10_000, [queue]))

    assert rig.admitted() == [0, "other"]


def test_queue_counts_only_those_who_wait(rig: Loops) -> None:
    """A claim that is admitted at once takes no place in a queue, even while it is decided."""
    queue, decided = lines.Queue(1), list[Decision]()
    acquire = rig.limiter.backend.acquire_joint

    async def slow(claim: Any) -> Decision:
        await asyncio.sleep(0)
        decided.append(await acquire(claim))
        return decided[-1]

    rig.limiter.backend.acquire_joint = slow  # type: ignore[method-assign]

    async def both() -> Decision:
        claims = [acquired_jointly(key, MANY, 1, None, [Budget("all", TEN, "all")]) for key in "ab"]
        _, second = await asyncio.gather(*(rig.limiter.claim_jointly(claim, 1_000, [queue]) for claim in claims))
        return second

    rig.start("second", both())

    assert [decision.allowed for decision in decided] == [True, True]


def test_release_before_the_claim_stands_in_line(rig: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that comes back between the refusal and the wait is not missed."""
    rig.start("held", rig.limiter.acquire("s", SLOT))
    stand = lines.WaitingLines.stand

    def late(self: Any, *args: Any) -> bool:
        rig.limiter.give_back(rig.ended["held"][0])
        return stand(self, *args)

    monkeypatch.setattr(lines.WaitingLines, "stand", late)
    rig.wait("a", 60_000, plan=SLOT)

    assert rig.admitted() == ["held", "a"]


def test_listener_that_exits_wakes_those_who_wait(rig: Loops) -> None:
    """A slot that comes back because a listener raised KeyboardInterrupt goes to the first that waits."""
    held = Limiter(rig.backend).acquire("s", SLOT)
    rig.wait("a", 60_000, plan=SLOT)

    def exit_once(decision: Decision) -> None:
        raise KeyboardInterrupt

    claims: list[Any] = [
        lambda limiter: limiter.acquire("s", SLOT),
        lambda limiter: limiter.acquire("s", SLOT, settle=True),
        lambda limiter: limiter.claim("s", SLOT, 1),
        lambda limiter: limiter.claim_jointly(acquired_jointly("s", SLOT, 1, None, ())),
    ]
    for number, claim in enumerate(claims):
        rig.backend.release(held)
        with pytest.raises(KeyboardInterrupt):
            claim(Limiter(rig.backend, listeners=[exit_once]))
        rig.run()
        assert rig.tasks["a"].done() is True, f"claim {number} has woken nobody"
        held, _ = rig.ended.pop("a")
        rig.wait("a", 60_000, plan=SLOT)
    Limiter(rig.backend).release(held)


@pytest.mark.parametrize("where", ["stand", "refused", "listener"])
def test_interrupted_claims_leave_nothing(rig: Loops, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """An exception at any step of a wait leaves neither a place nor a slot."""
    limiter = Limiter(rig.backend)

    def interrupted(line: list[Any], place: Any, **_: Any) -> None:
        line.append(place)
        raise KeyboardInterrupt

    def exiting(*_: Any) -> None:
        raise KeyboardInterrupt

    if where == "stand":
        limiter.acquire("s", SLOT)
        monkeypatch.setattr(lines, "insort", interrupted)
    elif where == "refused":
        monkeypatch.setattr(limiter.shadow, "count", exiting)
    else:
        limiter = Limiter(rig.backend, listeners=[exiting])
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("s", SLOT, wait_ms=60_000)
    monkeypatch.undo()

    assert len(limiter.lines) == 0
    assert limiter.lines.by_bucket == {}
    assert limiter.peek("s", SLOT).allowed is (where != "stand")


class PassingClock(ManualClock):
    """A clock that reaches each alarm at once."""

    def call_at(self, at_ms: int, function: Callable[[], None]) -> Callable[[], None]:
        self._now_ms = max(self._now_ms, at_ms)
        return super().call_at(at_ms, function)


@pytest.mark.parametrize("at_instructions", [False, True])
def test_signals_during_a_wait(at_instructions: bool) -> None:
    """A signal handler that raises at any moment of a wait leaves no place, no alarm and no slot."""
    plan = Plan("p", (Rate("second", 1, 1_000),), Concurrency(2))
    for interruption in every_interruption(at_instructions=at_instructions):
        clock, decision = PassingClock(1_000), None
        limiter = Limiter(MemoryBackend(clock=clock))
        limiter.release(limiter.acquire("s", plan))
        with interruption.raising():
            decision = limiter.acquire("s", plan, wait_ms=5_000)
        place = f"interruption {interruption.number}"

        assert (len(limiter.lines), limiter.lines.by_bucket, limiter.lines._queues) == (0, {}, {}), place
        assert clock.alarms == 0, place
        assert limiter.health()["leases"] == (decision is not None), place


class Arrival:
    """What a random claim is, and how it ended."""

    def __init__(self, rig: Loops, name: int, dice: random.Random) -> None:
        self.name = name
        self.loop = dice.randrange(2)
        self.kind = f"key_{dice.randrange(2)}", dice.choice((1, 1, 2)), dice.random() < 0.4
        self.came_ms = rig.clock.now_ms()
        self.until_ms = self.came_ms + dice.choice((20, 400, 1_500, 4_000))
        key, cost, shares = self.kind
        account = Budget("acme", ACCOUNT if shares else ACCOUNT_SLOTS, "account")
        self.claim = rig.limiter.acquire(key, KEY, cost, also=[account], wait_ms=self.until_ms - self.came_ms)


KEY = Plan.of("key", per_second=4)
ACCOUNT = Plan.of("account", per_second=5)
ACCOUNT_SLOTS = Plan.of("account_slots", per_second=5, concurrent=3)


@pytest.mark.parametrize("seed", [0, 145, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 2, 3))])
def test_random_claims(rig: Loops, seed: int) -> None:
    """Equal claims end in order, none after its deadline, and nothing is left, with cancellations and stopped loops."""
    dice, arrivals, held, stopped_ms = random.Random(seed), dict[int, Arrival](), list[Decision](), 0
    may_stop, cancelled = seed % 2 == 1, set[int]()
    for name in range(150):
        arrival = arrivals[name] = Arrival(rig, name, dice)
        if arrival.loop == 0 or rig.clock.now_ms() >= stopped_ms:
            rig.start(name, arrival.claim, arrival.loop)
        else:
            arrival.claim.close()
            del arrivals[name]
        if may_stop and dice.random() < 0.05:
            stopped_ms = rig.clock.now_ms() + dice.choice((30, 300, 2_000))
        if dice.random() < 0.1 and arrivals:
            victim = dice.choice([*arrivals])
            cancelled |= {victim} if rig.tasks[victim].cancel() else set()
        held += [rig.ended[each][0] for each in (name,) if each in rig.ended]
        if dice.random() < 0.5 and held:
            rig.limiter.give_back(held.pop(dice.randrange(len(held))))
        step(rig, dice.choice((0, 1, 30, 120, 400)), stopped_ms, held)
    step(rig, 20_000, stopped_ms, held)

    assert {*rig.ended} | cancelled == {*arrivals}
    check(rig, [arrivals[name] for name in rig.ended], everywhere=not may_stop)
    for decision, _ in rig.ended.values():
        rig.limiter.give_back(decision)
    assert rig.backend.health()["leases"] == 0
    assert rig.clock.alarms == 0


def step(rig: Loops, ms: int, stopped_ms: int, held: list[Decision]) -> None:
    """Let time pass, in which slots come back, and the second loop does not run before `stopped_ms`."""
    until_ms = rig.clock.now_ms() + ms
    while rig.clock.now_ms() < until_ms:
        before = len(rig.ended)
        rig.advance(min(10, until_ms - rig.clock.now_ms()), *((0, 1) if rig.clock.now_ms() >= stopped_ms else (0,)))
        held += [decision for decision, _ in [*rig.ended.values()][before:] if decision.lease]
        if held and rig.clock.now_ms() % 3 == 0:
            rig.limiter.give_back(held.pop(0))


def check(rig: Loops, ended: list[Arrival], *, everywhere: bool) -> None:
    admitted = 0
    for arrival in ended:
        decision, at_ms = rig.ended[arrival.name]
        admitted += decision.allowed and at_ms > arrival.came_ms
        if everywhere or arrival.loop == 0:
            assert at_ms <= arrival.until_ms, f"{arrival.name} ended after its deadline"
        for later in ended:
            is_equal = later.kind == arrival.kind and (everywhere or later.loop == arrival.loop)
            if is_equal and later.name > arrival.name and rig.ended[later.name][0].allowed:
                assert at_ms <= rig.ended[later.name][1], f"{later.name} has overtaken {arrival.name}"
    assert admitted > 15, "too few claims have waited"
