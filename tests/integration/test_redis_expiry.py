"""How long the scripts keep keys and debts on a real server."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.redis_scripts import NOW_MS, ONE_SLOT, TEN, Redis
from tests.redis_servers import RedisServer, run

from awx_ratelimit import STARTER, Concurrency, Plan, Rate
from awx_ratelimit.backends.memory.subject_state import FORGET_AFTER_MS


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Redis]:
    with redis_server.client() as client:
        yield Redis(client)


def test_expiry_of_a_key(server: Redis) -> None:
    """Every write sets the expiry: when the longest debt has drained, plus one to two minutes."""
    server.acquire("s", STARTER, 50)

    drained_ms = 50 * 8_640
    assert FORGET_AFTER_MS < server.ttl_ms("s") - drained_ms <= 2 * FORGET_AFTER_MS


def test_expiry_moves_with_the_debt(server: Redis) -> None:
    """Not every charge moves the expiry, but it is always at least a minute after the debt has drained."""
    slack = []
    for number in range(1, 41):
        server.acquire("s", Plan.of("p", per_day=10_000), now_ms=None)
        slack.append(server.ttl_ms("s") - number * 8_640)

    assert min(slack) > FORGET_AFTER_MS - 1_000
    assert max(slack) <= 2 * FORGET_AFTER_MS


def test_expiry_from_a_wrong_clock(server: Redis) -> None:
    """After a charge by a clock that was years ahead, the next charge corrects the expiry."""
    years_ms = 10 * 365 * 86_400_000
    server.acquire("s", TEN, now_ms=server.peek("s", TEN, now_ms=None).decided_at_ms + years_ms)
    server.acquire("s", TEN, now_ms=None)

    assert server.ttl_ms("s") < 5 * FORGET_AFTER_MS


def test_key_of_a_lease(server: Redis) -> None:
    """A subject without debts keeps its key as long as its lease."""
    server.acquire("s", Plan("p", (), Concurrency(1, ttl_ms=500_000)))

    assert server.ttl_ms("s") > 500_000


def test_key_of_other_limits(server: Redis) -> None:
    """The key outlives the longest debt, also of limits that the last charge or renewal does not name."""
    day_ms = 86_400_000
    server.acquire("s", Plan.of("p", per_day=1))
    held = server.acquire("s", Plan("q", (Rate("x", 1, 1_000),), Concurrency(1)))
    charged = server.ttl_ms("s")

    run(server.client, server.codec.renew([("s", held.plan, held.lease_id, NOW_MS)], 0, NOW_MS))

    assert charged > day_ms
    assert server.ttl_ms("s") > day_ms


def test_expiry_with_a_given_time(server: Redis) -> None:
    """With a given time every write sets the expiry, so a clock that stands still loses no key in use."""
    for _ in range(2):
        server.acquire("s", TEN)
        before = server.ttl_ms("s")
        server.client.pexpire(server.codec.key("s"), 5_000)
    server.acquire("s", TEN)

    assert before > FORGET_AFTER_MS
    assert server.ttl_ms("s") > FORGET_AFTER_MS


def test_empty_subject(server: Redis) -> None:
    """The last release deletes the key, and so does a reset."""
    held, _ = server.acquire("s", ONE_SLOT), server.acquire("t", TEN)
    before = server.client.dbsize()

    server.release(held)
    server.codec.reset_outcome("t", run(server.client, server.codec.reset("t", (), NOW_MS)))

    assert before == 2
    assert server.client.dbsize() == 0


def test_reset_keeps_leases(server: Redis) -> None:
    """A reset removes debts and keeps leases, and the key has an expiry."""
    server.acquire("s", STARTER, 60)

    server.codec.reset_outcome("s", run(server.client, server.codec.reset("s", (), NOW_MS)))

    after = server.peek("s", STARTER)
    assert [usage.remaining for usage in after.usages] == [60, 10_000, 4]
    assert server.ttl_ms("s") > FORGET_AFTER_MS


def test_wait_of_a_slower_plan(server: Redis) -> None:
    """A key is kept for the wait that a slower plan has promised."""
    slow = Plan("slow", (Rate("minute", 60, 3_600_000),))
    server.acquire("s", Plan.of("fast", per_minute=60), 60)

    promised_ms = server.acquire("s", slow, 60, NOW_MS + 30_000).retry_after_ms

    assert promised_ms == 3_570_000
    assert server.ttl_ms("s") > promised_ms


def test_other_limits(server: Redis) -> None:
    """Debts of other limits are kept until they have drained; drained ones make room."""
    daily = Plan.of("p", per_day=10)
    server.acquire("s", daily, 10)
    for number in range(40):
        server.acquire("s", Plan("p", (Rate(f"budget-{number}", 1, 1_000),)), now_ms=NOW_MS + 1_000_000 * number)

    size: Any = server.client.strlen(server.codec.key("s"))
    left = server.peek("s", daily, now_ms=NOW_MS + 40_000_000).usages[0].remaining
    assert left == 4
    assert size < 15 * 50


def test_drained_limits(server: Redis) -> None:
    """A few drained limits are kept, so a plan by which the same debt drains more slowly still finds it."""
    server.acquire("s", Plan.of("fast", per_minute=60), 60)
    server.acquire("s", Plan("x", (Rate("x", 1, 1_000),)), now_ms=NOW_MS + 300_000)

    slow = Plan("slow", (Rate("minute", 60, 3_600_000),))
    assert server.peek("s", slow, now_ms=NOW_MS + 300_000).usages[0].remaining == 5


def test_shorter_debt(server: Redis) -> None:
    """A debt is kept only for as long as it needs, even after a longer one; the key outlives both."""
    server.acquire("s", Plan.of("p", per_hour=1), now_ms=None)
    decision = server.acquire("s", Plan("x", (Rate("x", 1, 1_000),)), now_ms=None)

    value: Any = server.client.get(server.codec.key("s"))
    kept_ms = (
        struct.unpack_from("<q", value, 4 + struct.unpack_from("<H", value, 2)[0] + 16)[0] - decision.decided_at_ms
    )
    assert kept_ms <= 1_000 + 2 * FORGET_AFTER_MS
    assert server.ttl_ms("s") > 3_600_000


def test_keys_of_a_replay(server: Redis) -> None:
    """Both keys of a replay expire, and on a cluster they have the same slot."""
    healed = [("s", TEN, [600_000], ())]

    call = server.codec.heal(healed, b"1", NOW_MS)
    run(server.client, call)

    debt, memory = (int(server.client.pttl(key)) for key in call.keys)
    assert debt > 60_000
    assert 0 < memory <= 3_600_000
    assert {key.split(b"{")[1].split(b"}")[0] for key in call.keys} == {server.codec.key("s")[5:-1]}
