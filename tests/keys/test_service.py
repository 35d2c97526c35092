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


def test_a_created_key_is_told_once(service: KeyService) -> None:
    """The call that makes a key answers with it and its text; what is read later is the same without the text."""
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


def test_a_created_key_can_be_taken_apart_without_being_shown(service: KeyService) -> None:
    """A created key as a dict holds the secret, and not its text."""
    created = service.create("acme", "n")

    assert created.secret.reveal() not in f"{created!r} {created} {asdict(created)}"


@pytest.mark.parametrize(
    ("days", "expected"), [(None, None), (1, START + timedelta(days=1)), (3650, START + timedelta(3650))]
)
def test_a_key_lives_as_long_as_it_was_given(service: KeyService, days: int | None, expected: datetime | None) -> None:
    """A key expires after its days, counted from now; without them it does not."""
    assert service.create("acme", "n", expires_in_days=days).key.expires_at == expected


def test_a_key_has_expired_at_its_time_and_not_before(service: KeyService, clock: ManualClock) -> None:
    """A key is active to the last millisecond of its life, and expired from then on."""
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
def test_arguments_that_are_not_allowed(service: KeyService, verb: str, arguments: dict[str, Any], field: str) -> None:
    """A wrong argument is one error that names the field and what is allowed."""
    with pytest.raises(InvalidKeyRequest) as caught:
        getattr(service, verb)("acme", **arguments)

    assert caught.value.field == field
    assert caught.value.code == "invalid_request"
    assert ("expected" in str(caught.value) or "remove" in str(caught.value)) is True


@pytest.mark.parametrize(
    "id", [NOBODYS, "", "key_", "key_\0" + "0" * 15, "\ud800", "x" * 10_000, None, 7, "' OR 1=1 --"]
)
@pytest.mark.parametrize("verb", ["get", "rename", "rotate", "revoke"])
def test_no_such_key(service: KeyService, verb: str, id: str) -> None:
    """An id of nothing, of whatever form, is the one error, and not quoted."""
    arguments = {"name": "n"} if verb == "rename" else {}
    with pytest.raises(KeyNotFound) as caught:
        getattr(service, verb)("acme", id, **arguments)

    assert str(caught.value) == "the account has no such key; list the account's keys"
    assert caught.value.code == "api_key_not_found"


def test_another_accounts_key_is_no_key(service: KeyService) -> None:
    """No verb reaches another account's key: it is as unknown as one that is not there, and is left as it was."""
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


def test_a_list_is_paged_newest_first(service: KeyService, clock: ManualClock) -> None:
    """A page says how many there are in all, and whether there are more; revoked keys are in none."""
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


def test_pages_do_not_overlap_when_keys_are_made_at_once(service: KeyService) -> None:
    """Keys of one moment have an order, too: pages show each of them once."""
    made = {service.create("acme", "n").key.id for _ in range(9)}
    pages = [service.list("acme", page_num=number, page_size=2).items for number in range(1, 6)]

    assert sorted(key_id for page in pages for key_id in _ids(page)) == sorted(made)


def test_a_key_is_renamed(service: KeyService) -> None:
    """A key has the name that it was given last; the same name again is no event."""
    key = service.create("acme", "old").key
    renamed = service.rename("acme", key.id, "new", actor="ada")
    again = service.rename("acme", key.id, " new ")

    assert renamed.name == "new"
    assert again == renamed
    assert service.get("acme", key.id) == renamed
    assert [event.details for event in service.events("acme").items if event.action == "key.renamed"] == [
        {"before": "old", "after": "new"}
    ]


def test_a_revoked_key_is_gone_once(service: KeyService) -> None:
    """A revoked key is in no list; revoked again it is no key; its history stays."""
    key = service.create("acme", "n").key
    service.revoke("acme", key.id, actor="ada")

    with pytest.raises(KeyNotFound):
        service.revoke("acme", key.id)
    with pytest.raises(KeyNotFound):
        service.get("acme", key.id)
    assert service.list("acme").total == 0
    assert [event.action for event in service.events("acme", key_id=key.id).items] == ["key.revoked", "key.created"]


def test_an_expired_key_can_be_revoked(service: KeyService, clock: ManualClock) -> None:
    """What has expired is listed as that, until its owner deletes it."""
    key = service.create("acme", "n", expires_in_days=1).key
    clock.advance(2 * DAY_MS)
    listed = [one.status for one in service.list("acme").items]
    service.revoke("acme", key.id)

    assert listed == ["expired"]
    assert service.list("acme").items == ()


