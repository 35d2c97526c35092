"""What a server stores reveals no caller, is short, and expires."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter
from tests.redis_servers import RedisServer

from awx_ratelimit import Caller, Concurrency, Decision, Gate, Limiter, Plan, PlanTable, Rate, Rule, StaticKeys
from awx_ratelimit.backends.redis import RedisBackend
from awx_ratelimit.http.message import Request
from awx_ratelimit.testing.backend_laws.rates import STRANGE_SUBJECTS

PLANS = {
    "two rates and slots": Plan.of("a", per_second=1_000, per_day=100_000, concurrent=5),
    "a rate": Plan.of("b", per_minute=60),
    "a calendar rate": Plan("c", (Rate("day", 100, 86_400_000, refill="calendar"),)),
    "slots": Plan("d", (), Concurrency(5)),
    "slots for a time": Plan("e", (), Concurrency(5, max_hold_ms=60_000)),
    "the longest times": Plan("f", (Rate("age", 1, 2**50, burst=2),), Concurrency(5, ttl_ms=2**52)),
}


#: PTTL of a key that does not exist. One without an expiry has -1.
GONE = -2


def stored(server: RedisServer) -> dict[bytes, tuple[bytes, int]]:
    """Every key of every database, with its value and its time to live in ms (-1: no expiry)."""
    found: dict[bytes, tuple[bytes, int]] = {}
    with server.client() as client:
        for database in range(16):
            client.select(database)
            for key in client.scan_iter("*"):
                value: Any = client.get(key)
                left_ms: Any = client.pttl(key)
                # A release that is sent in the background may delete the key of a plan of slots meanwhile.
                if left_ms != GONE:
                    found[key] = value, left_ms
    return found


def refused(limiter: Any, plan: Plan, decision: Decision) -> None:
    while limiter.acquire(decision.subject, plan):
        pass


#: The last operation on a subject that was charged.
STEPS: dict[str, Callable[[Any, Plan, Decision], Any]] = {
    "acquire": lambda limiter, plan, decision: limiter.acquire(decision.subject, plan),
    "refuse": refused,
    "release": lambda limiter, plan, decision: (limiter.release(decision), limiter.peek(decision.subject, plan)),
    "renew": lambda limiter, plan, decision: limiter.renew_leases(),
    "refund": lambda limiter, plan, decision: limiter.refund(decision),
    "reset": lambda limiter, plan, decision: limiter.reset(decision.subject),
    "change": lambda limiter, plan, decision: limiter.acquire(decision.subject, Plan.of("other", per_hour=10)),
    "health": lambda limiter, plan, decision: limiter.health(),
}


@pytest.mark.parametrize("step", STEPS)
def test_keys_expire(redis_server: RedisServer, open_limiter: OpenLimiter, step: str) -> None:
    """Every key has an expiry after each operation under each plan."""
    limiter = open_limiter(redis_server.socket_url)
    kept = [(plan, limiter.acquire(name, plan)) for name, plan in PLANS.items()]
    for plan, decision in kept:
        STEPS[step](limiter, plan, decision)

    left_ms = [left_ms for _, left_ms in stored(redis_server).values()]
    assert len(left_ms) >= 2
    assert [left for left in left_ms if left < 0] == []


def test_names_of_keys(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A key's name is the prefix and a digest in printable characters, unique for each subject."""
    limiter = open_limiter(redis_server.socket_url, prefix="x" * 64)
    for subject in STRANGE_SUBJECTS:
        limiter.acquire(subject, PLANS["a rate"])

    keys = stored(redis_server)
    named = [key for key in keys if re.fullmatch(rb"x{64}:\{[A-Za-z0-9+/]{22}\}([A-Za-z0-9+/]{22})?", key)]
    assert len(keys) == len(STRANGE_SUBJECTS)
    assert len(named) == len(STRANGE_SUBJECTS)


def request(method: str, path: str, key: bytes | None, peer: str = "203.0.113.77") -> Request:
    sent = [] if key is None else [key]
    return Request(method, path, peer, lambda name: sent if name == b"x-api-key" else [])


def test_subjects_are_not_stored(redis_server: RedisServer) -> None:
    """Neither names nor values contain an API key, a subject or a client's address."""
    limiter = Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    keys: dict[str, str | Caller] = {
        "awx_very-secret-key-1": "starter",
        "awx_very-secret-key-2": Caller("customer-4711", "growth"),
    }
    gate = Gate(
        limiter,
        plans=PlanTable.default(),
        identify=StaticKeys(keys),
        rules=[Rule("/login", budget="login", plan=Plan.of("login", per_minute=5))],
        anonymous=Plan.of("nobody", per_minute=5),
    )
    for key in (*keys, "awx_unknown-secret-key", None):
        for path in ("/private/path", "/login"):
            gate.admit(request("GET", path, None if key is None else key.encode()))
    found = stored(redis_server)
    limiter.close()

    everything = b"\n".join(name + b" " + value for name, (value, _) in found.items())
    words = [
        b"secret",
        b"awx_",
        b"customer",
        b"4711",
        b"203.0.113",
        b"private",
        b"key_",
        b"starter",
        b"growth",
        b"nobody",
    ]
    # Four subjects. Three of them have a record and an index of the scope of the rule too.
    assert len(found) == 10
    assert [word for word in words if word in everything] == []
