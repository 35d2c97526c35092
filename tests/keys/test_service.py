"""The lifecycle of a key, on each database."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from awx_ratelimit.errors import (
    AccountNotFound,
    InvalidKeyRequest,
    KeyExists,
    KeyLimitReached,
    KeyNotActive,
    KeyNotFound,
    KeyRequestRefused,
    KeyStoreUnavailable,
)
from awx_ratelimit.keys import ApiKey, CreatedKey, KeyFormat, KeyService, KeyStore
from awx_ratelimit.keys.format import new_key_id
from awx_ratelimit.keys.storage.store import LastUse
from awx_ratelimit.testing import ManualClock

DAY_MS = 86_400_000
NOBODYS = "key_0000000000000000"
START = datetime(2025, 6, 1, 10, tzinfo=UTC)


def _ids(keys: tuple[ApiKey, ...]) -> list[str]:
    return [key.id for key in keys]


def _actions(service: KeyService, account_id: str = "acme") -> list[tuple[str, str | None]]:
    return [(event.action, event.actor) for event in service.events(account_id, page_size=100).items]


def test_create(service: KeyService) -> None:
    """`create` returns the key with its text; later reads return the same key without the text."""
    created = service.create("acme", " production-backend ", actor="ada")
    expected = ApiKey(
        id=created.key.id,
        account_id="acme",
        family_id=created.key.id,
        name="production-backend",
        masked=f"awx_...{created.secret.reveal()[-4:]}",
        status="active",
        created_at=START,
        created_by="ada",
        expires_at=None,
        last_used_at=None,
        rotated_from=None,
        replaced_by=None,
    )

    assert KeyFormat().is_key(created.secret.reveal())
    assert created.key == expected
    assert service.get("acme", created.key.id) == expected
    assert service.list("acme").items == (expected,)


def test_created_key_as_a_dict(service: KeyService) -> None:
    """A created key as a dict contains the secret object and not the text."""
    created = service.create("acme", "n")

    assert created.secret.reveal() not in f"{created!r} {created} {asdict(created)}"


@pytest.mark.parametrize(
    ("days", "expected"), [(None, None), (1, START + timedelta(days=1)), (3650, START + timedelta(3650))]
)
def test_lifetime(service: KeyService, days: int | None, expected: datetime | None) -> None:
    """A key expires after the given number of days; without one it never expires."""
    assert service.create("acme", "n", expires_in_days=days).key.expires_at == expected


def test_expiry(service: KeyService, clock: ManualClock) -> None:
    """A key is active until the last millisecond of its life, and expired from then on."""
    key = service.create("acme", "n", expires_in_days=1).key
    clock.advance(DAY_MS - 1)
    before = service.get("acme", key.id).status
    clock.advance(1)

    assert before == "active"
    assert service.get("acme", key.id).status == "expired"


@pytest.mark.parametrize(
    ("verb", "arguments", "field"),
    [
        ("create", {"name": ""}, "name"),
        ("create", {"name": "n", "expires_in_days": 0}, "expires_in_days"),
        ("create", {"name": "n", "expires_in_days": 3651}, "expires_in_days"),
        ("create", {"name": "n", "expires_in_days": True}, "expires_in_days"),
        ("create", {"name": "n", "expires_in_days": "1"}, "expires_in_days"),
        ("create", {"name": "n", "expires_in_days": 1.0}, "expires_in_days"),
        ("create", {"name": "n", "actor": "a\0"}, "actor"),
        ("rename", {"key_id": NOBODYS, "name": "\u202e"}, "name"),
        ("rotate", {"key_id": NOBODYS, "grace_period_seconds": -1}, "grace_period_seconds"),
        ("rotate", {"key_id": NOBODYS, "grace_period_seconds": 2_592_001}, "grace_period_seconds"),
        ("rotate", {"key_id": NOBODYS, "grace_period_seconds": None}, "grace_period_seconds"),
        ("list", {"page_num": 0}, "page_num"),
        ("list", {"page_num": 1_000_001}, "page_num"),
        ("list", {"page_size": 0}, "page_size"),
        ("list", {"page_size": 101}, "page_size"),
        ("events", {"page_num": "1"}, "page_num"),
        ("stale", {"older_than_days": -1}, "older_than_days"),
        ("unused", {"for_days": 3651}, "for_days"),
    ],
)
def test_invalid_argument(service: KeyService, verb: str, arguments: dict[str, Any], field: str) -> None:
    """An invalid argument raises an error that names the field and what is allowed."""
    with pytest.raises(InvalidKeyRequest) as caught:
        getattr(service, verb)("acme", **arguments)

    assert caught.value.field == field
    assert caught.value.code == "invalid_request"
    assert ("expected" in str(caught.value) or "remove" in str(caught.value)) is True


@pytest.mark.parametrize(
    "id", [NOBODYS, "", "key_", "key_\0" + "0" * 15, "\ud800", "x" * 10_000, None, 7, "' OR 1=1 --"]
)
@pytest.mark.parametrize("verb", ["get", "rename", "rotate", "revoke"])
def test_unknown_key(service: KeyService, verb: str, id: str) -> None:
    """Every unknown id, of any form, raises the same error, which does not contain the id."""
    arguments = {"name": "n"} if verb == "rename" else {}
    with pytest.raises(KeyNotFound) as caught:
        getattr(service, verb)("acme", id, **arguments)

    assert str(caught.value) == "the account has no such key; list the account's keys"
    assert caught.value.code == "api_key_not_found"


def test_key_of_another_account(service: KeyService) -> None:
    """Every method treats another account's key as unknown, and leaves it unchanged."""
    service.accounts.create("other")
    key = service.create("acme", "n").key
    said = set()
    for verb in (
        service.get,
        service.rotate,
        service.revoke,
        lambda account, key_id: service.rename(account, key_id, "x"),
    ):
        with pytest.raises(KeyNotFound) as caught:
            verb("other", key.id)
        said.add(str(caught.value))

    assert said == {"the account has no such key; list the account's keys"}
    assert service.get("acme", key.id) == key
    assert service.list("other").items == ()
    assert service.events("other", key_id=key.id).items == ()


