import os
import struct
from dataclasses import replace

import pytest

from awx_ratelimit import STARTER, BackendUnavailable, Concurrency, Decision, InvalidLimit, Plan, Rate
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.redis.plan_encoding import MAX_RATES
from awx_ratelimit.backends.remote.dialect import Renewal
from awx_ratelimit.backends.remote.encoding import MAX_TIME_MS, SEQUENCE_BITS
from awx_ratelimit.core.budget import Record, ScopedSubject
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.rate import EXACT_MAX
from awx_ratelimit.testing.backend_laws.rates import STRANGE_SUBJECTS

OWNER = bytes(range(16))
RATES = Plan.of("rates", per_minute=60)


@pytest.fixture
def codec() -> Codec:
    return Codec("awx", OWNER)


def reply(*answers: tuple[int, ...]) -> bytes:
    return b"".join(struct.pack(f"<{len(answer)}q", *answer) for answer in answers)


def test_keys_are_short_and_unique(codec: Codec) -> None:
    """Each subject has its own short key, which reveals nothing about it."""
    keys = [codec.key(subject) for subject in STRANGE_SUBJECTS]

    assert len({*keys}) == len(STRANGE_SUBJECTS)
    assert {len(key) for key in keys} == {28, 50}


def test_key_in_a_place(codec: Codec) -> None:
    """A subject that begins with the name of another in braces has the slot of that one, and its own key."""
    subjects: list[Record] = ["{acme}key_1", "{acme}key_2", "{acme}", ScopedSubject("{acme}key_1", "login"), "acme"]

    keys = [codec.key(subject) for subject in subjects]

    assert len({*keys}) == len(keys)
    assert len({codec.keys.slot(subject) for subject in subjects}) == 1


def test_keys_of_scopes(codec: Codec) -> None:
    """A subject and its scopes share a slot; neither a scope nor another subject has the key of their index."""
    records: list[Record] = ["s", ScopedSubject("s", "scopes"), ScopedSubject("s", "a"), "s:a", "s::scopes"]
    keys = {codec.key(record) for record in records}

    assert len(keys | {codec.keys.index("s")}) == len(records) + 1
    assert len({codec.keys.slot(record) for record in records[:3]}) == 1


def test_key_has_a_hash_tag(codec: Codec) -> None:
    """Only the digest chooses the slot on a cluster; every process uses the same key."""
    keys = {Codec("awx", os.urandom(16)).key("key_1"), codec.key("key_1")}

    assert keys == {b"awx:{KBeI1pLoOMZrAJVP4e6K8A}"}


@pytest.mark.parametrize("released", [[], [("a", 1)], [("s", 1), ("s", 2)], [("a", 1), ("a", 2), ("b", 3), ("s", 4)]])
@pytest.mark.parametrize("now_ms", [None, 1_700_000_000_000])
def test_one_claim(codec: Codec, released: list[tuple[Record, int]], now_ms: int | None) -> None:
    """The short way of a claim that is alone makes the same call as the way of many claims."""
    claim = "s", STARTER, 3, 7

    assert codec.acquire([claim], released, now_ms) == codec._acquire_many([claim], released, now_ms)
    assert codec._acquire_one(claim, released, now_ms) == codec._acquire_many([claim], released, now_ms)


@pytest.mark.parametrize("prefix", ["x" * 65, "a{b", "}", "\u00e4" * 33])
def test_prefix_is_checked(prefix: str) -> None:
    """A prefix that is too long or has braces raises an error that says what is expected."""
    with pytest.raises(ValueError, match="expected at most 64 bytes without braces"):
        Codec(prefix, OWNER)


def test_owner_is_checked() -> None:
    """An owner of another length raises ValueError."""
    with pytest.raises(ValueError, match="expected 16"):
        Codec("awx", b"short")


def test_heal_keys_depend_on_the_subject_only(codec: Codec) -> None:
    """A retry uses the same keys when slots of a cluster have moved, also for a subject that appears twice."""
    twice, other = [(subject, RATES, [1], list[tuple[int, int]]()) for subject in "st"]
    together = codec.heal([other, twice, twice], b"id").keys
    apart = codec.heal([twice, twice], b"id").keys

    assert together[2:] == apart
    assert len({*apart}) == 3


def test_lease_ids_are_unique(codec: Codec) -> None:
    """Ids of one codec differ in their sequence, ids of two codecs in their owner, and no id is 0."""
    ids = [codec.new_lease_id() for _ in range(3)]

    owners = {lease_id >> SEQUENCE_BITS for lease_id in ids}
    sequences = [lease_id & (1 << SEQUENCE_BITS) - 1 for lease_id in ids]
    assert owners == {int.from_bytes(OWNER)}
    assert sequences == [1, 2, 3]


def test_a_plan_is_sent_once_per_call(codec: Codec) -> None:
    """Claims with the same plan share one argument."""
    asked = [("a", STARTER, 1, 1), ("b", RATES, 1, 2), ("c", STARTER, 1, 3)]

    call = codec.acquire(asked, [("d", 4)])

    places = [struct.unpack_from("<H", call.args[0], 26 + 8 + 20 * index + 16)[0] for index in range(3)]
    assert len(call.args) == 3
    assert places == [2, 3, 2]
    assert call.keys == [codec.key(subject) for subject in "dabc"]


