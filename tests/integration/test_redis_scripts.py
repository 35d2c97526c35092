"""How the scripts decide and what they write on a real server."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from tests.integration.redis_scripts import NOW_MS, TEN, Redis
from tests.redis_servers import RedisServer, StartRedis, run

from awx_ratelimit import STARTER, Decision, Plan, Rate
from awx_ratelimit.backends.redis.scripts import ACQUIRE, HEAL, JOINT, RELEASE, RENEW, RESET, SETTLE, Script
from awx_ratelimit.core.rate import EXACT_MAX
from awx_ratelimit.errors import StateDamaged
from awx_ratelimit.testing.backend_laws.rates import STRANGE_SUBJECTS


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Redis]:
    with redis_server.client() as client:
        yield Redis(client)


@pytest.mark.parametrize(
    "script", [ACQUIRE, RELEASE, JOINT, RENEW, HEAL, SETTLE, RESET], ids=lambda script: script.name
)
def test_digest_of_a_script(server: Redis, script: Script) -> None:
    """Our digest of a script equals the server's, and the first line of the script names the units."""
    own = script.text.removeprefix("#!lua flags=allow-oom\n")

    assert server.client.script_load(script.text) == script.sha
    assert "Units:" in own.split("\n")[0]


def test_time_of_the_server(server: Redis) -> None:
    """Without a given time the decision uses the server's TIME."""
    before, _ = server.client.time()

    decision = server.acquire("s", TEN, now_ms=None)

    after, _ = server.client.time()
    assert before * 1000 <= decision.decided_at_ms < (after + 1) * 1000


def test_order_of_claims(server: Redis) -> None:
    """The claims of one call are decided in order: one subject's third claim is refused, another's first is not."""
    asked = [(subject, TEN, 4, server.codec.new_lease_id()) for subject in "sssx"]

    assert [bool(decision) for decision in server.call(asked)] == [True, True, False, True]


def test_refusals_write_nothing(server: Redis) -> None:
    """Refused claims and peeks write nothing, so replicas receive nothing."""
    server.acquire("s", STARTER, 60)
    before = server.writes()

    decisions = [server.acquire("s", STARTER, 60, NOW_MS + ms) for ms in range(50)]
    looks = [server.peek("s", STARTER, 1, NOW_MS + ms) for ms in range(50)]

    assert [*map(bool, decisions)] == [False] * 50
    assert len(looks) == 50
    assert server.writes() - before == 0


def test_refusals_by_other_limits_write_nothing(server: Redis) -> None:
    """A refusal by any limit writes nothing, and neither does the release of an unknown lease."""
    server.acquire("s", STARTER, 60)
    turned = Plan("turned", (*reversed(STARTER.rates), Rate("hour", 9, 3_600_000)))
    before = server.writes()

    refused = server.acquire("s", turned)
    server.call([], [("s", 7), ("nobody", 7)])

    assert refused.allowed is False
    assert server.writes() - before == 0