def test_list(service: KeyService, clock: ManualClock) -> None:
    """A page has the total and whether there are more, newest first; revoked keys are not listed."""
    keys = []
    for number in range(5):
        keys.append(service.create("acme", f"key {number}").key)
        clock.advance(1)
    service.revoke("acme", keys[2].id)
    pages = [service.list("acme", page_num=number, page_size=2) for number in (1, 2, 3)]

    assert [[key.name for key in page.items] for page in pages] == [["key 4", "key 3"], ["key 1", "key 0"], []]
    assert [(page.total, page.page_num, page.page_size, page.has_more) for page in pages] == [
        (4, 1, 2, True),
        (4, 2, 2, False),
        (4, 3, 2, False),
    ]


def test_keys_of_the_same_moment(service: KeyService) -> None:
    """Keys created in the same millisecond have an order, so pages show each of them once."""
    made = {service.create("acme", "n").key.id for _ in range(9)}
    pages = [service.list("acme", page_num=number, page_size=2).items for number in range(1, 6)]

    assert sorted(key_id for page in pages for key_id in _ids(page)) == sorted(made)


def test_rename(service: KeyService) -> None:
    """A key has its last name; setting the same name again adds no event."""
    key = service.create("acme", "old").key
    renamed = service.rename("acme", key.id, "new", actor="ada")
    again = service.rename("acme", key.id, " new ")

    assert renamed.name == "new"
    assert again == renamed
    assert service.get("acme", key.id) == renamed
    assert [event.details for event in service.events("acme").items if event.action == "key.renamed"] == [
        {"before": "old", "after": "new"}
    ]


def test_revoke(service: KeyService) -> None:
    """A revoked key is not listed and cannot be revoked again; its events stay."""
    key = service.create("acme", "n").key
    service.revoke("acme", key.id, actor="ada")

    with pytest.raises(KeyNotFound):
        service.revoke("acme", key.id)
    with pytest.raises(KeyNotFound):
        service.get("acme", key.id)
    assert service.list("acme").total == 0
    assert [event.action for event in service.events("acme", key_id=key.id).items] == ["key.revoked", "key.created"]


def test_revoke_an_expired_key(service: KeyService, clock: ManualClock) -> None:
    """An expired key is listed as expired until its owner deletes it."""
    key = service.create("acme", "n", expires_in_days=1).key
    clock.advance(2 * DAY_MS)
    listed = [one.status for one in service.list("acme").items]
    service.revoke("acme", key.id)

    assert listed == ["expired"]
    assert service.list("acme").items == ()


