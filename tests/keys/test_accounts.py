"""The accounts that own keys, on each database."""

from typing import Any

import pytest
from tests.keys.conftest import START_MS

from awx_ratelimit import Caller, PlanTable
from awx_ratelimit.errors import AccountExists, AccountNotFound, InvalidKeyRequest
from awx_ratelimit.keys import Account, KeyFormat, KeyService, KeyStore
from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.keys.storage import queries

OVERRIDES = {"per_minute": {"limit": 120, "burst": 10}, "concurrent": 7, "rates": ["5/second"]}


def test_create(service: KeyService) -> None:
    """A created account has the given fields, and `get` returns the same account."""
    made = service.accounts.create("auth0|7", plan="growth", overrides=OVERRIDES, max_keys=3)

    expected = Account("auth0|7", "growth", OVERRIDES, "active", 3, utc_datetime(START_MS))
    assert made == expected
    assert service.accounts.get("auth0|7") == expected


def test_defaults(service: KeyService) -> None:
    """An account needs only an id: it has the table's default plan and may have 100 keys."""
    assert service.accounts.create("new") == Account("new", None, None, "active", 100, utc_datetime(START_MS))


def test_duplicate_id(service: KeyService) -> None:
    """A second account with the same id is refused, and the first stays unchanged."""
    with pytest.raises(AccountExists, match="the account already exists") as caught:
        service.accounts.create("acme", plan="growth")

    assert caught.value.code == "account_exists"
    assert service.accounts.get("acme").plan == "starter"


def test_ensure(service: KeyService) -> None:
    """`ensure` creates a missing account, and returns an existing one unchanged."""
    made = service.accounts.ensure("new", plan="growth")

    assert made.plan == "growth"
    assert service.accounts.ensure("new", plan="starter") == made


def test_list(service: KeyService) -> None:
    """The operator sees all accounts in pages, ordered by id."""
    for name in ("c", "b", "a"):
        service.accounts.create(name)
    pages = [service.accounts.list(page_num=number, page_size=3) for number in (1, 2)]

    assert [[account.id for account in page.items] for page in pages] == [["a", "acme", "b"], ["c"]]
    assert [(page.total, page.has_more) for page in pages] == [(4, True), (4, False)]


def test_changes(service: KeyService) -> None:
    """Each change returns the new state of the account, and adds one event with the previous value."""
    accounts = service.accounts
    accounts.set_plan("acme", "growth", actor="ada")
    accounts.set_overrides("acme", OVERRIDES)
    accounts.set_max_keys("acme", 0)
    changed = accounts.suspend("acme")
    events = [(event.action, event.actor, event.details) for event in service.events("acme").items]

    assert (
        changed == accounts.get("acme") == Account("acme", "growth", OVERRIDES, "suspended", 0, utc_datetime(START_MS))
    )
    assert events[:-1] == [
        ("account.suspended", None, {"before": "active", "after": "suspended"}),
        ("account.max_keys_set", None, {"before": 100, "after": 0}),
        ("account.overrides_set", None, {"before": None, "after": OVERRIDES}),
        ("account.plan_set", "ada", {"before": "starter", "after": "growth"}),
    ]


def test_change_to_the_same_value(service: KeyService, store: KeyStore) -> None:
    """Setting the current value adds no event and no change; empty overrides mean no overrides."""
    service.accounts.set_overrides("acme", OVERRIDES)
    position = store.query(queries.changes_since, None).position
    service.accounts.set_plan("acme", "starter")
    service.accounts.set_overrides("acme", dict(OVERRIDES))
    service.accounts.activate("acme")

    assert service.events("acme").total == 2
    assert store.query(queries.changes_since, position).accounts == frozenset()
    assert service.accounts.set_overrides("acme", {}).overrides is None


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"account_id": "a b"}, "account_id"),
        ({"plan": ""}, "plan"),
        ({"plan": "x\0"}, "plan"),
        ({"max_keys": -1}, "max_keys"),
        ({"max_keys": True}, "max_keys"),
        ({"overrides": "per_minute"}, "overrides"),
        ({"overrides": {"per_minute": object()}}, "overrides"),
        ({"overrides": {"per_minute": float("nan")}}, "overrides"),
        ({"overrides": {(1, 2): 3}}, "overrides"),
        ({"overrides": {"x": "y" * 9_000}}, "overrides"),
        ({"overrides": {"x": KeyFormat().new().reveal()}}, "overrides"),
        ({"actor": "\ud800"}, "actor"),
    ],
)
def test_invalid_argument(service: KeyService, arguments: dict[str, Any], field: str) -> None:
    """An invalid argument raises an error that names the field, and no account is created."""
    with pytest.raises(InvalidKeyRequest) as caught:
        service.accounts.create(**{"account_id": "new", **arguments})

    assert caught.value.field == field
    assert service.accounts.list().total == 1


