"""What the operator sees of all accounts, on each database."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text
from tests.keys.conftest import START_MS
from tests.keys.store_probes import statements as statements_of
from tests.postgres_servers import Postgres

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.keys.storage import operator_queries
from awx_ratelimit.keys.storage import usage as statements
from awx_ratelimit.observability.subject_counts import HourUsage

NOW = utc_datetime(START_MS)
Fill = Callable[..., str]


@pytest.fixture
def used(store: KeyStore, service: KeyService) -> Fill:
    """A function that records usage of a new key of an account, which it creates."""
    sequence = iter(range(1, 1_000))

    def fill(account: str, allowed: int, refused: int = 0, *, days_ago: int = 0, **shadows: int) -> str:
        service.accounts.ensure(account, plan="starter")
        key = service.create(account, "n").key.id
        at_ms = START_MS - days_ago * 86_400_000
        hour = HourUsage(key, at_ms, allowed, refused, 0, at_ms, {}, {}, shadows)
        store.write(statements.add, "test", next(sequence), START_MS, [hour])
        return key

    return fill


def listed(service: KeyService, **asked: Any) -> list[tuple[str, int, int]]:
    """The ids of a page, with the requests."""
    return [(one.account.id, one.allowed, one.refused) for one in service.operator.accounts(**asked).items]


def ids(service: KeyService, **asked: Any) -> list[str]:
    """The ids of a page."""
    return [account_id for account_id, _, _ in listed(service, **asked)]


def test_orders(service: KeyService, used: Fill) -> None:
    """Accounts are listed by id with their requests in the time, or those with requests by number."""
    used("b", 5, 4)
    used("b", 5)
    used("c", 8, 9, days_ago=3)
    used("d", 50, days_ago=40)

    assert listed(service) == [("acme", 0, 0), ("b", 10, 4), ("c", 8, 9), ("d", 0, 0)]
    assert listed(service, order="requests") == [("c", 8, 9), ("b", 10, 4)]
    assert listed(service, order="refusals") == [("c", 8, 9), ("b", 10, 4)]
    assert listed(service, order="requests", from_=NOW - timedelta(days=1)) == [("b", 10, 4)]
    assert listed(service, order="requests", by="hour") == [("b", 10, 4)]


def test_longest_time(service: KeyService, used: Fill) -> None:
    """A time begins at most 31 days or 48 hours before its end."""
    for number, days in enumerate((1, 2, 30, 31)):
        used(f"n{number}", 1, days_ago=days)

    long_ago = NOW - timedelta(days=400)
    assert ids(service, order="requests", from_=long_ago) == ["n0", "n1", "n2"]
    assert ids(service, order="requests", from_=long_ago, by="hour") == ["n0"]
    assert ids(service, order="requests", from_=long_ago, to=NOW - timedelta(days=31)) == ["n3"]
    assert service.operator.times(long_ago).number == 31


def test_order_of_ids(postgres: Postgres) -> None:
    """Ids are in the order of their bytes, and begin with a prefix, whatever the language of the database is."""
    english = postgres.new_database("LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0")
    store = KeyStore.open(postgres.url(english))
    service = KeyService(store)
    for account in ("B", "a", "C", "a.1", "A", "a|1", "acme"):
        service.accounts.create(account)
    ordered, with_prefix = ids(service), ids(service, prefix="a")
    store.close()
    postgres.drop(english)

    assert ordered == ["A", "B", "C", "a", "a.1", "acme", "a|1"]
    assert with_prefix == ["a", "a.1", "acme", "a|1"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"prefix": "a"}, ["acme", "alpha", "alps"]),
        ({"prefix": "al"}, ["alpha", "alps"]),
        ({"prefix": "al%"}, []),
        ({"prefix": "alpha"}, ["alpha"]),
        ({"plan": "growth"}, ["alpha", "beta"]),
        ({"plan": "growth", "prefix": "al"}, ["alpha"]),
        ({"status": "suspended"}, ["alps"]),
        ({"status": "active", "plan": "starter"}, ["acme"]),
        ({"plan": "nothing"}, []),
    ],
)
@pytest.mark.parametrize("order", ["id", "refusals"])
def test_filters(service: KeyService, used: Fill, asked: dict[str, Any], found: list[str], order: Any) -> None:
    """A filter finds the beginning of an id, a plan and a status, in every order."""
    for account, plan in (("alpha", "growth"), ("alps", "starter"), ("beta", "growth")):
        service.accounts.create(account, plan=plan)
    for account in ("acme", "alpha", "alps", "beta"):
        used(account, 1)
    service.accounts.suspend("alps")
    page = service.operator.accounts(**asked, order=order)

    assert [one.account.id for one in page.items] == found
    assert page.total == len(found)


@pytest.mark.parametrize("order", ["id", "requests"])
def test_pages(service: KeyService, used: Fill, order: Any) -> None:
    """Pages follow one another without a gap, and the last one says so."""
    for number in range(5):
        used(f"n{number}", 1)
    used("acme", 1)
    pages = [service.operator.accounts(order=order, page_num=number, page_size=4) for number in (1, 2, 3)]

    assert [[one.account.id for one in page.items] for page in pages] == [["acme", "n0", "n1", "n2"], ["n3", "n4"], []]
    assert [(page.total, page.has_more) for page in pages] == [(6, True), (6, False), (6, False)]


@pytest.mark.parametrize("order", ["id", "requests"])
def test_bound(service: KeyService, used: Fill, monkeypatch: pytest.MonkeyPatch, order: Any) -> None:
    """No list has more items than the bound, on any page."""
    for number in range(6):
        used(f"n{number}", 1)
    monkeypatch.setattr(operator_queries, "MAX_LISTED", 5)
    pages = [service.operator.accounts(order=order, page_num=number, page_size=3) for number in (1, 2, 3)]

    assert [len(page.items) for page in pages] == [3, 2, 0]
    assert {page.total for page in pages} == {5}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"prefix": "ä"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"plan": "x\0"}, "plan"),
        ({"status": "gone"}, "status"),
        ({"order": "plan"}, "order"),
        ({"by": "week"}, "by"),
        ({"from_": "2025-06-01"}, "from"),
        ({"page_size": 101}, "page_size"),
    ],
)
def test_invalid(service: KeyService, asked: dict[str, Any], field: str) -> None:
    """An invalid filter is an error that names it."""
    with pytest.raises(InvalidKeyRequest) as caught:
        service.operator.accounts(**asked)

    assert caught.value.field == field


def test_events(service: KeyService) -> None:
    """The audit trail of all accounts can be read newest first, by account, by action and from a number on."""
    service.accounts.create("beta", actor="ada")
    service.accounts.suspend("beta", actor="bob")
    service.accounts.suspend("acme", actor="bob")
    read = service.operator.events
    newest = read().items[0]

    assert [(one.account_id, one.action, one.actor) for one in read().items] == [
        ("acme", "account.suspended", "bob"),
        ("beta", "account.suspended", "bob"),
        ("beta", "account.created", "ada"),
        ("acme", "account.created", None),
    ]
    assert [one.action for one in read(account_id="beta").items] == ["account.suspended", "account.created"]
    assert [one.account_id for one in read(action="account.suspended").items] == ["acme", "beta"]
    assert read(action="account.suspended", account_id="beta").total == 1
    assert [one.account_id for one in read(before=newest.number, page_size=1).items] == ["beta"]
    with pytest.raises(InvalidKeyRequest, match=r"^action: not a valid value; expected key\.created, "):
        read(action="account.deleted")


def test_invalid_actor_of_a_reset(service: KeyService) -> None:
    """An actor that the audit trail cannot have is an error: a reset must not seem to be of no account."""
    with pytest.raises(InvalidKeyRequest, match="actor"):
        service.operator.record_reset("acme", actor="")
    assert not service.operator.record_reset("no account", actor="ada")


def test_shadow_refusals(service: KeyService, used: Fill) -> None:
    """What limits in shadow would have refused is added up by limit, by account and by key."""
    key = used("acme", 5, minute=2, day=1)
    used("beta", 5, minute=9)
    used("beta", 5, days_ago=40, minute=99)
    found = service.operator.shadow_refusals()

    assert list(found.limits.items()) == [("minute", 11), ("day", 1)]
    assert [(one.account_id, one.number, one.limits) for one in found.accounts] == [
        ("beta", 9, {"minute": 9}),
        ("acme", 3, {"minute": 2, "day": 1}),
    ]
    assert [one.account_id for one in service.operator.shadow_refusals(number=1).accounts] == ["beta"]
    assert service.usage.shadow_refusals("acme", key_id=key) == {"minute": 2, "day": 1}
    assert service.usage.shadow_refusals("beta") == {"minute": 9}


def test_indexes() -> None:
    """In SQLite every list reads an index in its order, and sorts no table."""
    store = KeyStore.open("sqlite://")
    plans = store.query(
        lambda connection: [
            " ".join(str(row.detail) for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}")))
            for query in (
                "SELECT * FROM awx_accounts WHERE plan = 'x' ORDER BY id LIMIT 9",
                "SELECT * FROM awx_accounts WHERE status = 'x' AND id >= 'a' ORDER BY id LIMIT 9",
                "SELECT * FROM awx_api_key_events WHERE action = 'x' ORDER BY number DESC LIMIT 9",
                "SELECT sum(amount) FROM awx_usage_shadows WHERE period = 'day' AND begins_ms > 5",
            )
        ]
    )

    store.close()

    assert ["USING INDEX" in plan and "B-TREE" not in plan for plan in plans] == [True] * 4


def test_indexes_of_one_account() -> None:
    """In SQLite no statement about one account reads rows of others, however many these are."""
    store = KeyStore.open("sqlite://")
    service = KeyService(store)
    service.accounts.create("acme")
    key = service.create("acme", "n").key.id
    with statements_of(store) as sent:
        for key_id in (None, key):
            service.usage.history("acme", key_id=key_id)
            service.usage.refusals("acme", key_id=key_id)
            service.usage.shadow_refusals("acme", key_id=key_id)
        service.usage.busiest("acme")
        service.operator.accounts(prefix="a")
        service.operator.events(account_id="acme", action="key.created")
    read = [query for query in sent if "awx_usage" in query or "awx_api_key_events" in query]
    plans = store.query(lambda connection: [_plan_of(connection, query) for query in read])
    store.close()

    assert len(plans) > 12
    assert [plan for plan in plans if "by_time" in plan or "by_action" in plan or "SCAN awx" in plan] == []


def _plan_of(connection: Connection, query: str) -> str:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", (0,) * query.count("?"))
    return " ".join(str(row.detail) for row in rows)
