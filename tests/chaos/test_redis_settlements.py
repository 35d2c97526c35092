"""An outage of Redis in the middle of settlements: every claim is settled, and none twice."""

import os
import signal
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.integration.conftest import stopped
from tests.machine import eventually
from tests.redis_servers import running_redis

from awx_ratelimit import Budget, Decision, Plan, Rate
from awx_ratelimit.core.joint_claim import JointClaim, joint_claim

BUDGET_MS = 300
RECOVERY_S = 20.0
CLAIMS = 320
TOKENS = 1_000_000
KEY = Plan("key", (Rate("year", TOKENS, period="year"),))
ACCOUNT = Plan("account", (Rate("year", TOKENS, period="year", measure="tokens"),))
ESTIMATE = 10
#: It keeps every charge that it has confirmed.
DURABLE = ("--appendonly yes", "--appendfsync always")
Open = Callable[..., dict[str, Any]]


class Claim(NamedTuple):
    """A claim that Redis has charged, and what it turned out to cost."""

    limiter: Any
    decision: Decision
    cost: int


def claim_of(key: int, cost: int, *, declared: bool = False) -> JointClaim:
    """A claim of a key and its account."""
    budgets = Budget(f"key-{key}", KEY), Budget("acme", ACCOUNT, "account")
    return joint_claim(budgets, {"requests": cost, "tokens": cost}, declared=declared)


def claims_of(limiters: dict[str, Any]) -> list[Claim]:
    """Claims of both kinds of limiters; half of them are declared."""
    made = []
    for number in range(CLAIMS):
        limiter = [*limiters.values()][number % 2]
        asked = claim_of(number % 3, ESTIMATE, declared=number % 4 < 2)
        while (decision := limiter.claim_jointly(asked)).plan is not KEY:
            # On a busy machine, Redis was late and the guard has decided.
            assert eventually(lambda: is_healed(limiters), expected=True, seconds=RECOVERY_S)
        made.append(Claim(limiter, decision, (0, 3, 10, 25, 90)[number % 5]))
    return made


def settle_all(claims: list[Claim], interrupt: Callable[[], None]) -> None:
    """Settle all claims from four threads, and interrupt them when a quarter is done."""
    numbers, quarter = count(), threading.Event()

    def settle() -> None:
        while (number := next(numbers)) < len(claims):
            if number > len(claims) / 4:
                quarter.set()
            limiter, decision, cost = claims[number]
            limiter.settle(decision, {"requests": cost, "tokens": cost})

    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    quarter.wait()
    interrupt()
    for thread in threads:
        thread.join()


def kept(limiters: dict[str, Any]) -> int:
    """The number of settlements that wait for the end of the outage."""
    return sum(len(limiter.backend._fallback.late) for limiter in limiters.values())


def is_healed(limiters: dict[str, Any]) -> bool:
    """Let the guards probe Redis. Returns whether they have sent everything that they kept."""
    for limiter in limiters.values():
        limiter.peek("probe", KEY)
    guards = [limiter.backend._fallback for limiter in limiters.values()]
    return all(guard.is_idle and not guard.late and not guard._reconciling.is_busy for guard in guards)


def used(limiter: Any) -> tuple[int, int]:
    """The tokens that Redis has charged: to all keys, and to the account."""
    decisions = [limiter.claim_jointly(claim_of(key, 0)) for key in range(3)]
    by_key = sum(TOKENS - decision.usages[0].remaining for decision in decisions)
    return by_key, TOKENS - decisions[0].usages[1].remaining


@pytest.mark.parametrize("event", ["hangs", "dies"])
def test_settlements_survive_an_outage(tmp_path: Path, event: str, open_guarded: Open, open_limiters: Open) -> None:
    """Every budget is charged exactly what the claims have cost, whatever the server got before the outage."""
    with running_redis(tmp_path, options=DURABLE) as server:
        limiters, other = open_guarded(server.url, budget_ms=BUDGET_MS), open_limiters(server.url)["threads"]
        claims = claims_of(limiters)
        before = used(other)

        def hang() -> None:
            with stopped(server):
                eventually(lambda: kept(limiters) > CLAIMS / 4, expected=True, seconds=RECOVERY_S)

        settle_all(claims, hang if event == "hangs" else lambda: os.kill(server.pid, signal.SIGKILL))
        waiting = kept(limiters)
        if event == "hangs":
            healed, after = eventually(lambda: is_healed(limiters), expected=True, seconds=RECOVERY_S), used(other)
    if event == "dies":
        with running_redis(tmp_path, options=DURABLE, port=server.port):
            healed, after = eventually(lambda: is_healed(limiters), expected=True, seconds=RECOVERY_S), used(other)

    more = sum(claim.cost - ESTIMATE for claim in claims)
    assert waiting > 0 or event == "hangs"
    assert healed is True
    assert after == (before[0] + more, before[1] + more)
    assert [limiter.health()["lost_settlements"] for limiter in limiters.values()] == [0, 0]
