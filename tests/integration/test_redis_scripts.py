"""What the scripts promise of a server, on a real one: what is written, for how long, and in which order."""

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
    """A codec and a server, and what tests ask of the two."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client
        self.codec = Codec("awx", os.urandom(16))

    def ask(
        self, asked: Sequence[PendingClaim], released: Sequence[ReleasedLease] = (), now_ms: int | None = NOW_MS
    ) -> list[Decision | BackendUnavailable]:
        """One call; what it answers."""
        reply = run(self.client, self.codec.acquire(asked, released, now_ms))
        return self.codec.parse_decisions(asked, reply, HoldTimes(), lambda *_: self)

    def acquire(self, subject: str, plan: Plan, cost: int = 1, now_ms: int | None = NOW_MS) -> Decision:
        """One claim."""
        (decision,) = self.ask([(subject, plan, cost, self.codec.new_lease_id())], (), now_ms)
        assert isinstance(decision, Decision), decision
        return decision

    def look(self, subject: str, plan: Plan, cost: int = 1, now_ms: int | None = NOW_MS) -> Decision:
        """One look."""
        (decision,) = self.ask([(subject, plan, cost, 0)], (), now_ms)
        assert isinstance(decision, Decision), decision
        return decision

    def release(self, *decisions: Decision, now_ms: int | None = NOW_MS) -> None:
        """Give leases back."""
        self.ask([], [(decision.subject, decision.lease_id) for decision in decisions], now_ms)

    def writes(self) -> int:
        """How often this server has written."""
        written: int = self.client.info("persistence")["rdb_changes_since_last_save"]
        return written

    def keeps_ms(self, subject: str) -> int:
        """How long the subject's key has to live: less than 0 where it has none, or no end."""
        left: Any = self.client.pttl(self.codec.key(subject))
        return int(left)


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Redis]:
    with redis_server.client() as client:
        yield Redis(client)


@pytest.mark.parametrize("script", [ACQUIRE, RELEASE, RENEW, HEAL, REFUND, RESET], ids=lambda script: script.name)
def test_a_server_knows_a_script_by_the_digest_that_we_send(server: Redis, script: Script) -> None:
    """The digest is the server's, and the first line of its own names the units."""
    own = script.text.removeprefix("#!lua flags=allow-oom\n")

    assert server.client.script_load(script.text) == script.sha
    assert "Units:" in own.split("\n")[0]


def test_without_a_time_it_is_the_servers(server: Redis) -> None:
    """The decision is made at what TIME says."""
    before, _ = server.client.time()

    decision = server.acquire("s", TEN, now_ms=None)

    after, _ = server.client.time()
    assert before * 1000 <= decision.decided_at_ms < (after + 1) * 1000


def test_claims_of_one_call_are_decided_in_their_order(server: Redis) -> None:
    """Of three claims for four tokens each, one subject's third is refused, and another's first is not."""
    asked = [(subject, TEN, 4, server.codec.new_lease_id()) for subject in "sssx"]

    assert [bool(decision) for decision in server.ask(asked)] == [True, True, False, True]


def test_a_lease_is_free_for_the_claims_of_its_own_call(server: Redis) -> None:
    """Releases come first."""
    held = server.acquire("s", ONE_SLOT)

    (decision,) = server.ask([("s", ONE_SLOT, 1, server.codec.new_lease_id())], [("s", held.lease_id)])

    assert bool(decision)


def test_a_claim_sent_twice_takes_one_slot(server: Redis) -> None:
    """After an answer that was lost, the same lease id takes no second slot, and is not refused for its own."""
    lease_id = server.codec.new_lease_id()
    decisions = [server.ask([("s", ONE_SLOT, 1, lease_id)])[0] for _ in range(2)]

    assert [(bool(d), d.held, d.lease_id) for d in decisions if isinstance(d, Decision)] == [(True, 1, lease_id)] * 2


def test_leases_of_a_killed_process_lapse_after_their_ttl(server: Redis) -> None:
    """Without a renewal the slot is free again after the ttl, and not a millisecond before."""
    server.acquire("s", ONE_SLOT)

    early, on_time = (server.look("s", ONE_SLOT, now_ms=NOW_MS + ms) for ms in (4_999, 5_000))

    assert early.allowed is False
    assert on_time.allowed is True