def test_a_rotated_key_has_a_successor_and_a_grace(service: KeyService, clock: ManualClock) -> None:
    """The successor has the name and the family of the old key, which is accepted for a day more."""
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
def test_a_grace_may_be_none(service: KeyService, grace: int, expected: str) -> None:
    """With a grace of 0 the old key ends at once; with the longest it has 30 days."""
    old = service.create("acme", "n").key
    service.rotate("acme", old.id, grace_period_seconds=grace)

    key = service.get("acme", old.id)
    assert key.status == expected
    assert key.expires_at == START + timedelta(seconds=grace)


def test_a_grace_does_not_outlast_the_key(service: KeyService) -> None:
    """A key that would have expired within its grace expires at its own time."""
    old = service.create("acme", "n", expires_in_days=1).key
    service.rotate("acme", old.id, grace_period_seconds=2_592_000)

    assert service.get("acme", old.id).expires_at == START + timedelta(days=1)


def test_a_successor_lives_as_long_as_its_predecessor_did(service: KeyService, clock: ManualClock) -> None:
    """A key of 90 days is followed by one of 90 days, and so on; rotating does not make a key eternal."""
    first = service.create("acme", "n", expires_in_days=90).key
    clock.advance(10 * DAY_MS)
    second = service.rotate("acme", first.id).key
    clock.advance(10 * DAY_MS)
    third = service.rotate("acme", second.id).key

    assert second.expires_at == START + timedelta(100)
    assert third.expires_at == START + timedelta(110)
    assert {first.family_id, second.family_id, third.family_id} == {first.id}


def test_a_key_has_one_successor(service: KeyService) -> None:
    """Rotated again, a key says who its successor is, and nothing is changed."""
    old = service.create("acme", "n").key
    new = service.rotate("acme", old.id).key

    with pytest.raises(KeyNotActive, match=f"already rotated; rotate its successor, {new.id}") as caught:
        service.rotate("acme", old.id)
    assert caught.value.code == "api_key_not_active"
    assert service.list("acme").total == 2


def test_a_key_whose_successor_was_lost_is_rotated_again(service: KeyService, clock: ManualClock) -> None:
    """Whoever loses the new key revokes it, and rotates the old one again: with a grace of its own."""
    old = service.create("acme", "n", expires_in_days=90).key
    lost = service.rotate("acme", old.id, grace_period_seconds=60).key
    service.revoke("acme", lost.id)
    clock.advance(30_000)
    new = service.rotate("acme", old.id, grace_period_seconds=60).key

    key = service.get("acme", old.id)
    assert key.replaced_by == new.id
    assert key.expires_at == START + timedelta(seconds=90)
    assert new.expires_at == START + timedelta(days=90, seconds=30)


def test_a_key_whose_successor_was_lost_is_rotated_again_at_the_cap(service: KeyService) -> None:
    """A key that is in its grace already is not one more: an account that may have one key is not locked out."""
    service.accounts.set_max_keys("acme", 1)
    old = service.create("acme", "n").key
    service.revoke("acme", service.rotate("acme", old.id).key.id)
    successor = service.rotate("acme", old.id).key

    assert service.get("acme", old.id).replaced_by == successor.id
    assert successor.family_id == old.family_id


def test_an_expired_key_is_not_rotated(service: KeyService, clock: ManualClock) -> None:
    """There is nothing to overlap with: the error says what to do instead."""
    old = service.create("acme", "n", expires_in_days=1).key
    rotated = service.create("acme", "m").key
    service.rotate("acme", rotated.id, grace_period_seconds=1)
    clock.advance(DAY_MS)

    for key in (old, rotated):
        with pytest.raises(KeyNotActive, match="the key has expired; create a new key"):
            service.rotate("acme", key.id)


def test_a_cap_counts_keys_that_stand_for_themselves(service: KeyService, clock: ManualClock) -> None:
    """Revoked, expired and rotated keys leave room; so a key can be rotated at the cap."""
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


def test_keys_in_their_grace_are_bounded_as_well(service: KeyService) -> None:
    """Rotating again and again does not make more keys than twice the cap; without a grace it can go on."""
    service.accounts.set_max_keys("acme", 2)
    key = service.create("acme", "n").key
    for _ in range(2):
        key = service.rotate("acme", key.id).key
    with pytest.raises(KeyLimitReached):
        service.rotate("acme", key.id)
    service.rotate("acme", key.id, grace_period_seconds=0)

    assert sorted(one.status for one in service.list("acme").items) == ["active", "expired", "rotated", "rotated"]