def test_releases_share_the_key_of_a_claim(codec: Codec) -> None:
    """A release travels with the first claim of its subject; other releases come first, with their own keys."""
    asked = [("a", STARTER, 1, 11), ("a", STARTER, 1, 12), ("b", STARTER, 1, 13)]

    call = codec.acquire(asked, [("c", 3), ("a", 1), ("a", 2)])

    _, _, alone, *rest = struct.unpack("<d16sH Q QdHHQQ QdHH QdHH", call.args[0])
    assert alone == 1
    assert rest == [3, 11, 1, 2, 2, 1, 2, 12, 1, 2, 0, 13, 1, 2, 0]
    assert call.keys == [codec.key(subject) for subject in "caab"]


def test_plans_are_encoded_once(codec: Codec) -> None:
    """The encoding of a plan is cached while the plan is in use."""
    plan = replace(STARTER)
    first, second = (codec.acquire([("s", plan, 1, 1)]).args[1] for _ in range(2))

    assert first is second


@pytest.mark.parametrize("now_ms", [-MAX_TIME_MS - 1, MAX_TIME_MS + 1, 10**400])
def test_inexact_times_are_refused(codec: Codec, now_ms: int) -> None:
    """A time beyond 2**52 ms raises ValueError before anything is sent."""
    with pytest.raises(ValueError, match="clock: expected"):
        codec.acquire([("s", STARTER, 1, 1)], (), now_ms)


def test_too_many_rates_are_refused(codec: Codec) -> None:
    """A plan with more rates than a script has bits raises InvalidLimit with the maximum."""
    plan = Plan("many", tuple(Rate(f"r{number}", 1, 1_000) for number in range(MAX_RATES + 1)))

    with pytest.raises(InvalidLimit, match="at most 50"):
        codec.acquire([("s", plan, 1, 1)])


@pytest.mark.parametrize(
    "plan",
    [
        Plan("p", (Rate("x", 2**70, 2**70, burst=1),), Concurrency(2**70, ttl_ms=2**70, max_hold_ms=2**70)),
        Plan("q", (Rate("x" * 32, EXACT_MAX, 1),)),
    ],
    ids=str,
)
def test_huge_numbers_are_capped(codec: Codec, plan: Plan) -> None:
    """Every valid plan can be sent, in a claim and in a renewal."""
    codec.acquire([("s", plan, 1, 1)])

    assert not plan.slot_bit or codec.renew([("s", plan, 1, 0)]).keys == [codec.key("s")]


def test_replies_become_decisions_in_order(codec: Codec) -> None:
    """An admitted claim has a lease and a holder; a refused claim and a peek have neither."""
    asked = [("a", STARTER, 1, 11), ("b", STARTER, 1, 12), ("c", STARTER, 1, 0), ("d", RATES, 1, 14)]
    answers = (5_000, 0, 1, 60, 5, 8, 5), (5_000, 4, 5, 0, 5, 0, 5), (5_000, 0, 1, 0, 5, 0, 5), (5_000, 0, 0, 9, 5)

    decisions = codec.parse_decisions(asked, reply(*answers), HoldTimes(), lambda *_: codec)

    good = [decision for decision in decisions if isinstance(decision, Decision)]
    assert [(d.subject, d.allowed, d.lease_id, d.holder is codec, d.held) for d in good] == [
        ("a", True, 11, True, 1), ("b", False, 0, False, 5), ("c", True, 0, False, 1), ("d", True, 0, True, 0),
    ]  # fmt: skip
    assert [(d.levels, d.retry_after_ms) for d in good][:2] == [([60, 5, 8, 5], 0), ([0, 5, 0, 5], 1_000)]


def test_exceeded_shadow_slots_take_no_lease(codec: Codec) -> None:
    """The claim is admitted and can be refunded, but has no lease to release."""
    plan = Plan("p", (Rate("x", 9, 1_000),), Concurrency(1, shadow=True))

    (decision,) = codec.parse_decisions([("s", plan, 1, 7)], reply((5_000, 2, 1, 9, 5)), HoldTimes(), lambda *_: codec)

    assert isinstance(decision, Decision)
    assert decision.allowed is True
    assert decision.lease is None
    assert decision.holder == codec


@pytest.mark.parametrize(
    ("code", "words"), [(-1, "does not hold a string"), (-2, "of another program"), (-3, "corrupt")]
)
def test_a_foreign_value_fails_one_claim(codec: Codec, code: int, words: str) -> None:
    """The error names the key and a remedy, and the next decision is read correctly."""
    asked = [("a", STARTER, 1, 11), ("b", RATES, 1, 12)]

    wrong, right = codec.parse_decisions(
        asked, reply((5_000, code, 0, 0, 0, 0, 0), (5_000, 0, 0, 9, 5)), HoldTimes(), lambda *_: codec
    )

    assert isinstance(wrong, BackendUnavailable)
    assert words in str(wrong)
    assert codec.key("a").decode() in str(wrong)
    assert bool(right) is True


def test_a_failed_reset_raises(codec: Codec) -> None:
    """A code below 0 raises BackendUnavailable; others say whether there was a record."""
    assert codec.reset_outcome("s", 0) is False
    assert codec.reset_outcome("s", 1) is True

    with pytest.raises(BackendUnavailable, match="corrupt"):
        codec.reset_outcome("s", -3)


def test_renewals_are_matched_to_leases(codec: Codec) -> None:
    """Leases of one subject are sent together, and each result is matched to its lease."""
    held = [("a", STARTER, 1, 0), ("b", STARTER, 2, 0), ("a", STARTER, 3, 0)]

    call = codec.renew(held)

    assert call.keys == [codec.key("a"), codec.key("b")]
    renewals = codec.parse_renewals(held, b"\x01\x02\x00")
    assert renewals == [(held[0], Renewal.RENEWED), (held[2], Renewal.TAKEN_AGAIN), (held[1], Renewal.LOST)]