def test_only_an_acquire_and_a_renewal_let_leases_live_on(server: Redis) -> None:
    """A lease lapses when it would, though others of its process were given back, refused and looked for meanwhile."""
    two = Plan("two", (), Concurrency(2, ttl_ms=5_000))
    first, _ = server.acquire("s", two), server.acquire("s", two)
    server.acquire("s", two, now_ms=NOW_MS + 1_000)
    server.release(first, now_ms=NOW_MS + 2_000)
    server.look("s", two, now_ms=NOW_MS + 3_000)
    server.acquire("s", Plan.of("q", per_minute=10), now_ms=NOW_MS + 4_000)

    assert [server.look("s", two, now_ms=NOW_MS + ms).held for ms in (4_999, 5_000)] == [1, 0]


def test_a_lease_with_a_short_life_does_not_shorten_those_beside_it(server: Redis) -> None:
    """The leases of a process lapse together, after the longest ttl that one of them was promised."""
    server.acquire("s", Plan("long", (), Concurrency(9, ttl_ms=30_000)))
    server.acquire("s", Plan("short", (), Concurrency(9, ttl_ms=1_000)))

    assert [server.look("s", ONE_SLOT, now_ms=NOW_MS + ms).held for ms in (29_999, 30_000)] == [2, 0]


def test_a_lease_does_not_inherit_the_life_of_one_that_ended(server: Redis) -> None:
    """When the last lease of a process has ended by its bound, the next lapses after its own ttl."""
    server.acquire("s", Plan("bounded", (), Concurrency(1, ttl_ms=30_000, max_hold_ms=1)))
    server.acquire("s", ONE_SLOT, now_ms=NOW_MS + 1)

    assert [server.look("s", ONE_SLOT, now_ms=NOW_MS + ms).held for ms in (5_000, 5_001)] == [1, 0]


def test_a_bounded_lease_ends_to_the_millisecond(server: Redis) -> None:
    """After `max_hold_ms` it is over, renewed or not, and a lease beside it lives on."""
    server.acquire("s", Plan("bounded", (), Concurrency(9, max_hold_ms=500)))
    server.acquire("s", Plan("free", (), Concurrency(9)))

    assert [server.look("s", ONE_SLOT, now_ms=NOW_MS + ms).held for ms in (499, 500)] == [2, 1]


def test_a_server_whose_clock_was_ahead_frees_slots_after_the_ttl_all_the_same(server: Redis) -> None:
    """A lease that says that it lives for an hour counts from now."""
    server.acquire("s", ONE_SLOT, now_ms=NOW_MS + 3_600_000)
    server.look("s", ONE_SLOT)

    assert server.look("s", ONE_SLOT, now_ms=NOW_MS + 5_000).allowed


def test_a_refusal_and_a_look_write_nothing(server: Redis) -> None:
    """However many claims are refused, the server has nothing to write or to tell its replicas."""
    server.acquire("s", STARTER, 60)
    before = server.writes()

    decisions = [server.acquire("s", STARTER, 60, NOW_MS + ms) for ms in range(50)]
    looks = [server.look("s", STARTER, 1, NOW_MS + ms) for ms in range(50)]

    assert [*map(bool, decisions)] == [False] * 50
    assert len(looks) == 50
    assert server.writes() - before == 0


def test_a_refusal_by_other_limits_writes_nothing_either(server: Redis) -> None:
    """Nor does the release of a lease that is not held."""
    server.acquire("s", STARTER, 60)
    turned = Plan("turned", (*reversed(STARTER.rates), Rate("hour", 9, 3_600_000)))
    before = server.writes()

    refused = server.acquire("s", turned)
    server.ask([], [("s", 7), ("nobody", 7)])

    assert refused.allowed is False
    assert server.writes() - before == 0


def test_a_key_is_kept_until_all_has_drained_and_a_minute_more(server: Redis) -> None:
    """Every write sets an end: the time of the longest debt, and between one and two minutes."""
    server.acquire("s", STARTER, 50)

    drained_ms = 50 * 8_640
    assert FORGET_AFTER_MS < server.keeps_ms("s") - drained_ms <= 2 * FORGET_AFTER_MS


