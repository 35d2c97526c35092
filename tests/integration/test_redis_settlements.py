"""Settlements on a real server whose answers are lost, or that arrive late: each claim is settled once."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter, stopped
from tests.integration.redis_scripts import NOW_MS, Redis
from tests.redis_servers import RedisServer, StartRedis, run

from awx_ratelimit import BackendUnavailable, Budget, Plan, Rate
from awx_ratelimit.backends.remote.encoding import encode_calendar
from awx_ratelimit.backends.remote.pending_claims import PendingJoint
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import joint_claim
from awx_ratelimit.core.settlement import Correction

YEAR = Plan("year", (Rate("year", 100, period="year"),))
CALENDARS = [(encode_calendar(YEAR.rates[0]), NOW_MS)]
#: Calls of one settlement, in the order in which they arrive: whether each was sent again. All but the first were.
ARRIVALS = [(False,), (True,), (False, True), (True, False), (True, True), (True, False, True), (True, True, False)]


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Redis]:
    with redis_server.client() as client:
        yield Redis(client)


def declared(server: Redis) -> int:
    """Make a declared claim of 10 tokens, and return its id."""
    claim_id = server.codec.new_lease_id()
    claim = PendingJoint("s", joint_claim((Budget("s", YEAR),), 10, declared=True), (), claim_id)
    call = server.codec.joint.acquire([claim], [], NOW_MS, NOW_MS)
    server.codec.joint.parse_decisions([claim], run(server.client, call), HoldTimes(), lambda *_: server)
    return claim_id


def settled(server: Redis, claim_id: int, tokens: int, *, again: bool) -> None:
    settlements = [("s", [Correction(YEAR.rates[0], tokens)])]
    call = server.codec.joint.settle(settlements, NOW_MS, claim_id, NOW_MS, CALENDARS, again=again)
    server.codec.joint.parse_settled(settlements, run(server.client, call))


def left(server: Redis) -> int:
    claim = PendingJoint("s", joint_claim((Budget("s", YEAR),), 0), (), 0)
    call = server.codec.joint.acquire([claim], [], NOW_MS, NOW_MS)
    (decision,) = server.codec.joint.parse_decisions([claim], run(server.client, call), HoldTimes(), lambda *_: server)
    remaining: int = decision.usages[0].remaining  # type: ignore[union-attr]
    return remaining


@pytest.mark.parametrize("tokens", [7, -4])
@pytest.mark.parametrize("arrivals", ARRIVALS)
def test_a_declared_claim_is_settled_once(server: Redis, arrivals: tuple[bool, ...], tokens: int) -> None:
    """The first call that arrives settles it, also if the call before it arrives last; other claims stay open."""
    other, claim_id = declared(server), declared(server)
    for again in arrivals:
        settled(server, claim_id, tokens, again=again)
    once = left(server)
    settled(server, other, tokens, again=True)

    assert once == 80 - tokens
    assert left(server) == 80 - 2 * tokens


@pytest.mark.parametrize("tokens", [7, -4])
@pytest.mark.parametrize("times", [1, 2])
def test_any_other_claim_is_settled_once(server: Redis, times: int, tokens: int) -> None:
    """A claim that was not declared is settled by the first call that arrives."""
    declared(server)
    claim_id = server.codec.new_lease_id()
    for _ in range(times):
        settled(server, claim_id, tokens, again=False)

    assert left(server) == 90 - tokens


def test_a_forgotten_claim_keeps_its_charge(server: Redis) -> None:
    """If a declared claim is not open any more, a call that is sent again does nothing: it may have been settled."""
    claim_id = declared(server)
    server.client.flushall()
    for _ in range(2):
        settled(server, claim_id, 7, again=True)

    assert left(server) == 100


def not_sent(*_: Any) -> None:
    raise BackendUnavailable("not sent")


@pytest.mark.parametrize("is_declared", [False, True])
def test_settle_can_be_called_again(
    start_redis: StartRedis, open_limiter: OpenLimiter, monkeypatch: pytest.MonkeyPatch, *, is_declared: bool
) -> None:
    """Without a guard, `settle` raises in an outage and does not use up the once, whether the server got it or not."""
    server = start_redis()
    limiter = open_limiter(server.socket_url, timeout_ms=200)
    joint = joint_claim((Budget("s", YEAR),), 10, declared=is_declared)
    got, missed = (limiter.claim_jointly(joint) for _ in range(2))
    with stopped(server), pytest.raises(BackendUnavailable):
        limiter.settle(got, 15)
    with monkeypatch.context() as patched:
        patched.setattr(limiter.backend._channels, "call", not_sent)
        with pytest.raises(BackendUnavailable):
            limiter.settle(missed, 12)
    for _ in range(2):
        limiter.settle(got, 15)
        limiter.settle(missed, 12)

    assert limiter.peek("s", YEAR).usages[0].remaining == 73