def test_a_second_successor_counts_as_a_new_key(service: KeyService) -> None:
    """Rotating, revoking the successor of the successor's predecessor, and so on, does not get past the cap."""
    service.accounts.set_max_keys("acme", 1)
    first = service.create("acme", "n").key
    second = service.rotate("acme", first.id, grace_period_seconds=60).key
    service.rotate("acme", second.id, grace_period_seconds=0)
    service.revoke("acme", second.id)

    with pytest.raises(KeyLimitReached):
        service.rotate("acme", first.id, grace_period_seconds=0)


def test_a_suspended_account_gets_no_new_keys(service: KeyService) -> None:
    """A suspended account's keys are listed, renamed and revoked; none is made, until it is activated."""
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


def test_without_an_account_there_are_no_keys(service: KeyService) -> None:
    """Nothing is made for an account that is not there; its list is empty."""
    with pytest.raises(AccountNotFound, match="there is no such account; create it first") as caught:
        service.create("nobody", "n")

    assert caught.value.code == "account_not_found"
    assert service.list("nobody").items == ()
    assert service.stale("nobody") == ()


def test_keys_that_should_be_rotated(service: KeyService, clock: ManualClock) -> None:
    """Stale are the accepted keys of so many days that have no successor, oldest first."""
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


def test_keys_that_should_be_deleted(service: KeyService, store: KeyStore, clock: ManualClock) -> None:
    """Unused are the accepted keys that were neither made nor used for so many days."""
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


def test_every_act_is_in_the_audit_trail(service: KeyService, clock: ManualClock) -> None:
    """What was done, by whom, when and to which key, newest first; a refused act is in none."""
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


def test_an_act_that_fails_changes_nothing(service: KeyService, store: KeyStore) -> None:
    """What was written before an error in the same act is taken back, the audit row too."""
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


def test_a_key_belongs_to_an_account(store: KeyStore, service: KeyService) -> None:
    """Not even the store writes a key for an account that is not there."""
    columns: dict[str, Any] = {"id": NOBODYS, "family_id": NOBODYS, "name": "n", "prefix": "awx_", "last4": "0000"}
    with pytest.raises(KeyStoreUnavailable), store.unit_of_work("nobody", now_ms=1) as work:
        work.add_key(**columns, key_hash=bytes(32))

    assert service.list("nobody").total == 0


@pytest.mark.parametrize("prefix", ["acme_", "awx_eu_west_1_"])
def test_a_name_has_no_key_of_any_form(store: KeyStore, service: KeyService, prefix: str) -> None:
    """Neither one of the service's own prefix nor one of the usual: neither stands in the store for all to see."""
    own = KeyService(store, keys=KeyFormat(prefix))
    created = own.create("acme", "n")
    for key in (created.secret, service.create("acme", "n").secret):
        with pytest.raises(InvalidKeyRequest, match="name: contains an API key"):
            own.create("acme", key.reveal())
        with pytest.raises(InvalidKeyRequest, match="name: contains an API key"):
            own.rename("acme", created.key.id, key.reveal())

    assert {key.name for key in own.all("acme")} == {"n"}


def test_a_service_makes_keys_of_its_format(store: KeyStore, service: KeyService) -> None:
    """With a prefix and a pepper of its own a service makes such keys; older keys are shown as they were made."""
    old = service.create("acme", "old")
    other: CreatedKey = KeyService(store, keys=KeyFormat("awx_test_", pepper=bytes(32))).create("acme", "new")

    assert other.key.masked == f"awx_test_...{other.secret.reveal()[-4:]}"
    assert {key.masked for key in service.list("acme").items} == {old.key.masked, other.key.masked}


def test_a_call_that_comes_twice_makes_one_key(service: KeyService) -> None:
    """With an id given the first call makes the key; the second says that it was made, also once it is revoked."""
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


def test_a_rotation_that_comes_twice_makes_one_successor(service: KeyService) -> None:
    """With an id given for the successor the second call says that it was made, though the key may be rotated again."""
    old, successor_id = service.create("acme", "n").key, new_key_id()
    new = service.rotate("acme", old.id, successor_id=successor_id).key
    service.revoke("acme", successor_id)
    with pytest.raises(KeyExists):
        service.rotate("acme", old.id, successor_id=successor_id)

    assert new.id == successor_id
    assert service.get("acme", old.id).replaced_by == successor_id


def test_an_id_that_is_none_is_refused(service: KeyService) -> None:
    """Nothing is made under a text that is no id of a key."""
    with pytest.raises(KeyNotFound):
        service.create("acme", "n", key_id="mine")

    assert service.list("acme").total == 0
