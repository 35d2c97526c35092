"""Foreign values on a real server: an error for their subject, and for no other."""

import os
import struct
from collections.abc import Sequence

import redis
from hypothesis import given
from hypothesis import strategies as st
from tests import strategies
from tests.redis_servers import RedisServer, run

from awx_ratelimit import BackendUnavailable, Concurrency, Decision, Plan, Rate
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.redis.scripts import Call
from awx_ratelimit.backends.remote.pending_claims import PlainClaim, ReleasedLease
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.settlement import Correction
from awx_ratelimit.errors import StateDamaged

CODEC = Codec("awx", os.urandom(16))
NOW_MS = 1_700_000_000_000
PLAN = Plan("p", (Rate("minute", 60, 60_000), Rate("day", 9, 86_400_000)), Concurrency(9, max_hold_ms=60_000))
#: Plans with different names and units, so that values are parsed and written again.
OTHER = Plan("q", (Rate("day", 7, 50_000_000), Rate("hour", 7, 3_600_000)), Concurrency(9))

damages = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["set", "cut", "add"]), st.binary(min_size=1, max_size=9)),
    max_size=3,
)


def damaged(value: bytes, damage: list[tuple[int, str, bytes]]) -> bytes:
    for place, what, noise in damage:
        at = place % (len(value) + 1)
        rest = {"set": value[at + len(noise) :], "cut": value[at + len(noise) :], "add": value[at:]}[what]
        value = value[:at] + (b"" if what == "cut" else noise) + rest
    return value


@strategies.with_examples(150)
@given(
    damage=damages,
    noise=st.none() | st.binary(max_size=60).map(lambda noise: bytes([2]) + noise),
    number=st.none() | st.tuples(st.integers(4, 250), st.integers(-(2**63), 2**63 - 1)),
    length=st.just(1_000) | st.integers(0, 300),
    now_ms=st.just(NOW_MS + 1) | st.just(NOW_MS - 10**9),
    healed_first=st.booleans(),
)
def test_damaged_value(
    redis_server: RedisServer,
    damage: list[tuple[int, str, bytes]],
    noise: bytes | None,
    number: tuple[int, int] | None,
    length: int,
    now_ms: int,
    healed_first: bool,
) -> None:
    """Any damaged value fails only its subject; others still work, and every key expires."""
    with redis_server.client() as client:
        client.flushall()
        for plan in (OTHER, PLAN, PLAN):
            decide(client, "bad", plan, NOW_MS)
        (held,) = decide(client, "good", PLAN, NOW_MS)
        assert isinstance(held, Decision)
        value = client.get(CODEC.key("bad"))
        assert isinstance(value, bytes)
        if number is not None:
            at = number[0] % len(value)
            value = value[:at] + struct.pack("<q", number[1]) + value[at + 8 :]
        client.set(CODEC.key("bad"), (damaged(value, damage) if noise is None else noise)[:length], px=100_000)
        asked = [(subject, plan, 1, CODEC.new_lease_id()) for plan in (PLAN, OTHER) for subject in ("bad", "good")]
        released = [("bad", 7), ("good", held.lease_id)]

        healed = heal(client, now_ms) if healed_first else []
        answers = answered(client, asked, released, now_ms)

        leases = [
            (decision.subject, decision.plan, decision.lease_id, now_ms)
            for decision in (held, *answers)
            if isinstance(decision, Decision) and decision.lease_id
        ]
        run(client, CODEC.renew(leases, 0, now_ms))
        healed = healed if healed_first else heal(client, now_ms)
        (settled,) = struct.unpack_from("<q", run(client, settlement(now_ms)))
        reset = run(client, CODEC.reset("bad", (), now_ms))
        left = [client.pttl(key) for key in client.scan_iter()]

    good = [answer.allowed for answer in answers[1::2] if isinstance(answer, Decision)]
    bad = {type(answer) for answer in answers[::2]}
    assert good == [True, True]
    assert bad <= {Decision, StateDamaged}
    assert min(left) > 0
    assert settled >= 0 or settled in (-1, -2, -3)
    assert reset in (0, 1, -1, -2, -3)
    assert healed[1::2] == [True, True]
    assert {type(answer) for answer in healed[::2]} <= {bool, StateDamaged}


def settlement(now_ms: int) -> Call:
    changes = [Correction(PLAN.rates[0], -1), Correction(OTHER.rates[0], 1)]
    return CODEC.joint.settle([("bad", changes)], NOW_MS, 0, now_ms, ())


def heal(client: "redis.Redis", now_ms: int) -> list[bool | BackendUnavailable]:
    owed = [(subject, plan, [1, 1], [(1, now_ms)]) for plan in (PLAN, OTHER) for subject in ("bad", "good")]
    return CODEC.parse_heal(owed, run(client, CODEC.heal(owed, b"1", now_ms)))


def decide(client: "redis.Redis", subject: str, plan: Plan, now_ms: int) -> list[Decision | BackendUnavailable]:
    return answered(client, [(subject, plan, 1, CODEC.new_lease_id())], [], now_ms)


def answered(
    client: "redis.Redis", asked: Sequence[PlainClaim], released: Sequence[ReleasedLease], now_ms: int
) -> list[Decision | BackendUnavailable]:
    return CODEC.parse_decisions(
        asked, run(client, CODEC.acquire(asked, released, now_ms)), HoldTimes(), lambda *_: CODEC
    )