def test_by_the_servers_time_the_end_moves_on_as_debts_grow(server: Redis) -> None:
    """Not each charge moves it, and yet it is never less than a minute beyond the debt."""
    slack = []
    for number in range(1, 41):
        server.acquire("s", Plan.of("p", per_day=10_000), now_ms=None)
        slack.append(server.keeps_ms("s") - number * 8_640)

    assert min(slack) > FORGET_AFTER_MS - 1_000
    assert max(slack) <= 2 * FORGET_AFTER_MS


def test_an_end_that_a_wrong_clock_set_is_taken_back(server: Redis) -> None:
    """After a charge by a clock that was years ahead, the next one sets the end that is due."""
    years_ms = 10 * 365 * 86_400_000
    server.acquire("s", TEN, now_ms=server.look("s", TEN, now_ms=None).decided_at_ms + years_ms)
    server.acquire("s", TEN, now_ms=None)

    assert server.keeps_ms("s") < 5 * FORGET_AFTER_MS


def test_a_lease_keeps_its_key(server: Redis) -> None:
    """A subject without debts is known as long as its lease lives."""
    server.acquire("s", Plan("p", (), Concurrency(1, ttl_ms=500_000)))

    assert server.keeps_ms("s") > 500_000


def test_limits_that_are_not_named_keep_the_key(server: Redis) -> None:
    """However short the debts of the last charge, the key outlives the longest; also where leases are renewed."""
    day_ms = 86_400_000
    server.acquire("s", Plan.of("p", per_day=1))
    held = server.acquire("s", Plan("q", (Rate("x", 1, 1_000),), Concurrency(1)))
    charged = server.keeps_ms("s")

    run(server.client, server.codec.renew([("s", held.plan, held.lease_id, NOW_MS)], 0, NOW_MS))

    assert charged > day_ms
    assert server.keeps_ms("s") > day_ms


def test_a_given_time_sets_the_end_with_each_write(server: Redis) -> None:
    """A clock that stands still does not let a key go that is in use."""
    for _ in range(2):
        server.acquire("s", TEN)
        before = server.keeps_ms("s")
        server.client.pexpire(server.codec.key("s"), 5_000)
    server.acquire("s", TEN)

    assert before > FORGET_AFTER_MS
    assert server.keeps_ms("s") > FORGET_AFTER_MS


def test_a_subject_that_holds_nothing_and_owes_nothing_has_no_key(server: Redis) -> None:
    """The last release deletes the key, and so does a reset."""
    held, _ = server.acquire("s", ONE_SLOT), server.acquire("t", TEN)
    before = server.client.dbsize()

    server.release(held)
    server.codec.check_done("t", run(server.client, server.codec.reset("t", NOW_MS)))

    assert before == 2
    assert server.client.dbsize() == 0


def test_a_reset_keeps_leases_and_their_key(server: Redis) -> None:
    """What is owed is gone, what is held is not, and the key has an end."""
    server.acquire("s", STARTER, 60)

    server.codec.check_done("s", run(server.client, server.codec.reset("s", NOW_MS)))

    after = server.look("s", STARTER)
    assert [usage.remaining for usage in after.usages] == [60, 10_000, 4]
    assert server.keeps_ms("s") > FORGET_AFTER_MS


def test_a_promise_is_kept_though_the_old_plan_would_have_forgotten(server: Redis) -> None:
    """A wait that a slower plan promises keeps the key that it stands on."""
    slow = Plan("slow", (Rate("minute", 60, 3_600_000),))
    server.acquire("s", Plan.of("fast", per_minute=60), 60)

    promised_ms = server.acquire("s", slow, 60, NOW_MS + 30_000).retry_after_ms

    assert promised_ms == 3_570_000
    assert server.keeps_ms("s") > promised_ms