def test_rotate(service: KeyService, clock: ManualClock) -> None:
    """The successor has the name and family of the old key, which is accepted for another day."""
    old = service.create("acme", "n").key
    clock.advance(1000)
    created = service.rotate("acme", old.id, actor="ada")
    rotated = service.get("acme", old.id)
    clock.advance(DAY_MS)

    assert created.key.name == "n"
    assert created.key.family_id == old.id
    assert created.key.rotated_from == old.id
    assert created.key.status == "active"
    assert created.key.created_by == "ada"
    assert created.key.id != old.id
    assert rotated.status == "rotated"
    assert rotated.replaced_by == created.key.id
    assert rotated.expires_at == created.key.created_at + timedelta(days=1)
    assert service.get("acme", old.id).status == "expired"


@pytest.mark.parametrize(("grace", "expected"), [(0, "expired"), (1, "rotated"), (2_592_000, "rotated")])
def test_grace_period(service: KeyService, grace: int, expected: str) -> None:
    """With a grace period of 0 the old key ends at once; the maximum is 30 days."""
    old = service.create("acme", "n").key
    service.rotate("acme", old.id, grace_period_seconds=grace)

    key = service.get("acme", old.id)
    assert key.status == expected
    assert key.expires_at == START + timedelta(seconds=grace)


def test_expiry_within_the_grace_period(service: KeyService) -> None:
    """A key that would expire within its grace period still expires at its own time."""
    old = service.create("acme", "n", expires_in_days=1).key
    service.rotate("acme", old.id, grace_period_seconds=2_592_000)

    assert service.get("acme", old.id).expires_at == START + timedelta(days=1)


def test_lifetime_of_a_successor(service: KeyService, clock: ManualClock) -> None:
    """The successor of a key of 90 days also lives for 90 days, however often it is rotated."""
    first = service.create("acme", "n", expires_in_days=90).key
    clock.advance(10 * DAY_MS)
    second = service.rotate("acme", first.id).key
    clock.advance(10 * DAY_MS)
    third = service.rotate("acme", second.id).key

    assert second.expires_at == START + timedelta(100)
    assert third.expires_at == START + timedelta(110)
    assert {first.family_id, second.family_id, third.family_id} == {first.id}


def test_rotate_twice(service: KeyService) -> None:
    """Rotating a key again raises an error that names its successor, and changes nothing."""
    old = service.create("acme", "n").key
    new = service.rotate("acme", old.id).key

    with pytest.raises(KeyNotActive, match=f"already rotated; rotate its successor, {new.id}") as caught:
        service.rotate("acme", old.id)
    assert caught.value.code == "api_key_not_active"
    assert service.list("acme").total == 2


def test_lost_successor(service: KeyService, clock: ManualClock) -> None:
    """After the lost successor is revoked, the old key can be rotated again, with a new grace period."""
    old = service.create("acme", "n", expires_in_days=90).key
    lost = service.rotate("acme", old.id, grace_period_seconds=60).key
    service.revoke("acme", lost.id)
    clock.advance(30_000)
    new = service.rotate("acme", old.id, grace_period_seconds=60).key

    key = service.get("acme", old.id)
    assert key.replaced_by == new.id
    assert key.expires_at == START + timedelta(seconds=90)
    assert new.expires_at == START + timedelta(days=90, seconds=30)


def test_lost_successor_at_the_maximum(service: KeyService) -> None:
    """A key in its grace period can be rotated again even if the account may have only one key."""
    service.accounts.set_max_keys("acme", 1)
    old = service.create("acme", "n").key
    service.revoke("acme", service.rotate("acme", old.id).key.id)
    successor = service.rotate("acme", old.id).key

    assert service.get("acme", old.id).replaced_by == successor.id
    assert successor.family_id == old.family_id


def test_rotate_an_expired_key(service: KeyService, clock: ManualClock) -> None:
    """An expired key cannot be rotated; the error says what to do instead."""
    old = service.create("acme", "n", expires_in_days=1).key
    rotated = service.create("acme", "m").key
    service.rotate("acme", rotated.id, grace_period_seconds=1)
    clock.advance(DAY_MS)

    for key in (old, rotated):
        with pytest.raises(KeyNotActive, match="the key has expired; create a new key"):
            service.rotate("acme", key.id)


