"""Claims that arrive together are decided in one call, and no claim pays for another."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter, stopped
from tests.machine import eventually
from tests.redis_servers import RedisServer, StartRedis

from awx_ratelimit import BackendUnavailable, Decision, InvalidLimit, Plan, Rate

PLAN = Plan.of("many", per_day=1_000_000, concurrent=100_000)
CALLERS = 100
WRONG: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "another type": ("does not hold a string", lambda client, key: client.lpush(key, "x")),
    "another value": ("holds a value of another program", lambda client, key: client.set(key, "hello")),
    "another version": ("or another version", lambda client, key: client.set(key, b"\x01" + bytes(40))),
    "a damaged value": ("holds a corrupt value", lambda client, key: client.set(key, b"\x02" + bytes(7))),
}


def waiting(limiter: Any, expected: int) -> None:
    """Until one claim is under way and so many wait behind it."""

    def behind() -> int:
        (line,) = limiter.backend._channels._channels.values()
        if isinstance(line, dict):
            (line,) = line.values()
        under_way = getattr(line.claims, "_leader", None) or getattr(line.claims, "_is_busy", False)
        return len(line.claims._queue.waiting) if under_way else -1

    assert eventually(behind, expected) == expected


def together(
    server: RedisServer, limiter: Any, claims: Sequence[Callable[[], Any]], *, in_order: bool = True
) -> list[Any]:
    """What these claims answer or raise. All wait behind another: the server is stopped until they do."""

    def answer(claim: Callable[[], Any]) -> Any:
        try:
            return claim()
        except Exception as error:
            return error

    limiter.acquire("before", PLAN)
    with ThreadPoolExecutor(len(claims) + 1) as threads:
        with stopped(server):
            first = threads.submit(limiter.acquire, "first", PLAN)
            waiting(limiter, 0)
            answers = []
            for number, claim in enumerate(claims, start=1):
                answers.append(threads.submit(answer, claim))
                if in_order:
                    waiting(limiter, number)
            waiting(limiter, len(claims))
        first.result()
        return [each.result() for each in answers]


def script_calls(server: RedisServer) -> int:
    """How many scripts the server has run since the last time it was asked."""
    with server.client() as client:
        stats = client.info("commandstats")
        client.config_resetstat()
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


def test_many_claims_need_few_calls(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A hundred callers each get their own decision, in less than a quarter as many calls."""
    limiter, calls = open_limiter(redis_server.socket_url), list[int]()
    script_calls(redis_server)

    # The best of three: on a busy machine fewer threads wait at the same time.
    for attempt in range(3):
        with ThreadPoolExecutor(CALLERS) as threads:
            subjects = [f"s{attempt}-{number}" for number in range(1_000)]
            decisions: list[Decision] = list(threads.map(lambda subject: limiter.acquire(subject, PLAN), subjects))
        calls.append(script_calls(redis_server))
        assert [decision.subject for decision in decisions if decision.allowed and decision.held == 1] == subjects
        if calls[-1] < 250:
            break

    assert min(calls) < 250


