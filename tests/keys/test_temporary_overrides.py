"""Overrides that end by themselves, and changes in one step, on each database."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.keys.conftest import START_MS
from tests.keys.store_probes import statements

from awx_ratelimit import Caller, Limiter, MemoryBackend, PlanTable
from awx_ratelimit.errors import AccountChanged, AccountNotFound, InvalidKeyRequest, KeyRefused
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.keys.models import TemporaryOverride, utc_datetime
from awx_ratelimit.testing import ManualClock

HOUR_MS = 3_600_000
UNTIL = utc_datetime(START_MS + HOUR_MS)
TABLE = PlanTable.from_mapping({"plans": {"starter": {"per_day": 100}, "growth": {"per_day": 1_000}}})


@pytest.fixture
def key(service: KeyService) -> bytes:
    """A key of acme."""
    return service.create("acme", "n").secret.reveal().encode()


def test_ends_in_the_cache(
    service: KeyService, verifier: KeyVerifier, store: KeyStore, key: bytes, clock: ManualClock
) -> None:
    """A cached key has the temporary limits until their end and then the permanent ones, without a look-up."""
    service.accounts.set_overrides("acme", {"per_minute": 5, "per_day": 9})
    # So short that the cache keeps the key.
    service.accounts.override("acme", {"per_minute": 50}, until=utc_datetime(START_MS + 1_000))
    verifier.verify(key)
    with statements(store) as sent:
        clock.advance(999)
        before = verifier.verify(key)
        clock.advance(1)
        after = [verifier.verify(key) for _ in range(2)]

    assert sent == []
    assert before.overrides == {"per_minute": 50, "per_day": 9}
    assert [caller.overrides for caller in after] == [{"per_minute": 5, "per_day": 9}] * 2
    assert after[0] == Caller(before.subject, "starter", "acme", {"per_minute": 5, "per_day": 9})


def test_ends_in_the_store(service: KeyService, verifier: KeyVerifier, key: bytes, clock: ManualClock) -> None:
    """At its end the account has its permanent limits again, and nothing was written."""
    service.accounts.override("acme", {"times": 2}, until=UNTIL)
    clock.advance(HOUR_MS - 1)
    last = service.accounts.get("acme")
    clock.advance(1)

    assert last.temporary == TemporaryOverride({"times": 2}, UNTIL)
    assert last.current_overrides == {"times": 2}
    assert service.accounts.get("acme").temporary is None
    assert service.accounts.list().items[0].temporary is None
    assert verifier.verify(key).overrides is None
    assert [event.action for event in service.events("acme").items] == [
        "account.override_set",
        "key.created",
        "account.created",
    ]


def test_usage_carries_over(service: KeyService, verifier: KeyVerifier, key: bytes, clock: ManualClock) -> None:
    """What was used under the temporary limits still counts when they end, and nothing is refilled."""
    limiter = Limiter(MemoryBackend(clock=clock))
    service.accounts.override("acme", {"times": 2}, until=utc_datetime(START_MS + 1_000))

    def admitted() -> int:
        caller = verifier.verify(key)
        return sum(limiter.acquire(caller.subject, TABLE.resolve(caller)).allowed for _ in range(300))

    during = admitted()
    clock.advance(1_000)

    assert during == 200
    assert admitted() == 0


def test_another_process(
    others: KeyService, verifier: KeyVerifier, service: KeyService, key: bytes, clock: ManualClock
) -> None:
    """A process that polls applies a temporary override of another process, its replacement, and its early end."""
    seen = [verifier.verify(key).overrides]
    for times in (2, 3, None):
        if times is None:
            others.accounts.end_override("acme")
        else:
            others.accounts.override("acme", {"times": times}, until=UNTIL)
        verifier.poll()
        seen.append(verifier.verify(key).overrides)

    assert seen == [None, {"times": 2}, {"times": 3}, None]


def test_key_that_is_not_accepted(service: KeyService, verifier: KeyVerifier, key: bytes, clock: ManualClock) -> None:
    """A temporary override accepts no key that is suspended or has expired, before its end and after it."""
    short = service.create("acme", "short", expires_in_days=1).secret.reveal().encode()
    service.accounts.override("acme", {"times": 2}, until=UNTIL + timedelta(days=2))
    verifier.verify(short)
    clock.advance(86_400_000)
    with pytest.raises(KeyRefused) as expired:
        verifier.verify(short)
    service.accounts.suspend("acme")
    codes = []
    for _ in range(2):
        with pytest.raises(KeyRefused) as refused:
            verifier.verify(key)
        codes.append(refused.value.code)
        clock.advance(3 * 86_400_000)

    assert expired.value.code == "api_key_expired"
    assert codes == ["api_key_revoked"] * 2


def test_events(service: KeyService) -> None:
    """Setting, replacing and ending are events with the actor and both values; what changes nothing is none."""
    accounts = service.accounts
    accounts.override("acme", {"times": 2}, until=UNTIL, actor="ada")
    accounts.override("acme", {"times": 2}, until=UNTIL, actor="bob")
    accounts.override("acme", {"times": 3}, until=UNTIL + timedelta(hours=1), actor="bob")
    accounts.end_override("acme", actor="cyd")
    changed = accounts.end_override("acme", actor="dan")
    events = [(event.action, event.actor, event.details) for event in service.events("acme").items[:-1]]

    first = {"overrides": {"times": 2}, "until": "2025-06-01T11:00:00Z"}
    second = {"overrides": {"times": 3}, "until": "2025-06-01T12:00:00Z"}
    assert changed.temporary is None
    assert events == [
        ("account.override_ended", "cyd", {"before": second, "after": None}),
        ("account.override_set", "bob", {"before": first, "after": second}),
        ("account.override_set", "ada", {"before": None, "after": first}),
    ]


@pytest.mark.parametrize(
    ("overrides", "until", "field"),
    [
        ({"times": 2}, utc_datetime(START_MS), "until"),
        ({"times": 2}, utc_datetime(START_MS) + timedelta(days=3_651), "until"),
        ({"times": 2}, datetime(2025, 7, 1), "until"),  # noqa: DTZ001  # a mistake
        ({"times": 2}, "2025-07-01", "until"),
        ({"times": 2}, datetime(2999, 7, 1, tzinfo=UTC), "until"),
        ({}, UNTIL, "overrides"),
        (None, UNTIL, "overrides"),
        ({"times": 0}, UNTIL, "overrides"),
        ({"per_minut": 5}, UNTIL, "overrides"),
        ({"x": "y" * 9_000}, UNTIL, "overrides"),
    ],
)
def test_invalid(service: KeyService, overrides: Any, until: Any, field: str) -> None:
    """An invalid override, or a time that has passed or has no zone, is an error that names the field."""
    with pytest.raises(InvalidKeyRequest) as caught:
        service.accounts.override("acme", overrides, until=until)

    assert caught.value.field == field
    assert service.accounts.get("acme").temporary is None


def test_unknown_account(service: KeyService) -> None:
    """An unknown account has no temporary limits."""
    with pytest.raises(AccountNotFound):
        service.accounts.override("nobody", {"times": 2}, until=UNTIL)
    with pytest.raises(AccountNotFound):
        service.accounts.end_override("nobody")


def test_checked_together(store: KeyStore, service: KeyService) -> None:
    """Both kinds of limits must fit the plan, and each other, whichever is changed."""
    check = lambda plan, own: TABLE.resolve(Caller("check", plan, overrides=own))  # noqa: E731
    accounts = KeyService(store, check_plan=check, clock=service._clock).accounts
    accounts.override("acme", {"plan": "growth", "per_minute": 5}, until=UNTIL)
    with pytest.raises(InvalidKeyRequest, match=r"^overrides: .*'gold'"):
        accounts.override("acme", {"plan": "gold"}, until=UNTIL)
    with pytest.raises(InvalidKeyRequest, match=r"^plan: there is no plan 'gold'; allowed are "):
        accounts.set_plan("acme", "gold")
    with pytest.raises(InvalidKeyRequest, match=r"^overrides: the plan table refuses these limits; times: expected "):
        accounts.override("acme", {"times": 0}, until=UNTIL)

    assert accounts.get("acme").current_overrides == {"plan": "growth", "per_minute": 5}


def test_change_in_one_step(service: KeyService) -> None:
    """`change` writes all of it with an event for each, or nothing."""
    with pytest.raises(InvalidKeyRequest, match=r"^max_keys: "):
        service.accounts.change("acme", plan="growth", max_keys=-1)
    unchanged = service.accounts.get("acme")
    changed = service.accounts.change("acme", plan=None, overrides={"per_day": 7}, max_keys=100, actor="ada")

    assert unchanged.plan == "starter"
    assert (changed.plan, changed.overrides, changed.max_keys) == (None, {"per_day": 7}, 100)
    assert [event.action for event in service.events("acme").items[:-1]] == [
        "account.overrides_set",
        "account.plan_set",
    ]


def test_suspension_of_a_plan_that_is_gone(store: KeyStore, service: KeyService) -> None:
    """An account can be suspended although its plan is no longer in the table."""
    service.accounts.set_plan("acme", "old")
    check = lambda plan, own: TABLE.resolve(Caller("check", plan, overrides=own))  # noqa: E731

    assert KeyService(store, check_plan=check).accounts.suspend("acme").status == "suspended"


def test_changes_of_an_account_as_it_was_read(service: KeyService) -> None:
    """Of two changes to the account that both read, the second changes nothing and is not in the audit trail."""
    read = service.accounts.get("acme")
    service.accounts.if_unchanged(read).set_max_keys("acme", 7)
    accounts, before = service.accounts.if_unchanged(read), service.accounts.get("acme")
    changes: list[Callable[[], object]] = [
        lambda: accounts.set_max_keys("acme", 8),
        lambda: accounts.suspend("acme"),
        lambda: accounts.override("acme", {"times": 2}, until=UNTIL),
        lambda: accounts.end_override("acme"),
    ]
    for change in changes:
        with pytest.raises(AccountChanged, match="the account has changed; read it again"):
            change()

    assert service.accounts.get("acme") == before
    assert service.events("acme").items[0].details == {"before": read.max_keys, "after": 7}
