"""How long the scripts keep leases on a real server, and how they repair them."""

from collections.abc import Iterator

import pytest
from tests.integration.redis_scripts import NOW_MS, ONE_SLOT, Redis
from tests.redis_servers import RedisServer, run

from awx_ratelimit import Concurrency, Decision, Plan


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Redis]:
    with redis_server.client() as client:
        yield Redis(client)


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


def test_renewal_of_a_lost_lease(server: Redis) -> None:
    """A renewal takes a lease again that a failover lost, unless other leases have taken the slot."""
    two = Plan("two", (), Concurrency(2))
    decisions = [server.acquire("s", two) for _ in range(2)]
    server.client.delete(server.codec.key("s"))
    server.acquire("s", two)
    held = [("s", two, decision.lease_id, NOW_MS) for decision in decisions]

    renewals = server.codec.parse_renewals(held, run(server.client, server.codec.renew(held, 0, NOW_MS)))

    assert [renewal.name for _, renewal in renewals] == ["TAKEN_AGAIN", "LOST"]
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


@pytest.mark.parametrize("passed_ms", [799, 800])
def test_lost_lease_after_max_hold(server: Redis, passed_ms: int) -> None:
    """A lost lease is not taken again later than `max_hold_ms` after it was granted."""
    plan = Plan("bounded", (), Concurrency(1, max_hold_ms=800))
    held = server.acquire("s", plan)
    server.client.delete(server.codec.key("s"))
    leases, now_ms = [("s", plan, held.lease_id, held.decided_at_ms)], NOW_MS + passed_ms

    renewals = server.codec.parse_renewals(leases, run(server.client, server.codec.renew(leases, 0, now_ms)))

    lives = passed_ms < 800
    assert renewals[0][1].name == ("TAKEN_AGAIN" if lives else "ENDED")
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
