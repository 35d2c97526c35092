"""The guard: an outage costs few calls, keeps a bounded limit, and ends by itself."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from tests.machine import eventually
from tests.processes import FORK_PARAMETERS, in_child

from awx_ratelimit import (
    AsyncLimiter,
    BackendUnavailable,
    Concurrency,
    InvalidLimit,
    Limiter,
    MemoryBackend,
    Plan,
    Rate,
)
from awx_ratelimit.backends.base import Backend, NonBlocking
from awx_ratelimit.backends.resilience.circuit_breaker import MAX_CONSECUTIVE_FAILURES
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.backends.resilience.local_share import Shares
from awx_ratelimit.core.plan import MAX_CACHED_PLANS
from awx_ratelimit.errors import StateDamaged

PLAN = Plan("p", (Rate("minute", 8, 60_000), Rate("day", 40, 86_400_000, refill="calendar")), Concurrency(4))


class Failing(MemoryBackend):
    """A backend that can be told to fail, and counts how often it was asked."""

    fails = False
    asked = 0
    damaged = False

    def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        self.asked += 1
        if self.damaged:
            raise StateDamaged("gone")
        if self.fails:
            raise BackendUnavailable("gone")
        return super().acquire(subject, plan, cost)

    def peek(self, subject: str, plan: Plan, cost: int) -> Any:
        if self.fails:
            raise BackendUnavailable("gone")
        return super().peek(subject, plan, cost)


@pytest.fixture
def backend() -> Failing:
    return Failing()


def test_a_healthy_backend_decides(backend: Failing) -> None:
    """While the backend answers, its decisions and slots pass through unchanged."""
    limiter = Limiter(GuardedBackend(backend, expected_workers=4))

    decisions = [limiter.acquire("s", PLAN) for _ in range(5)]
    limiter.release(decisions[0])

    assert [d.allowed for d in decisions] == [True] * 4 + [False]
    assert backend.peek("s", PLAN, 1).usages[-1].remaining == 1


def test_a_process_decides_its_share(backend: Failing) -> None:
    """One of four workers admits a quarter of each limit, and then refuses with a wait."""
    backend.fails = True
    limiter = Limiter(GuardedBackend(backend, expected_workers=4))
    plan = Plan("p", (Rate("minute", 8, 60_000),))

    decisions = [limiter.acquire("s", plan) for _ in range(3)]

    assert [(d.allowed, d.retry_after_ms > 29_000) for d in decisions] == [(True, False), (True, False), (False, True)]


def test_five_failures_open_the_breaker(backend: Failing, seconds: list[float]) -> None:
    """Claims then cost no call until the pause is over and one claim probes."""
    backend.fails = True
    limiter = Limiter(GuardedBackend(backend))
    for _ in range(20):
        limiter.acquire("s", PLAN)
    asked = backend.asked
    seconds[0] += 0.25
    for _ in range(3):
        limiter.acquire("s", PLAN)

    assert asked == MAX_CONSECUTIVE_FAILURES
    assert backend.asked == MAX_CONSECUTIVE_FAILURES + 1


def test_a_successful_probe_ends_the_outage(
    backend: Failing, seconds: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """The backend decides again, and both changes of state are logged once."""
    caplog.set_level(logging.WARNING, "awx_ratelimit")
    backend.fails = True
    limiter = Limiter(GuardedBackend(backend))
    during = [limiter.acquire("s", PLAN) for _ in range(8)][-1]
    state = limiter.health()["state"]
    backend.fails = False
    seconds[0] += 0.25
    after = [limiter.acquire("t", PLAN) for _ in range(2)]

    turns = [record.message.partition(",")[0] for record in caplog.records]
    assert during.plan is not PLAN
    assert [d.plan is PLAN for d in after] == [True, True]
    assert state == "outage: limits are local"
    assert limiter.health()["state"] == "ok"
    assert turns == ["the backend does not answer", "the backend answers again"]


@pytest.mark.parametrize(
    ("on_outage", "done"),
    [("local", "decided 4 claims by itself"), ("open", "allowed 4 claims"), ("closed", "refused 4 claims")],
)
def test_log_of_an_outage(
    backend: Failing, seconds: list[float], caplog: pytest.LogCaptureFixture, on_outage: Any, done: str
) -> None:
    """At its end, the log says how long it was, and what this process did with the claims since the line before."""
    caplog.set_level(logging.WARNING, "awx_ratelimit")
    backend.fails = True
    limiter = Limiter(GuardedBackend(backend, on_outage=on_outage))
    for _ in range(MAX_CONSECUTIVE_FAILURES + 3):
        with suppress(BackendUnavailable):
            limiter.acquire("s", PLAN)
    backend.fails = False
    seconds[0] += 1.5
    limiter.acquire("t", PLAN)

    assert f"the backend answers again, after 1.5 s in which this process {done}" in caplog.messages


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_log_after_a_fork(backend: Failing, seconds: list[float], caplog: pytest.LogCaptureFixture, fork: Any) -> None:
    """A child counts only its own claims."""
    caplog.set_level(logging.WARNING, "awx_ratelimit")
    backend.fails = True
    limiter = Limiter(GuardedBackend(backend))
    for _ in range(MAX_CONSECUTIVE_FAILURES + 3):
        limiter.acquire("s", PLAN)

    def child_counts_its_own() -> bool:
        limiter.acquire("s", PLAN)
        backend.fails = False
        seconds[0] += 1.5
        limiter.acquire("t", PLAN)
        return any("decided 1 claims by itself" in message for message in caplog.messages)

    assert in_child(fork, child_counts_its_own)


@pytest.mark.parametrize("who", ["health", "claim", "damaged record"])
def test_end_of_an_outage_without_traffic(
    backend: Failing, seconds: list[float], caplog: pytest.LogCaptureFixture, who: str
) -> None:
    """The log says that the backend answers again, once, whoever finds that out, however long nobody asked."""
    caplog.set_level(logging.WARNING, "awx_ratelimit")
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    backend.fails = True
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        limiter.acquire("s", PLAN)
    backend.fails = False
    seconds[0] += 30
    open_breakers = guard.outage_counts().open_breakers
    backend.damaged = who == "damaged record"
    if who == "health":
        limiter.health()
    limiter.acquire("s", PLAN)
    backend.damaged = False
    limiter.acquire("s", PLAN)

    assert open_breakers == 0
    assert [message for message in caplog.messages if "answers again" in message] == [
        "the backend answers again, after 30.0 s in which this process decided 1 claims by itself"
    ]


class TwoServers(MemoryBackend):
    """A backend with a server for each subject, of which some do not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()

    def home(self, subject: str) -> str:
        return subject

    def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        if subject in self.failing:
            raise BackendUnavailable("gone")
        return super().acquire(subject, plan, cost)