def test_cyclic_overrides(service: KeyService) -> None:
    """A mapping that contains itself is refused."""
    cycle: dict[str, Any] = {}
    cycle["cycle"] = cycle
    with pytest.raises(InvalidKeyRequest, match="cannot be stored as JSON"):
        service.accounts.set_overrides("acme", cycle)


@pytest.mark.parametrize("verb", ["set_plan", "set_overrides", "set_max_keys", "suspend", "activate", "get"])
def test_unknown_account(service: KeyService, verb: str) -> None:
    """Every method raises AccountNotFound for an unknown account."""
    arguments: dict[str, list[Any]] = {"set_plan": ["growth"], "set_overrides": [None], "set_max_keys": [1]}
    with pytest.raises(AccountNotFound, match="account_id: there is no such account"):
        getattr(service.accounts, verb)("nobody", *arguments.get(verb, []))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"per_minut": 5}, r"per_minut: unknown key; allowed are plan, per_second, per_minute, .*"),
        ({"per_minute": "5"}, r"per_minute: minute: tokens: expected an integer >= 1, got '5'"),
        ({"concurrent": {"slot": 5}}, r"concurrent\.slot: unknown key; allowed are slots, .*"),
        ({"account": 5}, r"account: expected a table with the keys per_second, .*, got 5"),
        ({"account": {"per_minut": 5}}, r"account\.per_minut: unknown key; allowed are per_second, .*"),
        ({"account": {"per_minute": 0}}, r"account\.per_minute: minute: tokens: expected an integer >= 1, got 0"),
        ({"account": {"account": {"per_minute": 5}}}, r"account\.account: unknown key; allowed are per_second, .*"),
    ],
)
def test_invalid_overrides(service: KeyService, overrides: dict[str, Any], says: str) -> None:
    """Overrides that would make each request of the account a 503 are refused, even without a plan table."""
    with pytest.raises(InvalidKeyRequest, match=f"^overrides: not a valid override; {says}$"):
        service.accounts.set_overrides("acme", overrides)
    with pytest.raises(InvalidKeyRequest, match=f"^overrides: not a valid override; {says}$"):
        service.accounts.create("new", overrides=overrides)

    assert service.accounts.get("acme").overrides is None
    assert service.accounts.list().total == 1


def test_check_plan(store: KeyStore, service: KeyService) -> None:
    """`check_plan` refuses unknown plans and invalid overrides; the error lists the valid plans."""
    table = PlanTable.default()
    checked = KeyService(
        store, check_plan=lambda plan, own: table.resolve(Caller("check", plan, overrides=own))
    ).accounts
    with pytest.raises(InvalidKeyRequest, match=r"^plan: .*'platinum'; allowed are starter, growth"):
        checked.set_plan("acme", "platinum")
    with pytest.raises(InvalidKeyRequest, match=r"^overrides: .*expected an integer >= 1"):
        checked.set_overrides("acme", {"per_minute": 0})
    with pytest.raises(InvalidKeyRequest, match=r"^overrides: .*account\.per_month: month: tokens: expected an int"):
        checked.set_overrides("acme", {"account": {"per_month": "x"}})
    with pytest.raises(InvalidKeyRequest, match=r"^plan: "):
        checked.create("new", overrides={"per_second": "x"})

    assert checked.get("acme") == service.accounts.get("acme")
    assert checked.list().total == 1
    assert checked.set_overrides("acme", {"per_minute": 90}).overrides == {"per_minute": 90}
    shared = {"account": {"per_minute": 12_000, "concurrent": {"slots": 9}}}
    assert checked.set_overrides("acme", shared).overrides == shared


def test_plan_that_the_table_has_lost(store: KeyStore, service: KeyService) -> None:
    """A plan that does not exist is refused for an account that has it already: its requests get a 503."""
    table = PlanTable.default()
    checked = KeyService(
        store, check_plan=lambda plan, own: table.resolve(Caller("check", plan, overrides=own))
    ).accounts
    service.accounts.set_plan("acme", "strater")

    with pytest.raises(InvalidKeyRequest, match=r"^plan: .*'strater'; allowed are starter, growth"):
        checked.set_plan("acme", "strater")