def test_limits_that_are_not_named_are_kept_until_they_have_drained(server: Redis) -> None:
    """Of a dozen budgets, the few that still owe are known to the end, and the others make room."""
    daily = Plan.of("p", per_day=10)
    server.acquire("s", daily, 10)
    for number in range(40):
        server.acquire("s", Plan("p", (Rate(f"budget-{number}", 1, 1_000),)), now_ms=NOW_MS + 1_000_000 * number)

    size: Any = server.client.strlen(server.codec.key("s"))
    left = server.look("s", daily, now_ms=NOW_MS + 40_000_000).usages[0].remaining
    assert left == 4
    assert size < 15 * 50


def test_a_few_limits_are_kept_even_after_they_have_drained(server: Redis) -> None:
    """A plan by which the same debt drains slowly finds it, as if it had been charged by that plan."""
    server.acquire("s", Plan.of("fast", per_minute=60), 60)
    server.acquire("s", Plan("x", (Rate("x", 1, 1_000),)), now_ms=NOW_MS + 300_000)

    slow = Plan("slow", (Rate("minute", 60, 3_600_000),))
    assert server.look("s", slow, now_ms=NOW_MS + 300_000).usages[0].remaining == 5


def test_a_short_debt_is_not_kept_as_long_as_the_one_before_it(server: Redis) -> None:
    """By the server's time too, what a charge leaves is kept for as long as that needs; the key outlives both."""
    server.acquire("s", Plan.of("p", per_hour=1), now_ms=None)
    decision = server.acquire("s", Plan("x", (Rate("x", 1, 1_000),)), now_ms=None)

    value: Any = server.client.get(server.codec.key("s"))
    kept_ms = (
        struct.unpack_from("<q", value, 4 + struct.unpack_from("<H", value, 2)[0] + 16)[0] - decision.decided_at_ms
    )
    assert kept_ms <= 1_000 + 2 * FORGET_AFTER_MS
    assert server.keeps_ms("s") > 3_600_000


