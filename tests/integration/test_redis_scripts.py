"""What the scripts write on a real server, for how long, and in which order."""

import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from tests.redis_servers import RedisServer, StartRedis, run

from awx_ratelimit import STARTER, BackendUnavailable, Concurrency, Decision, Plan, Rate
from awx_ratelimit.backends.memory.subject_state import FORGET_AFTER_MS
from awx_ratelimit.backends.redis.codec import Codec, PendingClaim, ReleasedLease
from awx_ratelimit.backends.redis.scripts import ACQUIRE, HEAL, REFUND, RELEASE, RENEW, RESET, Script
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.rate import EXACT_MAX
from awx_ratelimit.errors import StateDamaged
from awx_ratelimit.testing.backend_laws.rates import STRANGE_SUBJECTS

NOW_MS = 1_700_000_000_000
TEN = Plan.of("ten", per_minute=10)
ONE_SLOT = Plan("one", (), Concurrency(1, ttl_ms=5_000))


class Redis:
    """A codec and a server, with short calls of the scripts."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client
        self.codec = Codec("awx", os.urandom(16))

    def call(
        self, asked: Sequence[PendingClaim], released: Sequence[ReleasedLease] = (), now_ms: int | None = NOW_MS
    ) -> list[Decision | BackendUnavailable]:
        """Make one call of a script, and return the result."""
        reply = run(self.client, self.codec.acquire(asked, released, now_ms))
        return self.codec.parse_decisions(asked, reply, HoldTimes(), lambda *_: self)

    def acquire(self, subject: str, plan: Plan, cost: int = 1, now_ms: int | None = NOW_MS) -> Decision:
        """Make one claim."""
        (decision,) = self.call([(subject, plan, cost, self.codec.new_lease_id())], (), now_ms)
        assert isinstance(decision, Decision), decision
        return decision

    def peek(self, subject: str, plan: Plan, cost: int = 1, now_ms: int | None = NOW_MS) -> Decision:
        """Make one peek."""
        (decision,) = self.call([(subject, plan, cost, 0)], (), now_ms)
        assert isinstance(decision, Decision), decision
        return decision

    def release(self, *decisions: Decision, now_ms: int | None = NOW_MS) -> None:
        """Release leases."""
        self.call([], [(decision.subject, decision.lease_id) for decision in decisions], now_ms)

    def writes(self) -> int:
        """The number of writes of this server."""
        written: int = self.client.info("persistence")["rdb_changes_since_last_save"]
        return written

    def ttl_ms(self, subject: str) -> int:
        """The subject's key's time to live in ms, negative if it has none."""
        left: Any = self.client.pttl(self.codec.key(subject))
        return int(left)


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Redis]:
    with redis_server.client() as client:
        yield Redis(client)


@pytest.mark.parametrize("script", [ACQUIRE, RELEASE, RENEW, HEAL, REFUND, RESET], ids=lambda script: script.name)
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


def test_releases_before_claims(server: Redis) -> None:
    """A released slot is free for the claims of the same call."""
    held = server.acquire("s", ONE_SLOT)

    (decision,) = server.call([("s", ONE_SLOT, 1, server.codec.new_lease_id())], [("s", held.lease_id)])

    assert bool(decision)


def test_repeated_claim(server: Redis) -> None:
    """A repeated claim with the same lease id takes no second slot, and its own slot does not refuse it."""
    lease_id = server.codec.new_lease_id()
    decisions = [server.call([("s", ONE_SLOT, 1, lease_id)])[0] for _ in range(2)]

    assert [(bool(d), d.held, d.lease_id) for d in decisions if isinstance(d, Decision)] == [(True, 1, lease_id)] * 2


def test_ttl_of_a_lease(server: Redis) -> None:
    """Without a renewal the slot is free again after the ttl, and not a millisecond before."""
    server.acquire("s", ONE_SLOT)

    early, on_time = (server.peek("s", ONE_SLOT, now_ms=NOW_MS + ms) for ms in (4_999, 5_000))

    assert early.allowed is False
    assert on_time.allowed is True


def test_what_extends_a_lease(server: Redis) -> None:
    """Only an acquire and a renewal of its process extend a lease, not a release, a refusal or a peek."""
    two = Plan("two", (), Concurrency(2, ttl_ms=5_000))
    first, _ = server.acquire("s", two), server.acquire("s", two)
    server.acquire("s", two, now_ms=NOW_MS + 1_000)
    server.release(first, now_ms=NOW_MS + 2_000)
    server.peek("s", two, now_ms=NOW_MS + 3_000)
    server.acquire("s", Plan.of("q", per_minute=10), now_ms=NOW_MS + 4_000)

    assert [server.peek("s", two, now_ms=NOW_MS + ms).held for ms in (4_999, 5_000)] == [1, 0]


def test_leases_with_different_ttls(server: Redis) -> None:
    """The leases of a process lapse together, after the longest ttl that one of them got."""
    server.acquire("s", Plan("long", (), Concurrency(9, ttl_ms=30_000)))
    server.acquire("s", Plan("short", (), Concurrency(9, ttl_ms=1_000)))

    assert [server.peek("s", ONE_SLOT, now_ms=NOW_MS + ms).held for ms in (29_999, 30_000)] == [2, 0]


def test_ttl_after_an_ended_lease(server: Redis) -> None:
    """When the last lease of a process has ended, the next one lapses after its own ttl."""
    server.acquire("s", Plan("bounded", (), Concurrency(1, ttl_ms=30_000, max_hold_ms=1)))
    server.acquire("s", ONE_SLOT, now_ms=NOW_MS + 1)

    assert [server.peek("s", ONE_SLOT, now_ms=NOW_MS + ms).held for ms in (5_000, 5_001)] == [1, 0]


def test_max_hold(server: Redis) -> None:
    """A lease ends exactly after `max_hold_ms`, renewed or not; other leases continue."""
    server.acquire("s", Plan("bounded", (), Concurrency(9, max_hold_ms=500)))
    server.acquire("s", Plan("free", (), Concurrency(9)))

    assert [server.peek("s", ONE_SLOT, now_ms=NOW_MS + ms).held for ms in (499, 500)] == [2, 1]


def test_lease_from_a_clock_that_was_ahead(server: Redis) -> None:
    """A lease whose end is an hour ahead still lapses after its ttl, counted from now."""
    server.acquire("s", ONE_SLOT, now_ms=NOW_MS + 3_600_000)
    server.peek("s", ONE_SLOT)

    assert server.peek("s", ONE_SLOT, now_ms=NOW_MS + 5_000).allowed


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
    server.codec.check_done("t", run(server.client, server.codec.reset("t", NOW_MS)))

    assert before == 2
    assert server.client.dbsize() == 0


def test_reset_keeps_leases(server: Redis) -> None:
    """A reset removes debts and keeps leases, and the key has an expiry."""
    server.acquire("s", STARTER, 60)

    server.codec.check_done("s", run(server.client, server.codec.reset("s", NOW_MS)))

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


MINUTE = b"\x06minute" + struct.pack("<q", 60_000)
LEVEL = struct.pack("<qq", 60_000, NOW_MS)
KEPT = struct.pack("<qH", NOW_MS + 10**9, 0)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "of another program"), (b"hello", "of another program"),
        (b"\x02\x00\x00\x00" + KEPT, "of another program"),
        (b"\x01", "of another program"), (b"\x01\x09\x00\x00", "corrupt"),
        (b"\x01\x01\x0f\x00" + MINUTE + LEVEL + KEPT[:-1], "corrupt"),
        (b"\x01\x02\x0f\x00" + MINUTE + LEVEL + LEVEL + KEPT, "corrupt"),
        (b"\x01\x01\x0f\x00" + MINUTE[:7] + bytes(8) + LEVEL + KEPT, "corrupt"),
        (b"\x01\x01\x0f\x00" + MINUTE + LEVEL + KEPT[:8] + b"\x01\x00", "corrupt"),
        (b"\x01\x01\x0f\x00" + MINUTE + LEVEL + KEPT + bytes(33), "corrupt"),
        (b"\x01\x01\x0f\x00" + MINUTE + LEVEL + KEPT + bytes(28) + b"\x01" + bytes(5), "corrupt"),
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


def test_renewal_of_a_lost_lease(server: Redis) -> None:
    """A renewal takes a lease again that a failover lost, unless other leases have taken the slot."""
    two = Plan("two", (), Concurrency(2))
    decisions = [server.acquire("s", two) for _ in range(2)]
    server.client.delete(server.codec.key("s"))
    server.acquire("s", two)
    held = [("s", two, decision.lease_id, NOW_MS) for decision in decisions]

    renewals = server.codec.parse_renewals(held, run(server.client, server.codec.renew(held, 0, NOW_MS)))

    assert [renewal.name for renewal in renewals.values()] == ["TAKEN_AGAIN", "LOST"]
    assert server.peek("s", two).held == 2


def test_renewal_after_a_lost_release(server: Redis) -> None:
    """A renewal ends leases that the process no longer holds, except those of claims in flight."""
    many = Plan("many", (), Concurrency(9))
    kept, lost, flying = (server.acquire("s", many) for _ in range(3))
    held = [("s", many, kept.lease_id, NOW_MS)]

    run(server.client, server.codec.renew(held, flying.lease_id, NOW_MS))

    server.release(kept, lost)
    assert server.peek("s", many).held == 1


def test_replayed_leases(server: Redis) -> None:
    """Leases of a fallback are stored even without room, and then behave like any other lease."""
    bounded = Plan("bounded", (), Concurrency(1, ttl_ms=5_000, max_hold_ms=800))
    server.acquire("s", ONE_SLOT)
    ids = [server.codec.new_lease_id() for _ in range(3)]
    healed = [("s", ONE_SLOT, (), [(lease_id, NOW_MS) for lease_id in ids[:2]]), ("t", bounded, (), [(ids[2], NOW_MS)])]

    answers = server.codec.parse_heal(healed, run(server.client, server.codec.heal(healed, b"1", NOW_MS)))

    held = [
        server.peek(subject, ONE_SLOT, now_ms=NOW_MS + ms).held
        for subject, ms in (("s", 4_999), ("t", 799), ("t", 800))
    ]
    server.call([], [("s", ids[0])])
    assert answers == [True, True]
    assert held == [3, 1, 0]
    assert server.peek("s", ONE_SLOT).held == 2


def test_keys_of_a_replay(server: Redis) -> None:
    """Both keys of a replay expire, and on a cluster they have the same slot."""
    healed = [("s", TEN, [600_000], ())]

    call = server.codec.heal(healed, b"1", NOW_MS)
    run(server.client, call)

    debt, memory = (int(server.client.pttl(key)) for key in call.keys)
    assert debt > 60_000
    assert 0 < memory <= 3_600_000
    assert {key.split(b"{")[1].split(b"}")[0] for key in call.keys} == {server.codec.key("s")[5:-1]}


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


@pytest.mark.parametrize("passed_ms", [799, 800])
def test_lost_lease_after_max_hold(server: Redis, passed_ms: int) -> None:
    """A lost lease is not taken again later than `max_hold_ms` after it was granted."""
    plan = Plan("bounded", (), Concurrency(1, max_hold_ms=800))
    held = server.acquire("s", plan)
    server.client.delete(server.codec.key("s"))
    leases, now_ms = [("s", plan, held.lease_id, held.decided_at_ms)], NOW_MS + passed_ms

    renewals = server.codec.parse_renewals(leases, run(server.client, server.codec.renew(leases, 0, now_ms)))

    lives = passed_ms < 800
    assert renewals[held.lease_id].name == ("TAKEN_AGAIN" if lives else "ENDED")
    assert server.peek("s", plan, now_ms=now_ms).held == int(lives)


def test_lost_lease_extends_no_other(server: Redis) -> None:
    """After a lease was lost, the other leases live for their own ttl."""
    kept, lost = server.acquire("s", ONE_SLOT), Plan("lost", (), Concurrency(1, ttl_ms=90_000))
    leases = [("s", ONE_SLOT, kept.lease_id, NOW_MS), ("s", lost, server.codec.new_lease_id(), NOW_MS)]

    run(server.client, server.codec.renew(leases, 0, NOW_MS))

    assert [server.peek("s", ONE_SLOT, now_ms=NOW_MS + ms).held for ms in (4_999, 5_000)] == [1, 0]


def test_bytes_of_neighbouring_leases(server: Redis) -> None:
    """A release finds its lease even if the same bytes occur across two other leases."""
    nine = Plan("nine", (), Concurrency(9))
    ids = [int.from_bytes(sequence, "little") for sequence in (b"abcdef", b"ghijkl", b"defghi")]
    server.call([("s", nine, 1, lease_id) for lease_id in ids])

    server.call([], [("s", ids[2])])

    again = server.call([("s", nine, 1, lease_id) for lease_id in ids])
    assert [decision.held for decision in again if isinstance(decision, Decision)] == [2, 2, 3]
