"""``usage`` and ``reset`` with a key store: the limits are those that the gate would apply."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

from awx_ratelimit import Budget, Limiter, PlanTable
from awx_ratelimit.backends.open import open_backend
from awx_ratelimit.keys import KeyService

PLANS = """
[plans.starter]
per_day = 1_000
[plans.starter.account]
per_day = 5_000
[plans.solo]
per_minute = 5
"""
Words = Callable[..., Any]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a host file with the limits of this test."""
    url = f"host://{tmp_path}/limits"
    Limiter(open_backend(url)).close()
    return url


@pytest.fixture
def capacities(run: Run, tmp_path: Path, database: str, url: str, service: KeyService) -> Words:
    """Runs ``usage`` with the store; returns the capacity of each limit."""
    (tmp_path / "plans.toml").write_text(PLANS)
    always = ("--plans", f"{tmp_path}/plans.toml", "--backend", url, "--database", database, "--json")

    def read(*words: str) -> dict[str, int]:
        return {one["limit"]: one["capacity"] for one in run("usage", *words, *always).json["limits"]}

    return read


def test_overrides_of_the_account(capacities: Words, service: KeyService) -> None:
    """``--account`` applies what the key store has for the account: of each key, and of all its keys."""
    service.accounts.set_overrides("acme", {"per_day": 70, "account": {"per_day": 90}})

    assert capacities("alice", "--account", "acme") == {"account.day": 90, "day": 70}


def test_temporary_overrides(capacities: Words, service: KeyService) -> None:
    """Temporary limits apply until their end."""
    service.accounts.override("acme", {"times": 2}, until=datetime.now(UTC) + timedelta(days=1))

    assert capacities("alice", "--account", "acme") == {"account.day": 10_000, "day": 2_000}


def test_key(capacities: Words, run: Run, service: KeyService) -> None:
    """The ID of a key stands for its account, also that of a revoked key."""
    key = service.create("acme", "n").key
    service.accounts.set_overrides("acme", {"per_day": 70})
    service.revoke("acme", key.id)

    assert capacities(key.id) == {"account.day": 5_000, "day": 70}


def test_rotated_key(run: Run, service: KeyService, database: str, url: str) -> None:
    """A rotated key shares the usage of its family: ``usage`` shows it, and ``reset`` clears it."""
    old = service.create("acme", "n").key
    new = service.rotate("acme", old.id).key
    limiter = Limiter(open_backend(url))
    limiter.release(limiter.acquire(old.id, PlanTable.default().plans[0]))
    limiter.close()
    words = (new.id, "--backend", url, "--database", database)

    before = run("usage", *words, "--json").json
    ran = run("reset", *words)
    after = run("usage", *words, "--json").json

    assert before["subject"] == old.id
    assert [one["used"] for one in before["limits"]] == [1, 1, 0]
    assert ran.err == f"usage of {old.id} reset, which {new.id} shares\n"
    assert [one["used"] for one in after["limits"]] == [0, 0, 0]


def test_plan_option(capacities: Words, service: KeyService) -> None:
    """--plan replaces the plan of the store; a plan that shares no limit needs no --no-account."""
    assert capacities("alice", "--account", "acme", "--plan", "solo") == {"minute": 5}


def test_no_key(capacities: Words) -> None:
    """A subject that is no key is used as it is: an app may have other callers too."""
    assert capacities("alice", "--plan", "solo") == {"minute": 5}


def test_unknown(run: Run, service: KeyService, database: str, url: str) -> None:
    """An unknown account, and a key of another account, are errors on one line."""
    service.accounts.create("other")
    key = service.create("acme", "n").key
    words = ("--backend", url, "--database", database)
    unknown = run("usage", "alice", "--account", "acne", *words)
    foreign = run("usage", key.id, "--account", "other", *words)

    assert (unknown.status, foreign.status) == (2, 2)
    assert unknown.err.startswith("error: account: there is no account 'acne'; list the accounts with: awx-ratelimit")
    assert foreign.err.startswith("error: the account has no such key; list the account's keys")


def test_shared_use(run: Run, service: KeyService, database: str, url: str, tmp_path: Path) -> None:
    """What the keys of the account share is counted at the account that the store names."""
    (tmp_path / "plans.toml").write_text(PLANS)
    starter = PlanTable.from_mapping({"plans": {"starter": {"per_day": 1_000, "account": {"per_day": 5_000}}}}).plans[0]
    assert starter.account
    key = service.create("acme", "n").key
    limiter = Limiter(open_backend(url))
    limiter.acquire(key.id, starter, also=[Budget("acme", starter.account, scope="account")])
    limiter.close()

    ran = run("usage", key.id, "--plans", f"{tmp_path}/plans.toml", "--backend", url, "--database", database, "--json")

    assert ran.json["account"] == "acme"
    assert [one["used"] for one in ran.json["limits"]] == [1, 1]