def test_numbers_come_back_to_the_last_digit(server: Redis) -> None:
    """Debts of 2**53 and times of 2**52 are neither rounded nor printed with an exponent."""
    plan = Plan("p", (Rate("x", 1, 1, burst=EXACT_MAX), Rate("y", 3, 7, burst=EXACT_MAX // 7)))

    decisions = [server.acquire("s", plan, EXACT_MAX // 7 - less, 2**52 - 1) for less in (1, EXACT_MAX // 7 - 1)]

    y = 7 * (EXACT_MAX // 7)
    assert [d.levels for d in decisions] == [
        [EXACT_MAX // 7 - 1, 2**52 - 1, y - 7, 2**52 - 1],
        [EXACT_MAX // 7, 2**52 - 1, y, 2**52 - 1],
    ]


def test_a_sum_that_a_double_would_round_is_over(server: Redis) -> None:
    """One token more than 2**53 is refused, though as doubles the two are equal."""
    plan = Plan("p", (Rate("x", 1, 1, burst=EXACT_MAX),))
    server.acquire("s", plan, EXACT_MAX)

    assert not server.acquire("s", plan, 1)


def test_a_plan_may_have_many_rates(server: Redis) -> None:
    """Each of fifty is charged and answered, and the last refuses."""
    plan = Plan("many", tuple(Rate(f"r{number}", 100 - number, 60_000) for number in range(50)))

    decisions = [server.acquire("s", plan, cost) for cost in (50, 2, 1)]

    assert [(bool(d), d.exceeded, d.usages[7].remaining) for d in decisions] == [
        (True, 0, 43),
        (False, 1 << 49, 43),
        (True, 0, 42),
    ]


@pytest.mark.parametrize("subject", STRANGE_SUBJECTS, ids=ascii)
def test_a_subject_of_any_content_has_a_state_of_its_own(server: Redis, subject: str) -> None:
    """What it uses is owed by nobody else, and stands in one key."""
    server.acquire(subject, TEN, 10)

    others = [server.look(other, TEN).allowed for other in STRANGE_SUBJECTS if other != subject]
    assert all(others)
    assert server.look(subject, TEN).allowed is False
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
def test_a_value_that_is_not_ours_is_an_error_of_its_subject_alone(
    server: Redis, value: bytes, words: str, plan: Plan
) -> None:
    """It is left as it is, whichever plan asks; the other claims of the call are decided."""
    key = server.codec.key("bad")
    server.client.set(key, value)
    asked = [(subject, plan, 1, server.codec.new_lease_id()) for subject in ("bad", "good", "bad")]

    answers = server.ask(asked, [("bad", 7)])

    assert [words in str(answer) for answer in answers] == [True, False, True]
    assert type(answers[1]) is Decision
    assert server.client.get(key) == value


def test_a_key_of_another_type_is_an_error_of_its_subject_alone(server: Redis) -> None:
    """It is left as it is, and the other claims of the call are decided."""
    key = server.codec.key("bad")
    server.client.hset(key, "a", "b")
    asked = [(subject, STARTER, 1, server.codec.new_lease_id()) for subject in ("bad", "good", "bad")]

    answers = server.ask(asked, [("bad", 7)])

    assert ["does not hold a string" in str(answer) for answer in answers] == [True, False, True]
    assert type(answers[1]) is Decision
    assert server.client.hgetall(key) == {b"a": b"b"}


def test_a_subject_with_two_rates_and_a_lease_takes_few_bytes(server: Redis) -> None:
    """At most 230 bytes of the server's memory, key and all."""
    server.acquire("s", STARTER)

    used: Any = server.client.memory_usage(server.codec.key("s"))
    assert used <= 230


def test_a_server_without_memory_charges_nobody(start_redis: StartRedis) -> None:
    """A call that could not write is an error as a whole, and none of its claims is charged."""
    with start_redis().client() as client:
        server = Redis(client)
        server.acquire("a", TEN)
        client.config_set("maxmemory", 1)
        asked = [(subject, TEN, 1, server.codec.new_lease_id()) for subject in "ab"]
        with pytest.raises(redis.OutOfMemoryError):
            server.ask(asked)
        client.config_set("maxmemory", 0)

        assert [server.look(subject, TEN).usages[0].remaining for subject in "ab"] == [9, 10]


def test_a_replica_takes_over_what_was_owed_and_held(start_redis: StartRedis) -> None:
    """Effects are replicated: the replica, once it is the master, decides as the master would have."""
    master = start_redis()
    replica = start_redis(replica_of=master)
    with master.client() as first, replica.client() as second:
        server = Redis(first)
        server.acquire("s", STARTER, 10, None)
        first.wait(1, 5_000)
        second.replicaof("NO", "ONE")
        server.client = second

        usages = server.look("s", Plan.of("q", per_day=10_000, concurrent=5), now_ms=None).usages

    assert [usage.remaining for usage in usages] == [9_990, 4]


def test_a_lost_entry_is_taken_again_where_there_is_room(server: Redis) -> None:
    """A renewal enters a lease that a failover lost, unless others have taken the slots meanwhile."""
    two = Plan("two", (), Concurrency(2))
    decisions = [server.acquire("s", two) for _ in range(2)]
    server.client.delete(server.codec.key("s"))
    server.acquire("s", two)
    held = [("s", two, decision.lease_id, NOW_MS) for decision in decisions]

    renewals = server.codec.parse_renewals(held, run(server.client, server.codec.renew(held, 0, NOW_MS)))

    assert [renewal.name for renewal in renewals.values()] == ["TAKEN_AGAIN", "LOST"]
    assert server.look("s", two).held == 2


def test_a_renewal_ends_what_a_lost_release_left(server: Redis) -> None:
    """What the process does not hold any more ends with its next renewal, but for claims that are still in flight."""
    many = Plan("many", (), Concurrency(9))
    kept, lost, flying = (server.acquire("s", many) for _ in range(3))
    held = [("s", many, kept.lease_id, NOW_MS)]

    run(server.client, server.codec.renew(held, flying.lease_id, NOW_MS))

    server.release(kept, lost)
    assert server.look("s", many).held == 1


def test_leases_of_a_fallback_are_entered_though_there_is_no_room(server: Redis) -> None:
    """They count, live for their ttl, end when they are bounded, and are given back like any other."""
    bounded = Plan("bounded", (), Concurrency(1, ttl_ms=5_000, max_hold_ms=800))
    server.acquire("s", ONE_SLOT)
    ids = [server.codec.new_lease_id() for _ in range(3)]
    healed = [("s", ONE_SLOT, (), [(lease_id, NOW_MS) for lease_id in ids[:2]]), ("t", bounded, (), [(ids[2], NOW_MS)])]

    answers = server.codec.parse_heal(healed, run(server.client, server.codec.heal(healed, b"1", NOW_MS)))

    held = [
        server.look(subject, ONE_SLOT, now_ms=NOW_MS + ms).held
        for subject, ms in (("s", 4_999), ("t", 799), ("t", 800))
    ]
    server.ask([], [("s", ids[0])])
    assert answers == [True, True]
    assert held == [3, 1, 0]
    assert server.look("s", ONE_SLOT).held == 2


def test_what_is_healed_keeps_its_key_and_is_forgotten_as_healed_within_the_hour(server: Redis) -> None:
    """Both keys have an end, and on a cluster they stand in one slot."""
    healed = [("s", TEN, [600_000], ())]

    call = server.codec.heal(healed, b"1", NOW_MS)
    run(server.client, call)

    debt, memory = (int(server.client.pttl(key)) for key in call.keys)
    assert debt > 60_000
    assert 0 < memory <= 3_600_000
    assert {key.split(b"{")[1].split(b"}")[0] for key in call.keys} == {server.codec.key("s")[5:-1]}


def test_a_value_that_is_not_ours_is_not_healed(server: Redis) -> None:
    """It is an error of its subject alone, and is tried again when the key has been deleted."""
    healed = [("bad", TEN, [60_000], ()), ("good", TEN, [60_000], ())]
    server.client.set(server.codec.key("bad"), "hello")
    call = server.codec.heal(healed, b"1", NOW_MS)

    before = server.codec.parse_heal(healed, run(server.client, call))
    server.client.delete(server.codec.key("bad"))
    after = server.codec.parse_heal(healed, run(server.client, call))

    assert [type(answer) for answer in before] == [StateDamaged, bool]
    assert after == [True, False]


@pytest.mark.parametrize("passed_ms", [799, 800])
def test_a_lost_lease_is_not_taken_again_after_its_bound(server: Redis, passed_ms: int) -> None:
    """Renewed or not, it ends `max_hold_ms` after it was granted."""
    plan = Plan("bounded", (), Concurrency(1, max_hold_ms=800))
    held = server.acquire("s", plan)
    server.client.delete(server.codec.key("s"))
    leases, now_ms = [("s", plan, held.lease_id, held.decided_at_ms)], NOW_MS + passed_ms

    renewals = server.codec.parse_renewals(leases, run(server.client, server.codec.renew(leases, 0, now_ms)))

    lives = passed_ms < 800
    assert renewals[held.lease_id].name == ("TAKEN_AGAIN" if lives else "ENDED")
    assert server.look("s", plan, now_ms=now_ms).held == int(lives)


def test_a_lease_that_is_lost_does_not_lengthen_the_lives_of_others(server: Redis) -> None:
    """What lives on does so for its own ttl."""
    kept, lost = server.acquire("s", ONE_SLOT), Plan("lost", (), Concurrency(1, ttl_ms=90_000))
    leases = [("s", ONE_SLOT, kept.lease_id, NOW_MS), ("s", lost, server.codec.new_lease_id(), NOW_MS)]

    run(server.client, server.codec.renew(leases, 0, NOW_MS))

    assert [server.look("s", ONE_SLOT, now_ms=NOW_MS + ms).held for ms in (4_999, 5_000)] == [1, 0]


def test_a_lease_is_told_from_the_bytes_of_its_neighbours(server: Redis) -> None:
    """The sequence of a lease may stand across two others; it is the third that is given back."""
    nine = Plan("nine", (), Concurrency(9))
    ids = [int.from_bytes(sequence, "little") for sequence in (b"abcdef", b"ghijkl", b"defghi")]
    server.ask([("s", nine, 1, lease_id) for lease_id in ids])

    server.ask([], [("s", ids[2])])

    again = server.ask([("s", nine, 1, lease_id) for lease_id in ids])
    assert [decision.held for decision in again if isinstance(decision, Decision)] == [2, 2, 3]
