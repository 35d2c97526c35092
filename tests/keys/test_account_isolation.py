"""No statement reaches another account's rows, on each database."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import event
from tests.keys.test_no_key_leaks import Lifecycle

from awx_ratelimit import STARTER, Limiter, MemoryBackend
from awx_ratelimit.keys import KeyFormat, KeyStore, UsageExport, UsageHistory
from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.testing import ManualClock

#: Statements without an account: the look-up that finds it, the changes of all accounts, and the operator's list.
_FOR_ALL = (
    r"WHERE awx_api_keys.key_hash = \S+$",
    r"FROM awx_key_changes",
    r"FROM \(SELECT awx_accounts\.id [^()]*FROM awx_accounts\) AS anon_1$",
    r"FROM awx_accounts ORDER BY awx_accounts.id\s+LIMIT \S+ OFFSET \S+$",
    # The usage history finds the accounts of the keys that were used, and removes what is old.
    r"^SELECT awx_api_keys.id, awx_api_keys.account_id, awx_api_keys.family_id FROM awx_api_keys "
    r"WHERE awx_api_keys.id IN ",
    r"FROM awx_usage_marks WHERE name = ",
    r"^SELECT awx_usage_writers.process FROM awx_usage_writers\s+LIMIT \S+",
    # The operator finds whose key a log shows.
    r"^SELECT awx_api_keys.id, .* WHERE awx_api_keys.(last4|prefix|id|key_hash) = .* LIMIT ",
    # The export for billing is the operator's.
    r"FROM awx_usage_costs WHERE period = 'hour' ",
    r"^DELETE FROM (awx_usage|awx_usage_costs|awx_usage_refusals|awx_usage_shadows|awx_usage_writers) ",
)
_OF_AN_ACCOUNT = (
    r"WHERE .*?(awx_api_keys\.account_id|awx_api_key_events\.account_id|awx_accounts\.id"
    r"|awx_usage\.account_id|awx_usage_costs\.account_id|awx_usage_refusals\.account_id"
    r"|awx_usage_shadows\.account_id) = "
)


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


def _use(store: KeyStore, clock: ManualClock, key_id: str) -> None:
    history = UsageHistory(store, clock=clock, flush_seconds=3_600)
    Limiter(MemoryBackend(clock=clock), listeners=[history]).acquire(key_id, STARTER)
    history.close()


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
    service.accounts.override("acme", {"times": 2}, until=utc_datetime(clock.now_ms() + 1_000))
    service.accounts.end_override("acme")
    service.accounts.list()
    service.accounts.caller(service.list("acme").items[0].id, "acme")
    service.accounts.ensure("acme")
    service.accounts.suspend("acme")
    life.verifier.close()
    _use(store, clock, service.list("acme").items[0].id)
    service.usage.history("acme", key_id=service.list("acme").items[0].id)
    service.usage.busiest("acme")
    service.usage.refusals("acme")
    clock.advance(9 * 3_600_000)
    list(UsageExport(store, clock=clock).since(datetime(2025, 6, 1, tzinfo=UTC)))
    list(UsageExport(store, clock=clock).since(datetime(2025, 6, 1, tzinfo=UTC), account_id="acme"))
    service.usage.shadow_refusals("acme")
    service.usage.is_recorded()
    service.operator.keys.shown_as("awx_...0000")
    service.operator.caller_of("alice", "acme")
    touching = [one for one in sent if re.match("SELECT .*awx_|UPDATE|DELETE", one)]
    odd = [one for one in touching if not re.search(_OF_AN_ACCOUNT, one)]

    assert len(touching) > 50
    assert [one for one in odd if not any(re.search(pattern, one) for pattern in _FOR_ALL)] == []
    # Only old changes and usage are ever deleted.
    assert {one.split(" WHERE")[0] for one in touching if one.startswith("DELETE")} == {
        "DELETE FROM awx_key_changes",
        *(f"DELETE FROM awx_usage{name}" for name in ("", "_costs", "_refusals", "_shadows", "_writers")),
    }
    assert not [one for one in touching if one.startswith("UPDATE awx_api_key_events")]
