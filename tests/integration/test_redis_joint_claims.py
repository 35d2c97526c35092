"""Claims of several budgets on real servers: calls, batches, leases, clocks, and the slots of a cluster."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter
from tests.integration.test_redis_batching import script_calls, together
from tests.machine import eventually
from tests.redis_groups import Cluster
from tests.redis_servers import RedisServer, StartRedis

from awx_ratelimit import Concurrency, Decision, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.backends.redis.plan_encoding import MAX_RATES
from awx_ratelimit.core.budget import Budget, ScopedSubject
from awx_ratelimit.core.joint_claim import JointClaim, joint_claim
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.testing import ManualClock

KEY = Plan.of("key", per_minute=60, concurrent=5)
ACCOUNT = Plan("account", (Rate("day", 1_000, 86_400_000),), Concurrency(3))
SERVICE = Plan("service", (Rate("second", 5_000, 1_000),), Concurrency(9))
MONTH = Plan.of("month", per_month=1_000)
DAY_MS = 86_400_000


def claim_of(key: str, *, declared: bool = False, cost: int = 1) -> JointClaim:
    """A claim of a key, its account and the service."""
    budgets = Budget(key, KEY), Budget("acme", ACCOUNT, "account"), Budget("all", SERVICE, "service")
    return joint_claim(budgets, cost, declared=declared)


def remaining(limiter: Any, key: str) -> list[int]:
    """What remains of every limit of a claim's budgets."""
    peek = limiter.backend.peek_joint
    decision = limiter.portal.call(peek, claim_of(key)) if hasattr(limiter, "portal") else peek(claim_of(key))
    return [usage.remaining for usage in decision.usages]


