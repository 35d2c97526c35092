"""Who owns keys, on each database."""

from typing import Any

import pytest
from tests.keys.conftest import START_MS

from awx_ratelimit import Caller, PlanTable
from awx_ratelimit.errors import AccountExists, AccountNotFound, InvalidKeyRequest
from awx_ratelimit.keys import Account, KeyFormat, KeyService, KeyStore
from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.keys.storage import queries

OVERRIDES = {"per_minute": {"limit": 120, "burst": 10}, "concurrent": 7, "rates": ["5/second"]}


def test_an_account_is_made_and_found(service: KeyService) -> None:
    """An account is as it was made, and the same when it is asked for."""
    made = service.accounts.create("auth0|7", plan="growth", overrides=OVERRIDES, max_keys=3)

    expected = Account("auth0|7", "growth", OVERRIDES, "active", 3, utc_datetime(START_MS))
    assert made == expected
    assert service.accounts.get("auth0|7") == expected


def test_an_account_needs_nothing_but_an_id(service: KeyService) -> None:
    """Without a plan it has the table's default, without a number it may have 100 keys."""
    assert service.accounts.create("new") == Account("new", None, None, "active", 100, utc_datetime(START_MS))


def test_an_id_is_taken_once(service: KeyService) -> None:
    """A second account of one id is refused, and the first is left as it was."""
    with pytest.raises(AccountExists, match="the account already exists") as caught:
        service.accounts.create("acme", plan="growth")

    assert caught.value.code == "account_exists"
    assert service.accounts.get("acme").plan == "starter"


def test_an_account_is_ensured(service: KeyService) -> None:
    """Who signs in for the first time gets an account, and afterwards has it as it is."""
    made = service.accounts.ensure("new", plan="growth")

    assert made.plan == "growth"
    assert service.accounts.ensure("new", plan="starter") == made


def test_accounts_are_listed_by_id(service: KeyService) -> None:
    """Who runs the store sees every account, page by page."""
    for name in ("c", "b", "a"):
        service.accounts.create(name)
    pages = [service.accounts.list(page_num=number, page_size=3) for number in (1, 2)]

    assert [[account.id for account in page.items] for page in pages] == [["a", "acme", "b"], ["c"]]
    assert [(page.total, page.has_more) for page in pages] == [(4, True), (4, False)]


def test_everything_of_an_account_can_be_changed(service: KeyService) -> None:
    """Each change is answered with the account as it is then, and is one event with what was before."""
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


def test_what_is_so_already_is_no_change(service: KeyService, store: KeyStore) -> None:
    """Setting what is set is neither an event nor news; an empty override is none."""
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
def test_arguments_that_are_not_allowed(service: KeyService, arguments: dict[str, Any], field: str) -> None:
    """A wrong argument is one error that names the field; no account is made."""
    with pytest.raises(InvalidKeyRequest) as caught:
        service.accounts.create(**{"account_id": "new", **arguments})

    assert caught.value.field == field
    assert service.accounts.list().total == 1


def test_overrides_inside_themselves_are_refused(service: KeyService) -> None:
    """A mapping that contains itself cannot be kept."""
    cycle: dict[str, Any] = {}
    cycle["cycle"] = cycle
    with pytest.raises(InvalidKeyRequest, match="cannot be stored as JSON"):
        service.accounts.set_overrides("acme", cycle)


@pytest.mark.parametrize("verb", ["set_plan", "set_overrides", "set_max_keys", "suspend", "activate", "get"])
def test_no_such_account(service: KeyService, verb: str) -> None:
    """Every verb says that there is no such account."""
    arguments: dict[str, list[Any]] = {"set_plan": ["growth"], "set_overrides": [None], "set_max_keys": [1]}
    with pytest.raises(AccountNotFound, match="account_id: there is no such account"):
        getattr(service.accounts, verb)("nobody", *arguments.get(verb, []))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"per_minut": 5}, r"per_minut: unknown key; allowed are plan, per_second, per_minute, .*"),
        ({"per_minute": "5"}, r"per_minute: minute: tokens: expected an integer >= 1, got '5'"),
        ({"concurrent": {"slot": 5}}, r"concurrent\.slot: unknown key; allowed are slots, .*"),
    ],
)
def test_wrong_overrides_are_refused_without_a_plan_table(
    service: KeyService, overrides: dict[str, Any], says: str
) -> None:
    """They would make each request of the account a 503."""
    with pytest.raises(InvalidKeyRequest, match=f"^overrides: not a valid override; {says}$"):
        service.accounts.set_overrides("acme", overrides)
    with pytest.raises(InvalidKeyRequest, match=f"^overrides: not a valid override; {says}$"):
        service.accounts.create("new", overrides=overrides)

    assert service.accounts.get("acme").overrides is None
    assert service.accounts.list().total == 1


def test_a_plan_that_does_not_exist_is_refused(store: KeyStore, service: KeyService) -> None:
    """With a check of plans an account never has one that would refuse it everything; the error says what there is."""
    table = PlanTable.default()
    checked = KeyService(
        store, check_plan=lambda plan, own: table.resolve(Caller("check", plan, overrides=own))
    ).accounts
    with pytest.raises(InvalidKeyRequest, match=r"^plan: .*'platinum'; allowed are starter, growth"):
        checked.set_plan("acme", "platinum")
    with pytest.raises(InvalidKeyRequest, match=r"^overrides: .*expected an integer >= 1"):
        checked.set_overrides("acme", {"per_minute": 0})
    with pytest.raises(InvalidKeyRequest, match=r"^plan: "):
        checked.create("new", overrides={"per_second": "x"})

    assert checked.get("acme") == service.accounts.get("acme")
    assert checked.list().total == 1
    assert checked.set_overrides("acme", {"per_minute": 90}).overrides == {"per_minute": 90}
