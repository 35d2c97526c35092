"""Renewals run concurrently with all other changes of leases: no lease is lost, and none is left over."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter, repeated
from tests.machine import eventually
from tests.redis_servers import RedisServer

from awx_ratelimit import Concurrency, Decision, Plan

PLAN = Plan("renewals", (), Concurrency(10_000))
SUBJECTS = [f"s{number}" for number in range(4)]


def held(limiter: Any) -> dict[str, int]:
    """How many slots are in use."""
    return {subject: limiter.peek(subject, PLAN).held for subject in SUBJECTS}


@pytest.mark.parametrize("share", [0.5, 1.0], ids=lambda share: f"{share:.0%} released")
def test_renewals_keep_exactly_the_open_leases(
    redis_server: RedisServer, open_limiter: OpenLimiter, share: float
) -> None:
    """A renewal ends no open lease and no claim in flight, and enters no released lease again."""
    limiter = open_limiter(redis_server.socket_url)

    def claims(seed: int) -> list[Decision]:
        draw, kept = random.Random(seed), []
        for _ in range(100):
            decision = limiter.acquire(draw.choice(SUBJECTS), PLAN)
            if draw.random() < share:
                limiter.give_back(decision)
            else:
                kept.append(decision)
        return kept

    renew = limiter.renew_leases
    with repeated(renew) as first, repeated(renew) as second, ThreadPoolExecutor(8) as threads:
        kept = [decision for decisions in threads.map(claims, range(8)) for decision in decisions]

    expected = dict.fromkeys(SUBJECTS, 0) | Counter(decision.subject for decision in kept)
    assert eventually(lambda: held(limiter), expected) == expected
    assert limiter.health()["lost_leases"] == 0
    assert min(first[0], second[0]) > 1