def test_maximum_number_of_keys(service: KeyService, clock: ManualClock) -> None:
    """Revoked, expired and rotated keys do not count, so a key can be rotated at the maximum."""
    service.accounts.set_max_keys("acme", 2)
    first = service.create("acme", "1", expires_in_days=1).key
    second = service.create("acme", "2").key
    with pytest.raises(KeyLimitReached, match="has reached its maximum of 2 keys; revoke a key") as caught:
        service.create("acme", "3")
    third = service.rotate("acme", second.id).key
    with pytest.raises(KeyLimitReached):
        service.create("acme", "3")
    service.revoke("acme", third.id)
    service.create("acme", "3")
    clock.advance(DAY_MS)
    service.create("acme", "4")

    assert caught.value.code == "api_key_limit_reached"
    assert sorted((key.name, key.status) for key in service.list("acme").items) == [
        ("1", "expired"),
        ("2", "expired"),
        ("3", "active"),
        ("4", "active"),
    ]
    assert first.id in _ids(service.list("acme").items)


def test_keys_in_their_grace_period(service: KeyService) -> None:
    """Repeated rotation creates at most twice the maximum number of keys; without a grace period it can continue."""
    service.accounts.set_max_keys("acme", 2)
    key = service.create("acme", "n").key
    for _ in range(2):
        key = service.rotate("acme", key.id).key
    with pytest.raises(KeyLimitReached):
        service.rotate("acme", key.id)
    service.rotate("acme", key.id, grace_period_seconds=0)

    assert sorted(one.status for one in service.list("acme").items) == ["active", "expired", "rotated", "rotated"]


def test_second_successor(service: KeyService) -> None:
    """Revoking successors and rotating again does not exceed the maximum."""
    service.accounts.set_max_keys("acme", 1)
    first = service.create("acme", "n").key
    second = service.rotate("acme", first.id, grace_period_seconds=60).key
    service.rotate("acme", second.id, grace_period_seconds=0)
    service.revoke("acme", second.id)

    with pytest.raises(KeyLimitReached):
        service.rotate("acme", first.id, grace_period_seconds=0)


def test_suspended_account(service: KeyService) -> None:
    """A suspended account's keys can be listed, renamed and revoked, but none created until it is activated."""
    key = service.create("acme", "n").key
    service.accounts.suspend("acme")
    for act in (service.create, service.rotate):
        with pytest.raises(KeyNotActive, match="the account is suspended"):
            act("acme", key.id)
    service.rename("acme", key.id, "new")
    service.revoke("acme", key.id)
    service.accounts.activate("acme")

    assert service.create("acme", "m").key.status == "active"
    assert service.list("acme").total == 1


def test_unknown_account(service: KeyService) -> None:
    """No key is created for an unknown account, and its list is empty."""
    with pytest.raises(
        AccountNotFound, match=r"create it first, with KeyService.accounts.ensure\(account_id, plan=...\)"
    ) as caught:
        service.create("nobody", "n")

    assert caught.value.code == "account_not_found"
    assert service.list("nobody").items == ()
    assert service.stale("nobody") == ()


def test_stale(service: KeyService, clock: ManualClock) -> None:
    """Stale keys are accepted keys of at least that age without a successor, oldest first."""
    keys = {name: service.create("acme", name).key.id for name in ("rotated", "revoked", "old")}
    service.create("acme", "expired", expires_in_days=1)
    service.revoke("acme", keys["revoked"])
    clock.advance(1)
    service.create("acme", "younger")
    service.rotate("acme", keys["rotated"])
    clock.advance(90 * DAY_MS - 2)
    before = service.stale("acme")
    clock.advance(1)

    assert before == ()
    assert [key.name for key in service.stale("acme")] == ["old"]
    assert [len(service.stale("acme", older_than_days=days)) for days in (0, 89, 91)] == [3, 3, 0]


def test_unused(service: KeyService, store: KeyStore, clock: ManualClock) -> None:
    """Unused keys are accepted keys that were neither created nor used for that many days."""
    keys = {name: service.create("acme", name).key.id for name in ("never", "long ago", "lately")}
    clock.advance(10 * DAY_MS)
    store.mark_used([LastUse(keys["long ago"], "acme", clock.now_ms())])
    clock.advance(15 * DAY_MS)
    store.mark_used([LastUse(keys["lately"], "acme", clock.now_ms())])
    clock.advance(5 * DAY_MS)
    first = {key.name for key in service.unused("acme")}
    clock.advance(10 * DAY_MS)

    assert first == {"never"}
    assert {key.name for key in service.unused("acme")} == {"never", "long ago"}