def test_large_numbers(server: Redis) -> None:
    """Debts of 2**53 and times of 2**52 are neither rounded nor written with an exponent."""
    plan = Plan("p", (Rate("x", 1, 1, burst=EXACT_MAX), Rate("y", 3, 7, burst=EXACT_MAX // 7)))

    decisions = [server.acquire("s", plan, EXACT_MAX // 7 - less, 2**52 - 1) for less in (1, EXACT_MAX // 7 - 1)]

    y = 7 * (EXACT_MAX // 7)
    assert [d.levels for d in decisions] == [
        [EXACT_MAX // 7 - 1, 2**52 - 1, y - 7, 2**52 - 1],
        [EXACT_MAX // 7, 2**52 - 1, y, 2**52 - 1],
    ]


def test_sum_above_2_to_the_53(server: Redis) -> None:
    """One token more than 2**53 is refused, although a double could not represent the difference."""
    plan = Plan("p", (Rate("x", 1, 1, burst=EXACT_MAX),))
    server.acquire("s", plan, EXACT_MAX)

    assert not server.acquire("s", plan, 1)


def test_many_rates(server: Redis) -> None:
    """Each of fifty rates is charged and reported, and the last one refuses."""
    plan = Plan("many", tuple(Rate(f"r{number}", 100 - number, 60_000) for number in range(50)))

    decisions = [server.acquire("s", plan, cost) for cost in (50, 2, 1)]

    assert [(bool(d), d.exceeded, d.usages[7].remaining) for d in decisions] == [
        (True, 0, 43),
        (False, 1 << 49, 43),
        (True, 0, 42),
    ]


@pytest.mark.parametrize("subject", STRANGE_SUBJECTS, ids=ascii)
def test_any_subject(server: Redis, subject: str) -> None:
    """Subjects with any content have separate states, each in one key."""
    server.acquire(subject, TEN, 10)

    others = [server.peek(other, TEN).allowed for other in STRANGE_SUBJECTS if other != subject]
    assert all(others)
    assert server.peek(subject, TEN).allowed is False
    assert server.client.dbsize() == 1


MINUTE = b"\x06minute" + b"\x11" + struct.pack("<HB", 60_000, 60)

LEVEL = struct.pack("<qq", 60_000, NOW_MS)

KEPT = struct.pack("<qH", NOW_MS + 10**9, 0)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "of another program"), (b"hello", "of another program"),
        (b"\x01\x00\x00\x00" + KEPT, "of another program"),
        (b"\x02", "of another program"), (b"\x02\x09\x00\x00", "corrupt"),
        (b"\x02\x01\x0b\x00" + MINUTE + LEVEL + KEPT[:-1], "corrupt"),
        (b"\x02\x02\x0b\x00" + MINUTE + LEVEL + LEVEL + KEPT, "corrupt"),
        (b"\x02\x01\x0b\x00" + MINUTE[:8] + bytes(3) + LEVEL + KEPT, "corrupt"),
        (b"\x02\x01\x0b\x00" + MINUTE[:7] + bytes(4) + LEVEL + KEPT, "corrupt"),
        (b"\x02\x01\x0b\x00" + MINUTE + LEVEL + KEPT[:8] + b"\x01\x00", "corrupt"),
        (b"\x02\x01\x0b\x00" + MINUTE + LEVEL + KEPT + bytes(33), "corrupt"),
        (b"\x02\x01\x0b\x00" + MINUTE + LEVEL + KEPT + bytes(28) + b"\x01" + bytes(5), "corrupt"),
        (b"\x03\x09\x00\x00\x00\x00" + MINUTE, "of another program"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("plan", [STARTER, Plan("minute", (Rate("minute", 60, 60_000),))], ids=["other", "same"])
def test_foreign_value(server: Redis, value: bytes, words: str, plan: Plan) -> None:
    """A foreign value is left unchanged and fails only its subject; other claims of the call are decided."""
    key = server.codec.key("bad")
    server.client.set(key, value)
    asked = [(subject, plan, 1, server.codec.new_lease_id()) for subject in ("bad", "good", "bad")]

    answers = server.call(asked, [("bad", 7)])

    assert [words in str(answer) for answer in answers] == [True, False, True]
    assert type(answers[1]) is Decision
    assert server.client.get(key) == value


def test_key_of_another_type(server: Redis) -> None:
    """A key of another type is left unchanged and fails only its subject."""
    key = server.codec.key("bad")
    server.client.hset(key, "a", "b")
    asked = [(subject, STARTER, 1, server.codec.new_lease_id()) for subject in ("bad", "good", "bad")]

    answers = server.call(asked, [("bad", 7)])

    assert ["does not hold a string" in str(answer) for answer in answers] == [True, False, True]
    assert type(answers[1]) is Decision
    assert server.client.hgetall(key) == {b"a": b"b"}


def test_bytes_of_a_subject(server: Redis) -> None:
    """A subject with two rates and a lease takes at most 230 bytes of the server's memory, including the key."""
    server.acquire("s", STARTER)

    used: Any = server.client.memory_usage(server.codec.key("s"))
    assert used <= 230


def test_out_of_memory(start_redis: StartRedis) -> None:
    """If a call cannot write, the whole call fails, and none of its claims is charged."""
    with start_redis().client() as client:
        server = Redis(client)
        server.acquire("a", TEN)
        client.config_set("maxmemory", 1)
        asked = [(subject, TEN, 1, server.codec.new_lease_id()) for subject in "ab"]
        with pytest.raises(redis.OutOfMemoryError):
            server.call(asked)
        client.config_set("maxmemory", 0)

        assert [server.peek(subject, TEN).usages[0].remaining for subject in "ab"] == [9, 10]


def test_promoted_replica(start_redis: StartRedis) -> None:
    """A promoted replica decides as the primary would have."""
    master = start_redis()
    replica = start_redis(replica_of=master)
    with master.client() as first, replica.client() as second:
        server = Redis(first)
        server.acquire("s", STARTER, 10, None)
        first.wait(1, 5_000)
        second.replicaof("NO", "ONE")
        server.client = second

        usages = server.peek("s", Plan.of("q", per_day=10_000, concurrent=5), now_ms=None).usages

    assert [usage.remaining for usage in usages] == [9_990, 4]


def test_replay_to_a_foreign_value(server: Redis) -> None:
    """A foreign value fails the replay of its subject, which is repeated after the key is deleted."""
    healed = [("bad", TEN, [60_000], ()), ("good", TEN, [60_000], ())]
    server.client.set(server.codec.key("bad"), "hello")
    call = server.codec.heal(healed, b"1", NOW_MS)

    before = server.codec.parse_heal(healed, run(server.client, call))
    server.client.delete(server.codec.key("bad"))
    after = server.codec.parse_heal(healed, run(server.client, call))

    assert [type(answer) for answer in before] == [StateDamaged, bool]
    assert after == [True, False]