def test_claims_of_one_subject_are_decided_in_order(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """In one call, each claim sees what the claims before it have left."""
    server = start_redis()
    limiter = open_limiter(server.socket_url)
    plan = Plan("few", (Rate("day", 3, 86_400_000),))
    script_calls(server)

    decisions = together(server, limiter, [lambda: limiter.acquire("s", plan)] * 6)
    calls = script_calls(server)

    left = [(decision.allowed, decision.usages[0].remaining) for decision in decisions]
    # With the two that were alone.
    assert left == [(True, 2), (True, 1), (True, 0), (False, 0), (False, 0), (False, 0)]
    assert calls == 3


@pytest.mark.parametrize("wrong", WRONG)
def test_a_corrupt_key_fails_one_claim(start_redis: StartRedis, open_limiter: OpenLimiter, wrong: str) -> None:
    """The error names the key and a remedy; the other claims of the call are decided."""
    server = start_redis()
    limiter = open_limiter(server.socket_url)
    said, breaks = WRONG[wrong]
    key = limiter.backend._session.codec.key("broken").decode()
    with server.client() as client:
        breaks(client, key)

    subjects = ["a", "broken", "b", "broken", "c"]
    answers = together(server, limiter, [partial(limiter.acquire, subject, PLAN) for subject in subjects])

    errors = [str(answer) for answer in answers if isinstance(answer, BackendUnavailable)]
    allowed = [answer.subject for answer in answers if isinstance(answer, Decision) and answer.allowed]
    assert allowed == ["a", "b", "c"]
    assert len(errors) == 2
    assert f"key {key} " in errors[0]
    assert said in errors[0]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_corrupt_key_fails_every_verb_but_release(
    redis_server: RedisServer, open_limiter: OpenLimiter, wrong: str
) -> None:
    """Leases from before can still be released, and the renewals of other leases go on."""
    limiter = open_limiter(redis_server.socket_url)
    kept, other = limiter.acquire("broken", PLAN), limiter.acquire("s", PLAN)
    said, breaks = WRONG[wrong]
    with redis_server.client() as client:
        key = limiter.backend._session.codec.key("broken")
        client.delete(key)
        breaks(client, key)

    for verb, args in {"acquire": (PLAN,), "peek": (PLAN,), "reset": ()}.items():
        with pytest.raises(BackendUnavailable, match=said):
            getattr(limiter, verb)("broken", *args)
    with pytest.raises(BackendUnavailable, match=said):
        limiter.refund(kept)
    limiter.renew_leases()
    limiter.release(kept)
    limiter.release(other)

    assert eventually(lambda: limiter.peek("s", PLAN).held, 0) == 0
    assert limiter.health()["state"] == "ok"


def test_a_truncated_value_is_corrupt(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """Its claim fails alone, whether it would be admitted or refused."""
    limiter = open_limiter(redis_server.socket_url)
    before, now = (Plan(name, (Rate(name, 2, 60_000),)) for name in ("before", "now"))
    key = limiter.backend._session.codec.key("broken")
    limiter.acquire("broken", before)
    limiter.acquire("broken", now)
    with redis_server.client() as client:
        value: Any = client.get(key)
        client.set(key, value[:-5])

    for verb, cost in [("peek", 1), ("peek", 2), ("acquire", 1), ("acquire", 2)]:
        with pytest.raises(BackendUnavailable, match="holds a corrupt value"):
            getattr(limiter, verb)("broken", now, cost)


def test_too_many_rates_fail_one_claim(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """The claim raises InvalidLimit before the call, and a plan with 50 rates is decided."""
    server = start_redis()
    limiter = open_limiter(server.socket_url)
    rates = tuple(Rate(f"r{number}", 10, 60_000) for number in range(51))

    claims = [partial(limiter.acquire, "s", Plan("fifty", rates[:50])), partial(limiter.acquire, "t", PLAN)]
    with pytest.raises(InvalidLimit, match="expected at most 50 rates on Redis"):
        limiter.acquire("s", Plan("many", rates))
    decisions = together(server, limiter, claims)

    assert [[usage.remaining for usage in decision.usages][:50] for decision in decisions] == [
        [9] * 50,
        [999_999, 99_999],
    ]


def test_batches_have_a_maximum_size(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """Three hundred claims that arrive together are decided by three calls."""
    server = start_redis()
    limiter = open_limiter(server.socket_url)
    limiter.acquire("known", PLAN)
    script_calls(server)

    claims = [partial(limiter.acquire, f"s{number}", PLAN) for number in range(300)]
    decisions = together(server, limiter, claims, in_order=False)

    # With the two that were alone.
    assert [decision.held for decision in decisions] == [1] * 300
    assert script_calls(server) == 5


class FailingClock:
    """A clock of a user that raises while it is told to."""

    fails = False

    def now_ms(self) -> int:
        if self.fails:
            raise ZeroDivisionError("the clock is broken")
        return 1_700_000_000_000


def test_a_failing_clock_fails_only_its_claims(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """After an error while encoding, the next claim is decided, and nothing was charged or taken."""
    clock = FailingClock()
    limiter = open_limiter(redis_server.url, clock=clock)
    held = limiter.acquire("s", PLAN)

    clock.fails = True
    for _ in range(3):
        with pytest.raises((ZeroDivisionError, BackendUnavailable)):
            limiter.acquire("s", PLAN)
    limiter.give_back(held)
    clock.fails = False

    after = limiter.acquire("s", PLAN)
    assert [usage.remaining for usage in after.usages] == [999_998, 99_999]


def test_decisions_need_no_thread(
    redis_server: RedisServer,
    open_limiter: OpenLimiter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the maintenance thread cannot start, claims are decided and one error is logged."""
    limiter = open_limiter(redis_server.url)
    start = Thread.start

    def refuse(thread: Thread) -> None:
        if thread.name == "awx_ratelimit leases":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", refuse)
        decisions = [limiter.acquire("s", PLAN) for _ in range(3)]
    later = limiter.acquire("s", PLAN)

    assert [decision.allowed for decision in (*decisions, later)] == [True] * 4
    said = [record.message for record in caplog.records if "leases are not renewed" in record.message]
    assert len(said) == 1
    assert limiter.backend._maintenance._thread.thread is not None
