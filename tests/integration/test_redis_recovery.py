"""After a failure of a server or a connection, decisions recover without help."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter, repeated, stopped
from tests.machine import eventually, timed
from tests.processes import free_port
from tests.redis_servers import RedisServer, StartRedis, running_redis

from awx_ratelimit import BackendUnavailable, Concurrency, Plan, Rate
from awx_ratelimit.errors import BackendMisconfigured

# The next refill is in the year 2969.
PLAN = Plan("heals", (Rate("age", 100_000, 31_536_000_000_000, refill="calendar"),), Concurrency(50))
#: As long as a test may be held up by others, and several times less than a test waits for.
TIMEOUT_MS = 400


def left(limiter: Any, subject: str = "s") -> tuple[int, int]:
    """How many slots are in use, and how many tokens."""
    seen = limiter.peek(subject, PLAN)
    return seen.held, seen.usages[0].capacity - seen.usages[0].remaining


def test_flushed_scripts_are_loaded_again(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """Every verb works after SCRIPT FLUSH."""
    limiter = open_limiter(redis_server.socket_url)
    with redis_server.client() as client:

        def forgetful(verb: str, *args: Any) -> Any:
            client.script_flush()
            return getattr(limiter, verb)(*args)

        decision = forgetful("acquire", "s", PLAN)
        forgetful("refund", decision)
        forgetful("release", decision)
        forgetful("renew_leases")
        first = forgetful("peek", "s", PLAN).usages[0].remaining
        forgetful("reset", "s")

        assert decision.allowed is True
        assert first == 100_000
        assert forgetful("health")["state"] == "ok"


def test_scripts_may_be_flushed_at_any_moment(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """Between two calls of one round trip too, each call runs exactly once."""
    limiter = open_limiter(redis_server.socket_url)

    def claim(number: int) -> None:
        decision = limiter.acquire("s", PLAN)
        limiter.give_back(decision)
        if number % 2:
            limiter.refund(decision)

    with redis_server.client() as client, repeated(client.script_flush) as flushes, ThreadPoolExecutor(8) as threads:
        list(threads.map(claim, range(200)))

    assert flushes[0] > 20
    assert eventually(lambda: left(limiter), (0, 100)) == (0, 100)


def test_a_closed_connection_is_reopened(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """No verb fails when the connection was closed between two calls."""
    limiter = open_limiter(redis_server.socket_url)
    with redis_server.client() as client:

        def cut_off(verb: str, *args: Any) -> Any:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            return getattr(limiter, verb)(*args)

        limiter.acquire("s", PLAN)
        decision = cut_off("acquire", "s", PLAN)
        cut_off("refund", decision)
        cut_off("release", decision)
        cut_off("renew_leases")
        assert cut_off("health")["state"] == "ok"
        assert eventually(lambda: left(limiter), (1, 1)) == (1, 1)


def test_connections_may_close_at_any_moment(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A claim whose connection closes in flight fails and keeps no slot; other claims do not notice."""
    limiter = open_limiter(redis_server.socket_url)
    failed: list[str] = []
    until_s = time.monotonic() + 10

    def claims(_: int) -> int:
        answered = 0
        while len(failed) < 10 and time.monotonic() < until_s:
            try:
                limiter.give_back(limiter.acquire("s", PLAN))
                answered += 1
            except BackendUnavailable as error:
                failed.append(str(error))
        return answered

    def cut() -> None:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        # Long enough for others to get through.
        time.sleep(0.002)

    with redis_server.client() as client, repeated(cut), ThreadPoolExecutor(8) as threads:
        answered = sum(threads.map(claims, range(8)))

    limiter.acquire("another", PLAN)
    held, charged = eventually(lambda: left(limiter)[0], 0), left(limiter)[1]
    assert held == 0
    assert answered <= charged <= answered + len(failed)
    assert len(failed) >= 10


def test_idle_connections_are_reopened(start_redis: StartRedis, open_limiters: Callable[..., dict[str, Any]]) -> None:
    """No claim fails when a server with `timeout` has closed idle connections."""
    server = start_redis(options=["--timeout 1"])
    limiters = open_limiters(server.url).values()
    for limiter in limiters:
        limiter.acquire("s", PLAN)

    with server.client() as client:
        idle = eventually(lambda: len(client.client_list()), 1, seconds=10)
    assert idle == 1
    assert [limiter.acquire("s", PLAN).allowed for limiter in limiters] == [True, True]


def test_a_restarted_server_decides_again(tmp_path_factory: pytest.TempPathFactory, open_limiter: OpenLimiter) -> None:
    """While it is down each claim fails at once with its address; afterwards the next is decided."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}"
    with running_redis(tmp_path_factory.mktemp("redis"), port=port):
        limiter = open_limiter(url)
        before = limiter.acquire("s", PLAN).allowed

    with timed() as watch:
        for _ in range(20):
            with pytest.raises(BackendUnavailable, match=f"redis at 127.0.0.1:{port}: "):
                limiter.acquire("s", PLAN)
    with running_redis(tmp_path_factory.mktemp("redis"), port=port):
        after = limiter.acquire("s", PLAN).allowed

    assert before is True
    assert watch.seconds < watch.limit(5)
    assert after is True


def test_a_restored_primary_decides_again(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """While it is a replica, claims fail with a remedy; after it is a primary again, the next is decided."""
    server, another = start_redis(), start_redis()
    limiter = open_limiter(server.socket_url)
    limiter.acquire("s", PLAN)
    with server.client() as client:
        client.replicaof("127.0.0.1", another.port)
        with pytest.raises(BackendMisconfigured, match="it is a read-only replica"):
            limiter.acquire("s", PLAN)
        client.execute_command("REPLICAOF", "NO", "ONE")

    assert limiter.acquire("s", PLAN).allowed


_BUSY = "is still busy with the previous call"
#: On a busy machine a claim may wait for the previous call until its own time is over.
_NOT_SENT = "no time was left to send this claim"


def test_a_hanging_server_fails_the_queue(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """All claims fail after one timeout; the next call works and releases their slots."""
    server = start_redis()
    limiter, other = open_limiter(server.socket_url, timeout_ms=TIMEOUT_MS), open_limiter(server.socket_url)
    limiter.acquire("before", PLAN)

    def claim(_: int) -> tuple[float, str]:
        began_s = time.monotonic()
        try:
            limiter.acquire("s", PLAN)
        except BackendUnavailable as error:
            return time.monotonic() - began_s, str(error)
        return 0, "decided"

    with ThreadPoolExecutor(20) as threads, stopped(server), timed() as watch:
        claims = [*threads.map(claim, range(20)), *threads.map(claim, range(5))]

    in_time = [took_s < watch.limit(TIMEOUT_MS / 1000 * 1.9) for took_s, _ in claims]
    said = {
        text.rpartition(str(server.socket))[2].removeprefix(" ").removeprefix("this process is late: ")
        for _, text in claims
    }
    charged = eventually(lambda: left(other)[1] > 0, expected=True)
    limiter.acquire("after", PLAN)
    assert in_time == [True] * 25
    assert f"did not answer within {TIMEOUT_MS} ms" in said
    # A claim that waited gets the error of the call before, or finds that its own time is over.
    assert said <= {f"did not answer within {TIMEOUT_MS} ms", "the previous call has not ended", _BUSY, _NOT_SENT}
    assert charged is True
    assert eventually(lambda: left(other)[0], 0) == 0
