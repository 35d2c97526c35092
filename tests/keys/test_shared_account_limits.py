"""An account cannot multiply its plan by creating keys: a gate over the key store decides its keys together."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Gate,
    HostBackend,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Request,
    StoredKeys,
)
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.keys import KeyService, KeyVerifier
from awx_ratelimit.testing import ManualClock

#: Each key could make 30 requests a minute and hold 5 slots by itself.
PLANS = PlanTable(
    [Plan.of("starter", per_minute=30, concurrent=5, account=Plan.of("starter.account", per_minute=60, concurrent=8))]
)
KEYS = 10


class Shop:
    """A gate over stored keys."""

    def __init__(self, gate: Any, run: Callable[[Any], Admission]) -> None:
        self._gate = gate
        self._run = run

    def send(self, key: str) -> Admission:
        """Decide one request."""
        request = Request("GET", "/", "192.0.2.1", lambda name: [key.encode()] if name == b"x-api-key" else [])
        return self._run(self._gate.admit(request))

    def finish(self, admission: Admission) -> None:
        """Free the slots of an admitted request."""
        self._gate.release(admission.decision)


@pytest.fixture(params=["memory", "host"])
def backend(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Iterator[Any]:
    """A backend of each kind that one host can have."""
    made = MemoryBackend(clock=clock) if request.param == "memory" else HostBackend(tmp_path / "limits", clock=clock)
    yield made
    made.close()


@pytest.fixture(params=["Gate", "AsyncGate"])
def shop(request: pytest.FixtureRequest, backend: Any, verifier: KeyVerifier) -> Iterator[Shop]:
    """A gate of each kind."""
    identify = StoredKeys(verifier)
    if request.param == "Gate":
        yield Shop(Gate(Limiter(backend), plans=PLANS, identify=identify), lambda admission: admission)
        return
    with asyncio.Runner() as runner:
        yield Shop(AsyncGate(AsyncLimiter(backend), plans=PLANS, identify=identify), runner.run)


@pytest.fixture
def keys(service: KeyService) -> list[str]:
    """Ten keys of the account acme."""
    return [service.create("acme", f"n{number}").secret.reveal() for number in range(KEYS)]


def refusing(admission: Admission) -> set[str]:
    """The limits that have refused."""
    assert admission.decision is not None
    return {usage.limit for usage in admission.decision.usages if usage.refused}


def test_rates(shop: Shop, keys: list[str], clock: ManualClock) -> None:
    """Ten keys get the 60 requests of the account, and after half a minute 30 more."""

    def admitted() -> int:
        count = 0
        for key in keys * 10:
            admission = shop.send(key)
            if admission.reply is None:
                count += 1
                shop.finish(admission)
            else:
                assert refusing(admission) == {"account.minute"}
        return count

    counts = [admitted()]
    clock.advance(30_000)

    assert [*counts, admitted()] == [60, 30]


def test_slots(shop: Shop, keys: list[str]) -> None:
    """Ten keys hold the 8 slots of the account; a slot that one gives back serves another."""
    answers = [shop.send(key) for key in keys]
    refused = [answer for answer in answers if answer.reply is not None]
    shop.finish(answers[0])

    assert [answer.reply is None for answer in answers] == [True] * 8 + [False] * 2
    assert [refusing(answer) for answer in refused] == [{"account.concurrent"}] * 2
    assert shop.send(keys[9]).reply is None
    assert shop.send(keys[9]).reply is not None


def test_one_key(shop: Shop, keys: list[str]) -> None:
    """One key is still held to its own plan, while its account has more."""
    answers = [shop.send(keys[0]) for _ in range(6)]

    assert [answer.reply is None for answer in answers] == [True] * 5 + [False]
    assert refusing(answers[5]) == {"concurrent"}


def test_rotated_and_deleted_keys(shop: Shop, service: KeyService, keys: list[str]) -> None:
    """New keys in the place of deleted ones, and rotated keys, get nothing new."""
    for key in keys * 6:
        shop.finish(shop.send(key))
    for old in service.all("acme"):
        service.revoke("acme", old.id)
    fresh = service.create("acme", "fresh")
    rotated = service.rotate("acme", fresh.key.id)

    for secret in (fresh.secret, rotated.secret):
        assert refusing(shop.send(secret.reveal())) == {"account.minute"}


def test_other_account(shop: Shop, service: KeyService, keys: list[str]) -> None:
    """What an account has used costs no other account anything."""
    for key in keys * 6:
        shop.finish(shop.send(key))
    service.accounts.create("other", plan="starter")

    assert shop.send(service.create("other", "n").secret.reveal()).reply is None


def test_overrides_of_an_account(shop: Shop, service: KeyService, keys: list[str]) -> None:
    """Overrides of the account change what its keys share, from the next request on."""
    service.accounts.set_overrides("acme", {"account": {"per_minute": 3}})
    answers = [shop.send(key) for key in keys[:4]]

    assert [answer.reply is None for answer in answers] == [True] * 3 + [False]
    assert refusing(answers[3]) == {"account.minute"}