def test_log_of_two_outages(seconds: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """If two servers fail one after the other, each line counts from the failure of its server."""
    caplog.set_level(logging.WARNING, "awx_ratelimit")
    backend = TwoServers()
    limiter = Limiter(GuardedBackend(backend))
    for subject in ("a", "b"):
        backend.failing.add(subject)
        for _ in range(MAX_CONSECUTIVE_FAILURES + 2):
            limiter.acquire(subject, PLAN)
        seconds[0] += 1
    backend.failing.clear()
    seconds[0] += 1
    for subject in ("a", "b"):
        limiter.acquire(subject, PLAN)

    assert [message for message in caplog.messages if "answers again" in message] == [
        "the backend answers again, after 3.0 s in which this process decided 10 claims by itself",
        "the backend answers again, after 2.0 s in which this process decided 3 claims by itself",
    ]


def test_open_admits_everything(backend: Failing) -> None:
    """With on_outage="open" every claim is admitted; its release and refund do nothing."""
    backend.fails = True
    limiter = Limiter(GuardedBackend(backend, on_outage="open"))

    decisions = [limiter.acquire("s", PLAN) for _ in range(50)]
    limiter.release(decisions[0])
    limiter.refund(decisions[0])

    assert {d.allowed for d in decisions} == {True}
    assert {d.lease for d in decisions} == {None}


def test_closed_refuses_everything(backend: Failing, seconds: list[float]) -> None:
    """With on_outage="closed" each claim raises, and after five it costs no call."""
    backend.fails = True
    limiter = Limiter(GuardedBackend(backend, on_outage="closed"))
    for _ in range(10):
        with pytest.raises(BackendUnavailable):
            limiter.acquire("s", PLAN)

    assert backend.asked == MAX_CONSECUTIVE_FAILURES


def test_local_decisions_are_given_back_locally(backend: Failing) -> None:
    """A local decision is released and refunded locally, also after the outage."""
    backend.fails = True
    guard = GuardedBackend(backend)
    limiter = Limiter(guard)
    first = limiter.acquire("s", PLAN, 2)
    backend.fails = False
    limiter.release(first)
    limiter.refund(first)

    backend.fails = True
    assert [usage.remaining for usage in limiter.peek("s", PLAN).usages] == [8, 40, 4]


def test_a_share_fits_the_largest_claim() -> None:
    """Each of a hundred workers admits one claim of the largest cost, and refills at its share."""
    share = Shares(100).of(PLAN, 5)

    assert [(rate.burst, rate.tokens, rate.period_ms) for rate in share.rates] == [
        (5, 8, 100 * 60_000),
        (5, 5, 86_400_000),
    ]


def test_a_share_never_exceeds_its_limit() -> None:
    """A limit that is smaller than the largest claim does not grow."""
    login = Plan("login", (Rate("minute", 5, 60_000), Rate("day", 5, 86_400_000, refill="calendar")))

    assert Shares(1).of(login, 50).rates == login.rates


def test_a_share_ignores_claims_of_other_plans(backend: Failing) -> None:
    """Claims under other plans do not enlarge a share."""
    backend.fails = True
    limiter = Limiter(GuardedBackend(backend, expected_workers=5))
    limiter.acquire("s", Plan.of("uploads", per_minute=100), cost=50)
    limiter.acquire("t", Plan("login", (Rate("minute", 5, 60_000),)))

    assert not limiter.acquire("t", Plan("login", (Rate("minute", 5, 60_000),))).allowed


DECADE = Plan("p", (Rate("decade", 100, 315_360_000_000),))


class HealingBackend(Failing):
    """A backend that is told what was decided without it."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    def heal(self, owed: Any, _: bytes) -> list[Any]:
        self.told += sum(debts[0] for _, _, debts, _ in owed)
        return []


def told(backend: HealingBackend) -> int:
    """In whole tokens: of a decade a few milliseconds have passed."""
    return -(-backend.told // DECADE.rates[0].unit)


def test_claims_during_reconciliation_are_added() -> None:
    """A claim that arrives during a reconciliation is added by the next one, and nothing is added twice."""
    backend = HealingBackend()
    outage = GuardedBackend(backend)._fallback
    outage.acquire("s", DECADE, 1)
    peek = outage.local.peek_joint

    def interrupted(*claim: Any) -> Any:
        seen = peek(*claim)
        outage.acquire("s", DECADE, 1)
        return seen

    outage.local.peek_joint = interrupted  # type: ignore[method-assign, assignment]
    healing = outage.reconciliation
    for home in healing._queue_decided():
        healing._next_batch(home)
    outage.local.peek_joint = peek  # type: ignore[method-assign]
    outage.reconciliation.run(backend.heal, lambda _: None)

    assert told(backend) == 2


def test_many_outages_admit_no_more_than_one() -> None:
    """Local debts stay until they drain, also after the backend has them."""
    backend = HealingBackend()
    outage, allowed = GuardedBackend(backend, expected_workers=4)._fallback, 0

    for _ in range(5):
        allowed += sum(outage.acquire("s", DECADE, 1).allowed for _ in range(30))
        outage.reconciliation.run(backend.heal, lambda _: None)

    assert allowed == 25
    assert told(backend) == 25


def test_a_reset_clears_reported_debts() -> None:
    """A reset clears the debts and what was reported of them."""
    backend = HealingBackend()
    guard = GuardedBackend(backend)
    for _ in range(2):
        guard._fallback.acquire("s", DECADE, 3)
        guard._fallback.reconciliation.run(backend.heal, lambda _: None)
        guard.reset("s")

    assert told(backend) == 6


def test_debts_of_several_plans_are_added_once() -> None:
    """The limits of every plan of a subject are added, and a limit that plans share only once."""
    told: dict[str, int] = {}

    def heal(owed: Any, _: bytes) -> list[Any]:
        for _, plan, debts, _ in owed:
            for rate, debt in zip(plan.rates, debts, strict=True):
                told[rate.name] = told.get(rate.name, 0) + -(-debt // rate.unit)
        return []

    login = Plan("p", (*DECADE.rates, Rate("login-decade", 10, 315_360_000_000)))
    outage = GuardedBackend(HealingBackend())._fallback
    for plan in (login, login, DECADE):
        outage.acquire("s", plan, 1)
    outage.reconciliation.run(heal, lambda _: None)

    assert told == {"decade": 3, "login-decade": 2}


def test_changed_shares_report_nothing_twice() -> None:
    """A larger claim or another plan changes the shares; reported debts stay reported."""
    backend = HealingBackend()
    outage = GuardedBackend(backend, expected_workers=10)._fallback
    for plan, largest, cost in ((DECADE, 1, 3), (DECADE, 20, 4), (Plan("q", (Rate("decade", 500, 10**11),)), 20, 2)):
        outage.peek("s", plan, largest)
        outage.acquire("s", plan, cost)
        outage.reconciliation.run(backend.heal, lambda _: None)

    # In units of the one plan and of the other, and a few milliseconds have passed.
    assert round((backend.told - 2 * 10**11) / DECADE.rates[0].unit, 3) == 7


class Servers(HealingBackend):
    """Two servers that fail by themselves, of subjects that begin with an `a` and others."""

    gone = ""
    calls = 0

    def home(self, subject: str) -> bool:
        return subject.startswith("a")

    def heal(self, owed: Any, heal_id: bytes) -> list[Any]:
        self.calls += 1
        if self.gone and owed[0][0].startswith(self.gone):
            raise BackendUnavailable("gone")
        assert len({self.home(subject) for subject, *_ in owed}) == 1
        return super().heal(owed, heal_id)


def test_a_dead_server_does_not_block_the_others() -> None:
    """Its own debts are added once when it is back; until then each try costs it one call."""
    backend = Servers()
    outage = GuardedBackend(backend)._fallback
    toldest, calls, backend.gone = [], [], "a"
    for server in ("a", "b", "ab", ""):
        for name in server:
            for number in range(100):
                outage.acquire(f"{name}{number}", DECADE, 1)
        backend.gone, backend.calls = "a" if server else "", 0
        with suppress(BackendUnavailable):
            outage.reconciliation.run(backend.heal, lambda _: None)
        toldest.append(round(backend.told / DECADE.rates[0].unit, 2))
        calls.append(backend.calls)

    assert toldest == [0, 100, 200, 400]
    assert calls == [1, 3, 3, 4]


class Damaged(Failing):
    """A backend that cannot read what it holds of one subject."""

    healed: list[str]

    def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        if subject == "damaged":
            raise StateDamaged("key holds a value that is damaged")
        return super().acquire(subject, plan, cost)

    def heal(self, owed: Any, _: bytes) -> list[Any]:
        self.healed = [subject for subject, *_ in owed]
        return []


def test_a_corrupt_subject_falls_back_alone() -> None:
    """Its claims are decided locally and stay limited; the backend decides all others."""
    backend = Damaged()
    limiter = Limiter(GuardedBackend(backend))

    claims = [(limiter.acquire("damaged", PLAN), limiter.acquire(f"s{number}", PLAN)) for number in range(30)]

    allowed, others = [damaged.allowed for damaged, _ in claims], {other.plan for _, other in claims}
    assert allowed == [True] * 4 + [False] * 26
    assert others == {PLAN}
    assert limiter.health()["state"] == "ok"
    assert not hasattr(backend, "healed")


def test_closed_reports_a_corrupt_subject() -> None:
    """With on_outage="closed" its claims raise the StateDamaged error."""
    limiter = Limiter(GuardedBackend(Damaged(), on_outage="closed"))

    with pytest.raises(StateDamaged, match="is damaged"):
        limiter.acquire("damaged", PLAN)


class Hanging(NonBlocking):
    async def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        await asyncio.Event().wait()


def hanging() -> Any:
    """An async backend that never answers."""
    return Hanging(MemoryBackend())


def test_tasks_wait_at_most_the_budget() -> None:
    """A hanging backend costs each claim the budget until the breaker opens, and then nothing."""

    async def decided() -> float:
        limiter = AsyncLimiter(AsyncGuardedBackend(hanging(), budget_ms=20))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(100):
            assert (await limiter.acquire("s", Plan.of("p", per_minute=100))).allowed
        return loop.time() - begun

    assert asyncio.run(decided()) < 20 * 0.020 + 0.5


def test_claims_of_a_failed_call_count_once() -> None:
    """Thirty-two claims that wait together are one failure, and five of those are an outage."""

    async def outages() -> list[int]:
        guard = AsyncGuardedBackend(hanging(), budget_ms=10)
        limiter, begun = AsyncLimiter(guard), []
        for _ in range(MAX_CONSECUTIVE_FAILURES):
            await asyncio.gather(*(limiter.acquire("s", PLAN) for _ in range(32)))
            begun.append(guard._fallback._outages)
        return begun

    assert asyncio.run(outages()) == [0] * (MAX_CONSECUTIVE_FAILURES - 1) + [1]


def _in_loop(backend: Backend) -> Any:
    return NonBlocking(backend)


def test_the_async_guard_decides_an_outage(backend: Failing) -> None:
    """The async guard decides an outage like the sync one."""

    async def decided() -> list[bool]:
        backend.fails = True
        limiter = AsyncLimiter(AsyncGuardedBackend(_in_loop(backend), expected_workers=4))
        return [(await limiter.acquire("s", PLAN)).allowed for _ in range(3)]

    assert asyncio.run(decided()) == [True, False, False]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"on_outage": "ignore"}, "on_outage: expected 'local', 'open' or 'closed', got 'ignore'"),
        ({"expected_workers": 0}, "expected_workers: expected an integer >= 1, got 0"),
        ({"budget_ms": 1.5}, "budget_ms: expected an integer >= 1, got 1.5"),
    ],
)
def test_wrong_options_are_refused(backend: Failing, fields: Any, says: str) -> None:
    """The message names the option and what is expected."""
    with pytest.raises(InvalidLimit, match=says):
        GuardedBackend(backend, **fields)


@pytest.mark.parametrize("claim", [(42, PLAN, 1), ("s", None, 1), ("s", PLAN, "1")])
def test_a_malformed_claim_does_not_probe(backend: Failing, seconds: list[float], claim: tuple[Any, Any, Any]) -> None:
    """It raises before the breaker sees it: the next claim probes at once and ends the outage."""
    backend.fails = True
    guarded = GuardedBackend(backend)
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        guarded.acquire("s", PLAN, 1)
    backend.fails = False
    seconds[0] += 0.25
    for verb in (guarded.acquire, guarded.peek):
        with pytest.raises((TypeError, ValueError)):
            verb(*claim)

    assert guarded.acquire("s", PLAN, 1).plan is PLAN
    assert guarded.health()["state"] == "ok"


class Listening(Failing):
    """A backend that is told what was decided without it, and cannot take a subject that is no string."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def heal(self, owed: Any, _: bytes) -> list[Any]:
        self.told += [subject.upper() for subject, *_ in owed]
        return []


def test_a_malformed_claim_does_not_block_reconciliation(seconds: list[float]) -> None:
    """It fails alone, and the other decisions of the outage are added afterwards."""
    backend = Listening()
    backend.fails = True
    guarded = GuardedBackend(backend)
    for subject in ("a", "b", 42, "c", "d", "e"):
        with suppress(TypeError):
            guarded.acquire(subject, PLAN, 1)  # type: ignore[arg-type]  # what is tried
    backend.fails = False
    seconds[0] += 0.25
    guarded.acquire("s", PLAN, 1)

    assert eventually(lambda: guarded._fallback._reconciling.is_busy, expected=False) is False
    assert sorted(backend.told) == ["A", "B", "C", "D", "E"]


def test_guards_do_not_share_shares(backend: Failing) -> None:
    """Claims at one guard do not enlarge the shares of another, even under the same Plan object."""
    backend.fails = True
    plan = Plan("p", (Rate("minute", 40, 60_000),))
    ours, other = (GuardedBackend(backend, expected_workers=4) for _ in range(2))
    other.acquire("s", plan, 40)

    assert sum(ours.acquire("s", plan, 1).allowed for _ in range(50)) == 10


def test_shares_are_bounded() -> None:
    """The number of plans that a guard remembers is bounded."""
    shares = Shares(4)
    for number in range(MAX_CACHED_PLANS + 10):
        shares.of(Plan.of(f"plan_{number}", per_minute=40), 1)

    assert len(shares._known) == MAX_CACHED_PLANS


def test_nested_guards_release_their_own_decisions(backend: Failing) -> None:
    """The inner of two guards gives back what it decided itself."""
    backend.fails = True
    inner = GuardedBackend(backend)
    outer = GuardedBackend(inner)
    plan = Plan.of("p", per_minute=10, concurrent=1)
    decision = outer.acquire("s", plan, 1)
    outer.release(decision)

    assert inner._fallback.reconciliation._open == {}
    assert outer.acquire("s", plan, 1).allowed


class Interrupted(Failing):
    """A backend whose next answer is an exception of another kind, if there is one."""

    interruption: BaseException | None = None

    def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        interruption, self.interruption = self.interruption, None
        if interruption is not None:
            raise interruption
        return super().acquire(subject, plan, cost)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), ZeroDivisionError(), asyncio.CancelledError()])
@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_an_interrupted_probe_is_replaced(seconds: list[float], kind: str, interruption: BaseException) -> None:
    """After a probe that is cancelled or fails by itself, another claim probes after a short pause."""
    backend = Interrupted()
    guarded: Any = GuardedBackend(backend) if kind == "threads" else AsyncGuardedBackend(_in_loop(backend))

    acquire = partial(guarded.acquire, "s", PLAN, 1) if kind == "threads" else partial(_in_a_loop, guarded)
    backend.fails = True
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        acquire()
    backend.fails, backend.interruption = False, interruption
    seconds[0] += 0.25
    with pytest.raises(type(interruption)):
        acquire()
    seconds[0] += 0.25

    assert acquire().plan is PLAN


def _in_a_loop(guarded: Any) -> Any:
    async def ask() -> Any:
        return await guarded.acquire("s", PLAN, 1)

    return asyncio.run(ask())