def test_three_budgets_are_one_call(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A claim of three budgets is one call of one script, and so is its settlement."""
    limiter = open_limiter(redis_server.socket_url)
    plan = Plan.of("rates", per_minute=60)
    budgets = Budget("s", plan), Budget("acme", plan, "account"), Budget("all", plan, "service")
    # The server gets each script with its first call.
    limiter.refund(limiter.claim_jointly(joint_claim(budgets, 1)))
    script_calls(redis_server)

    decisions = [limiter.claim_jointly(joint_claim(budgets, 1, declared=True)) for _ in range(10)]
    claims = script_calls(redis_server)
    for decision in decisions:
        limiter.refund(decision)

    assert claims == 10
    assert script_calls(redis_server) == 10
    assert [usage.remaining for usage in limiter.claim_jointly(joint_claim(budgets, 1)).usages] == [59] * 3


def test_records_of_several_later_months(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """After the clock was set back, a claim drains records that were last charged in different months to come."""
    clock = ManualClock()
    limiter, memory = open_limiter(redis_server.socket_url, clock=clock), Limiter(MemoryBackend(clock=clock))
    budgets = Budget("s", MONTH), Budget("acme", MONTH, "account"), Budget("all", MONTH, "service")
    for budget in budgets:
        clock.advance(40 * DAY_MS)
        for each in (limiter, memory):
            each.claim_jointly(joint_claim((budget,), 5))
    clock.set(clock.now_ms() - 101 * DAY_MS)
    redis, model = (each.claim_jointly(joint_claim(budgets, 1)) for each in (limiter, memory))

    assert redis.usages == model.usages


def test_joint_claims_share_calls(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """Plain and joint claims that arrive together are decided by one call of each kind."""
    server = start_redis()
    limiter = open_limiter(server.socket_url)
    limiter.claim_jointly(claim_of("known"))
    limiter.acquire("known", KEY)
    script_calls(server)

    claims = [partial(limiter.claim_jointly, claim_of(f"key_{number % 2}")) for number in range(6)]
    claims += [partial(limiter.acquire, f"plain_{number}", KEY) for number in range(6)]
    decisions = together(server, limiter, claims, in_order=False)

    # With the two that were alone. The account has room for three leases, and one is held.
    assert sum(decision.allowed for decision in decisions[:6]) == 2
    assert [decision.allowed for decision in decisions[6:]] == [True] * 6
    assert script_calls(server) == 4


def test_malformed_joint_claims_fail_alone(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """A claim that cannot be sent raises before it joins a batch; the others of the batch are decided."""
    server = start_redis()
    limiter = open_limiter(server.socket_url)
    records: Any = ("s", 7, "t")
    many = claim_of("s")._replace(records=tuple(f"s{number}" for number in range(33)))
    large = Plan("large", tuple(Rate(f"r{number}", 9, 1_000) for number in range(MAX_RATES + 1)))
    claims: list[Callable[[], Any]] = [
        partial(limiter.claim_jointly, many),
        partial(limiter.claim_jointly, joint_claim((Budget("s", KEY), Budget("t", large, "x")), 1)),
        partial(limiter.claim_jointly, "claim"),
        partial(limiter.claim_jointly, claim_of("s")._replace(records=records)),
    ]
    kinds: list[type[Exception]] = [ValueError, InvalidLimit, TypeError, AttributeError]
    for malformed, kind in zip(claims, kinds, strict=True):
        with pytest.raises(kind):
            malformed()

    decisions = together(server, limiter, [partial(limiter.claim_jointly, claim_of("s")) for _ in range(2)])

    assert [decision.allowed for decision in decisions] == [True, True]


def test_renewal_of_all_records(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A renewal keeps the slots of every budget; a lease that has lost one gives the others back."""
    clock = ManualClock(1_700_000_000_000)
    limiter = open_limiter(redis_server.socket_url, clock=clock)
    kept, lost = limiter.claim_jointly(claim_of("key_1")), limiter.claim_jointly(claim_of("key_2"))
    for _ in range(5):
        clock.advance(10_000)
        limiter.renew_leases()
    held = remaining(limiter, "key_1")[1::2], remaining(limiter, "key_2")[1]
    with redis_server.client() as client:
        client.delete(limiter.backend._session.codec.key("key_2"))
    other = open_limiter(redis_server.socket_url, clock=clock)
    full = Plan.of("key", per_minute=60, concurrent=1)
    taken = other.acquire("key_2", full)
    limiter.release(kept)
    limiter.backend._session.leases._open[lost.lease_id].slots = tuple(
        (record, full if record == "key_2" else plan)
        for record, plan in limiter.backend._session.leases._open[lost.lease_id].slots
    )

    limiter.renew_leases()

    assert held == ([4, 1, 7], 4)
    assert taken.allowed is True
    assert eventually(lambda: remaining(limiter, "key_1")[1::2], [5, 3, 9]) == [5, 3, 9]


@pytest.mark.parametrize("ahead_days", [-40, 40])
def test_calendar_by_the_servers_clock(redis_server: RedisServer, open_limiter: OpenLimiter, ahead_days: int) -> None:
    """The server's clock chooses the month, whatever this machine's clock says; the claim is sent twice once."""
    limiter = open_limiter(redis_server.socket_url)
    limiter.acquire("s", MONTH)
    limiter.backend._session.present._ahead_ms = ahead_days * DAY_MS
    script_calls(redis_server)

    decisions = [limiter.acquire("s", MONTH) for _ in range(3)]

    assert script_calls(redis_server) == 4
    assert [decision.usages[0].remaining for decision in decisions] == [998, 997, 996]


def test_settlement_by_the_servers_clock(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A settlement with the wrong month is sent again with the right one."""
    limiter = open_limiter(redis_server.socket_url)
    decision = limiter.acquire("s", MONTH, 10)
    limiter.backend._session.present._ahead_ms = 40 * DAY_MS

    limiter.settle(decision, 30)

    assert limiter.peek("s", MONTH).usages[0].remaining == 970


def test_replayed_scopes_and_measures(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """What a fallback decided for a scope and for other measures is added to their debts, and a reset finds it."""
    limiter = open_limiter(redis_server.socket_url)
    plan = Plan("p", (Rate("tokens", 100, 60_000, measure="tokens"), Rate("month", 50, period="month")))
    record = ScopedSubject("s", "login")

    limiter.backend.heal([(record, plan, [30 * 60_000, 20], [])], b"once")

    def used() -> list[int]:
        claim = joint_claim((Budget("s", plan, "login"),), {"requests": 0, "tokens": 0})
        return [usage.capacity - usage.remaining for usage in limiter.claim_jointly(claim).usages]

    before = used()
    limiter.reset("s")
    assert before[0] in (29, 30)
    assert before[1] == 20
    assert used() == [0, 0]


def test_parts_of_a_refused_claim_are_given_back(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """On a cluster, a claim that one slot refuses is given back exactly by the others, with its leases."""
    limiter = open_limiter(redis_cluster.url)
    held = [limiter.claim_jointly(claim_of(f"key_{number}")) for number in range(3)]

    refused = [limiter.claim_jointly(claim_of(f"key_{number}", cost=7)) for number in range(12)]

    assert [decision.allowed for decision in held] == [True] * 3
    assert {tuple(usage.limit for usage in each.usages if usage.refused) for each in refused} == {
        ("account.concurrent",)
    }
    after = [remaining(limiter, f"key_{number}")[:2] for number in range(12)]
    assert eventually(lambda: [remaining(limiter, f"key_{n}")[1] for n in range(12)], [4] * 3 + [5] * 9)
    assert [minute for minute, _ in after] == [59] * 3 + [60] * 9
    assert remaining(limiter, "key_0")[2] == 997


def test_open_claims_of_parts_are_forgotten(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """On a cluster, an allowed claim of several slots leaves no open claims behind."""
    limiter = open_limiter(redis_cluster.url)
    decisions: list[Decision] = [limiter.claim_jointly(claim_of(f"key_{number}")) for number in range(3)]

    def open_values() -> int:
        clients = [server.client() for server in redis_cluster.primaries]
        kinds = [client.type(key) for client in clients for key in client.scan_iter()]
        for client in clients:
            client.close()
        return kinds.count(b"hash")

    assert all(decision.allowed for decision in decisions)
    assert eventually(open_values, 0) == 0


def test_a_placed_key_is_one_call(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """A key that names its account in braces is charged with it in one call, on a cluster too."""
    limiter = open_limiter(redis_cluster.url)
    budgets = Budget("{acme}key_1", KEY), Budget("acme", ACCOUNT, "account")
    session = limiter.backend._session

    assert session.is_one_call(joint_claim(budgets, 1)) is True
    assert limiter.claim_jointly(joint_claim(budgets, 1)).allowed is True
