"""Joint claims under load: on a cluster while its slots move, and in processes that are killed.

AWX_CHAOS_SECONDS sets the duration of the load.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.chaos.load import SECONDS, TOKENS, add_row
from tests.chaos.test_redis_cluster import TIMEOUT_MS, _migrate
from tests.machine import eventually
from tests.redis_groups import Cluster

from awx_ratelimit import BackendUnavailable, Concurrency, Plan
from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.joint_claim import joint_claim

SLOTS = 4
ACCOUNTS = 3
KEYS = [f"{{acct {account}}}key {number}" for account in range(ACCOUNTS) for number in range(4)]
KEY = Plan("key", (TOKENS,), Concurrency(SLOTS))
ACCOUNT = Plan("account", (TOKENS,), Concurrency(2 * SLOTS))
SERVICE = Plan("service", (TOKENS,), Concurrency(6))

pytestmark = pytest.mark.timeout(90 + 2 * SECONDS)


def _budgets(key: str) -> tuple[Budget, ...]:
    account = key[1 : key.index("}")]
    return Budget(key, KEY), Budget(account, ACCOUNT, "account"), Budget("all", SERVICE, "service")


class JointLoad:
    """Threads that claim a key, its account and the service, hold the slots for a moment, and refund some claims."""

    def __init__(self, limiters: list[Any]) -> None:
        self._limiters = limiters
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.charged: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.refused = 0
        self.failed = 0
        self.holding = 0
        self.most_holding = 0

    def run(self, seconds: float, meanwhile: Callable[[float], int]) -> int:
        """Claim until `meanwhile`, which gets the end of its time, returns. Returns its result."""
        threads = [
            threading.Thread(target=self._act, args=(limiter, seed)) for limiter in self._limiters for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        try:
            return meanwhile(time.monotonic() + seconds)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _act(self, limiter: Any, seed: int) -> None:
        draw = random.Random(seed)
        while not self._over.wait(0.001):
            key, declared = draw.choice(KEYS), draw.random() < 0.5
            try:
                decision = limiter.claim_jointly(joint_claim(_budgets(key), 1, declared=declared))
            except BackendUnavailable:
                with self._lock:
                    self.failed += 1
                    self.unknown[key] += 1
                continue
            if not decision.allowed:
                with self._lock:
                    self.refused += 1
                continue
            self._hold(draw)
            self._finish(limiter, decision, key, free=declared and draw.random() < 0.5)

    def _hold(self, draw: random.Random) -> None:
        with self._lock:
            self.holding += 1
            self.most_holding = max(self.most_holding, self.holding)
        time.sleep(draw.random() / 200)
        with self._lock:
            self.holding -= 1

    def _finish(self, limiter: Any, decision: Any, key: str, *, free: bool) -> None:
        try:
            if free:
                limiter.refund(decision)
        except BackendUnavailable:
            with self._lock:
                self.unknown[key] += 1
            free = False
        limiter.release(decision)
        if not free:
            with self._lock:
                self.charged[key] += 1


def _used(limiter: Any, key: str) -> list[int]:
    """The tokens and the slots in use of each budget of a key."""
    peek = limiter.backend.peek_joint
    usages = peek(joint_claim(_budgets(key), 1)).usages
    return [usage.capacity - usage.remaining for usage in usages]


@pytest.mark.full
def test_joint_claims_while_slots_move(redis_cluster: Cluster, open_limiters: Callable[..., dict[str, Any]]) -> None:
    """While slots move, every budget is charged for the claims that were granted, and all slots are given back."""
    limiters = list(open_limiters(redis_cluster.url, timeout_ms=TIMEOUT_MS).values())
    keys = limiters[0].backend._session.codec.keys
    places = {keys.slot(budget.record) for key in KEYS for budget in _budgets(key)}
    owners = {slot: redis_cluster.owner(slot) for slot in places}
    clients = [server.client() for server in redis_cluster.primaries]
    for key in KEYS:
        limiters[0].release(limiters[0].claim_jointly(joint_claim(_budgets(key), 1)))
    load, moves = JointLoad(limiters), 0

    def move(until_s: float) -> int:
        nonlocal moves
        while time.monotonic() < until_s or moves < 3 * len(owners):
            for slot, owner in owners.items():
                owners[slot] = (owner + 1) % 3
                _migrate(slot, clients, owner, owners[slot], 0.004)
                moves += 1
        return moves

    load.run(SECONDS, move)

    for client in clients:
        client.close()
    expected = {key: load.charged[key] + 1 for key in KEYS}
    idle = eventually(lambda: [used for key in KEYS for used in _used(limiters[0], key)[1::2]], [0] * 3 * len(KEYS))
    used = {key: _used(limiters[0], key)[0] for key in KEYS}
    service, granted = _used(limiters[0], KEYS[0])[4], sum(load.charged.values())
    unknown = sum(load.unknown.values())
    add_row(
        "slots of a cluster move under claims of three budgets",
        f"{moves:,} moves under {granted + load.refused:,} claims, {load.failed} failed; "
        f"at most {load.most_holding} of 6 slots of the service were held",
        "0 over; each budget is charged for the same claims",
    )
    assert granted > 100
    assert load.most_holding <= 6
    assert all(expected[key] <= used[key] <= expected[key] + load.unknown[key] for key in KEYS), (expected, used)
    assert sum(expected.values()) <= service <= sum(expected.values()) + unknown
    assert idle == [0] * 3 * len(KEYS)
