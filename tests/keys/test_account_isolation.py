"""No statement reaches another account's rows, on each database."""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import event
from tests.keys.test_no_key_leaks import Lifecycle

from awx_ratelimit.keys import KeyFormat, KeyStore
from awx_ratelimit.testing import ManualClock

#: Statements without an account: the look-up that finds it, the changes of all accounts, and the operator's list.
_FOR_ALL = (
    r"WHERE awx_api_keys.key_hash = \S+$",
    r"FROM awx_key_changes",
    r"FROM \(SELECT awx_accounts\.id [^()]*FROM awx_accounts\) AS anon_1$",
    r"FROM awx_accounts ORDER BY awx_accounts.id\s+LIMIT \S+ OFFSET \S+$",
)
_OF_AN_ACCOUNT = r"WHERE .*?(awx_api_keys\.account_id|awx_api_key_events\.account_id|awx_accounts\.id) = "


@pytest.fixture
def sent(store: KeyStore) -> Iterator[list[str]]:
    """Every statement that is sent, each in one line."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(" ".join(statement.split()))

    for engine in (store._engines.reading, store._engines.writing):
        event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in (store._engines.reading, store._engines.writing):
        event.remove(engine, "before_cursor_execute", note)


def test_statements_name_their_account(store: KeyStore, clock: ManualClock, sent: list[str]) -> None:
    """Every statement that reads, changes or deletes rows of keys, events or accounts is limited to one account."""
    life = Lifecycle(store, clock, KeyFormat())
    life.lived()
    service = life.service
    service.rename("acme", service.list("acme").items[0].id, "renamed")
    service.accounts.set_plan("acme", "growth")
    service.accounts.set_overrides("acme", {"per_minute": 5})
    service.stale("acme")
    service.unused("acme")
    service.accounts.list()
    service.accounts.ensure("acme")
    service.accounts.suspend("acme")
    life.verifier.close()
    touching = [one for one in sent if re.match("SELECT .*awx_|UPDATE|DELETE", one)]
    odd = [one for one in touching if not re.search(_OF_AN_ACCOUNT, one)]

    assert len(touching) > 50
    assert [one for one in odd if not any(re.search(pattern, one) for pattern in _FOR_ALL)] == []
    # Only old changes are ever deleted.
    assert {one.split(" WHERE")[0] for one in touching if one.startswith("DELETE")} == {"DELETE FROM awx_key_changes"}
    assert not [one for one in touching if one.startswith("UPDATE awx_api_key_events")]