def test_events(service: KeyService, clock: ManualClock) -> None:
    """Events say what was done, by whom, when and to which key, newest first; refused calls add none."""
    created = service.create("acme", "n", actor="ada")
    clock.advance(5)
    service.rename("acme", created.key.id, "m", actor="bob")
    new = service.rotate("acme", created.key.id, actor="cleo")
    service.revoke("acme", created.key.id)
    with pytest.raises(KeyRequestRefused):
        service.revoke("acme", created.key.id, actor="eve")

    assert _actions(service) == [
        ("key.revoked", None),
        ("key.rotated", "cleo"),
        ("key.created", "cleo"),
        ("key.renamed", "bob"),
        ("key.created", "ada"),
        ("account.created", None),
    ]
    events = service.events("acme", key_id=created.key.id).items
    assert [event.at - START for event in events] == [timedelta(milliseconds=ms) for ms in (5, 5, 5, 0)]
    assert events[1].details == {"replaced_by": new.key.id, "grace_period_seconds": 86_400}
    assert service.events("acme", page_size=1, page_num=2).items[0].action == "key.rotated"


def test_rollback(service: KeyService, store: KeyStore) -> None:
    """An error rolls back everything that the same call wrote, including the audit row."""
    key = service.create("acme", "n").key

    def fail() -> None:
        with store.unit_of_work("acme", now_ms=1) as work:
            work.change_key(key.id, name="changed")
            work.record("key.renamed", key.id)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert service.get("acme", key.id) == key
    assert len(_actions(service)) == 2


def test_foreign_key(store: KeyStore, service: KeyService) -> None:
    """Even the store cannot write a key for an unknown account."""
    columns: dict[str, Any] = {"id": NOBODYS, "family_id": NOBODYS, "name": "n", "prefix": "awx_", "last4": "0000"}
    with pytest.raises(KeyStoreUnavailable), store.unit_of_work("nobody", now_ms=1) as work:
        work.add_key(**columns, key_hash=bytes(32))

    assert service.list("nobody").total == 0


@pytest.mark.parametrize("prefix", ["acme_", "awx_eu_west_1_"])
def test_key_as_a_name(store: KeyStore, service: KeyService, prefix: str) -> None:
    """A name that contains a key of the service's own prefix or of the usual one is refused."""
    own = KeyService(store, keys=KeyFormat(prefix))
    created = own.create("acme", "n")
    for key in (created.secret, service.create("acme", "n").secret):
        with pytest.raises(InvalidKeyRequest, match="name: contains an API key"):
            own.create("acme", key.reveal())
        with pytest.raises(InvalidKeyRequest, match="name: contains an API key"):
            own.rename("acme", created.key.id, key.reveal())

    assert {key.name for key in own.all("acme")} == {"n"}


def test_format(store: KeyStore, service: KeyService) -> None:
    """A service creates keys with its prefix and pepper, and shows older keys as they were created."""
    old = service.create("acme", "old")
    other: CreatedKey = KeyService(store, keys=KeyFormat("awx_test_", pepper=bytes(32))).create("acme", "new")

    assert other.key.masked == f"awx_test_...{other.secret.reveal()[-4:]}"
    assert {key.masked for key in service.list("acme").items} == {old.key.masked, other.key.masked}


def test_repeated_creation(service: KeyService) -> None:
    """With a given id a repeated call creates no second key, even after the first was revoked."""
    key_id = new_key_id()
    made = service.create("acme", "n", key_id=key_id).key
    with pytest.raises(KeyExists) as again:
        service.create("acme", "n", key_id=key_id)
    service.revoke("acme", key_id)
    with pytest.raises(KeyExists):
        service.create("acme", "n", key_id=key_id)

    assert made.id == key_id
    assert service.list("acme").total == 0
    assert again.value.code == "api_key_exists"


def test_repeated_rotation(service: KeyService) -> None:
    """With a given id a repeated rotation creates no second successor."""
    old, successor_id = service.create("acme", "n").key, new_key_id()
    new = service.rotate("acme", old.id, successor_id=successor_id).key
    service.revoke("acme", successor_id)
    with pytest.raises(KeyExists):
        service.rotate("acme", old.id, successor_id=successor_id)

    assert new.id == successor_id
    assert service.get("acme", old.id).replaced_by == successor_id


def test_invalid_id(service: KeyService) -> None:
    """A text that is not the id of a key is refused."""
    with pytest.raises(KeyNotFound):
        service.create("acme", "n", key_id="mine")

    assert service.list("acme").total == 0
