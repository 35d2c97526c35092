"""Calls of the scripts on a real server."""

import os
from collections.abc import Sequence
from typing import Any

import redis
from tests.redis_servers import run

from awx_ratelimit import BackendUnavailable, Concurrency, Decision, Plan
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.remote.pending_claims import PlainClaim, ReleasedLease
from awx_ratelimit.core.hold_times import HoldTimes

NOW_MS = 1_700_000_000_000

TEN = Plan.of("ten", per_minute=10)

ONE_SLOT = Plan("one", (), Concurrency(1, ttl_ms=5_000))


class Redis:
    """A codec and a server, with short calls of the scripts."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client
        self.codec = Codec("awx", os.urandom(16))

    def call(
        self, asked: Sequence[PlainClaim], released: Sequence[ReleasedLease] = (), now_ms: int | None = NOW_MS
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
