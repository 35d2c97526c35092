"""Concurrent operations on keys, on each database."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Barrier, Event
from typing import Any

import psycopg
from sqlalchemy import event
from tests.keys.store_probes import Call
from tests.machine import eventually, timed
from tests.postgres_servers import Postgres

from awx_ratelimit.errors import AwxRateLimitError, KeyNotFound, KeyRequestRefused
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.testing import ManualClock

_CREATE = """
import sys
from collections import Counter
from threading import Barrier, Thread
from awx_ratelimit.errors import AwxRateLimitError
from awx_ratelimit.keys import KeyService, KeyStore
# All threads wait for one account, and a busy machine needs more than the usual ten seconds for them.
store = KeyStore.open(sys.argv[1], timeout_ms=120_000)
service, ended, barrier = KeyService(store), Counter(), Barrier(50)
def create():
    barrier.wait(20)
    try:
        service.create("acme", "n")
        ended["made"] += 1
    except AwxRateLimitError as error:
        ended[error.code] += 1
threads = [Thread(target=create) for _ in range(50)]
print("ready", flush=True)
sys.stdin.read()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(ended["made"], ended["api_key_limit_reached"], sum(ended.values()))
"""
_VERIFY = """
import sys, time
from awx_ratelimit.errors import KeyRefused
from awx_ratelimit.keys import KeyStore, KeyVerifier
store = KeyStore.open(sys.argv[1])
verifier, key = KeyVerifier(store), sys.argv[2].encode()
print(verifier.verify(key).plan, flush=True)
before, until = verifier.verify(key).plan, time.monotonic() + 10
while time.monotonic() < until:
    try:
        if (plan := verifier.verify(key).plan) != before:
            print(plan, time.time(), flush=True)
            before = plan
    except KeyRefused as error:
        print(error.code, time.time(), flush=True)
        break
    time.sleep(0.002)
verifier.close()
store.close()
"""


def _at_once(number: int, act: Callable[[], Any]) -> "Counter[str]":
    """The outcomes of calls that begin together, counted by code; `done` means success."""
    barrier = Barrier(number)

    def call() -> str:
        barrier.wait(20)
        try:
            act()
        except AwxRateLimitError as error:
            return str(getattr(error, "code", error))
        return "done"

    calls = [Call(call) for _ in range(number)]
    return Counter(one.ended() for one in calls)


def test_concurrent_creations(service: KeyService) -> None:
    """Of 200 concurrent creations exactly as many succeed as the account may have keys; the others are refused."""
    service.accounts.set_max_keys("acme", 30)
    ended = _at_once(200, lambda: service.create("acme", "n"))

    assert ended == {"done": 30, "api_key_limit_reached": 170}
    assert service.list("acme").total == 30


def test_creations_in_processes(database: str, service: KeyService) -> None:
    """The maximum also holds for two processes with 50 threads each."""
    service.accounts.set_max_keys("acme", 60)
    command = [sys.executable, "-c", _CREATE, database]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
        worker.stdin = None
    ended = [[int(number) for number in worker.communicate(timeout=150)[0].split()] for worker in workers]

    assert [sum(numbers) for numbers in zip(*ended, strict=True)] == [60, 40, 100]
    assert service.list("acme").total == 60


def test_isolation_level(postgres: Postgres) -> None:
    """With REPEATABLE READ as the default, tables are still created once and the maximum holds."""
    name = postgres.new_database()
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation TO 'repeatable read'".encode())
    opened = _at_once(4, lambda: KeyStore.open(postgres.url(name)).close())
    store = KeyStore.open(postgres.url(name))
    service = KeyService(store)
    service.accounts.create("acme", max_keys=5)
    ended = _at_once(40, lambda: service.create("acme", "n"))
    store.close()
    postgres.drop(name)

    assert opened == {"done": 4}
    assert ended == {"done": 5, "api_key_limit_reached": 35}


def test_concurrent_rotations(service: KeyService) -> None:
    """Of concurrent rotations of a key one succeeds; the others report that it was already rotated."""
    key = service.create("acme", "n").key
    ended = _at_once(20, lambda: service.rotate("acme", key.id))

    assert ended == {"done": 1, "api_key_not_active": 19}
    successors = [one.id for one in service.list("acme").items if one.rotated_from == key.id]
    assert successors == [service.get("acme", key.id).replaced_by]


def test_concurrent_revocations(service: KeyService) -> None:
    """Of concurrent revocations of a key one succeeds, with one audit row."""
    key = service.create("acme", "n").key
    ended = _at_once(20, lambda: service.revoke("acme", key.id))

    assert ended == {"done": 1, "api_key_not_found": 19}
    assert [event.action for event in service.events("acme", key_id=key.id).items] == ["key.revoked", "key.created"]


def test_rotation_and_revocation(service: KeyService) -> None:
    """A key is either rotated and then revoked, or revoked and never rotated: a revoked key has no new successor."""
    seen = set()
    for _ in range(20):
        key = service.create("acme", "n").key
        barrier = Barrier(2)

        def act(verb: Callable[..., Any], key_id: str = key.id, barrier: Barrier = barrier) -> str:
            barrier.wait(10)
            try:
                verb("acme", key_id)
            except KeyNotFound:
                return "too late"
            return "done"

        rotated, revoked = Call(act, service.rotate), Call(act, service.revoke)
        ended = (rotated.ended(), revoked.ended())
        successors = [one for one in service.list("acme", page_size=100).items if one.rotated_from == key.id]
        seen.add((*ended, len(successors)))

    assert seen <= {("done", "done", 1), ("too late", "done", 0)}


def test_concurrent_accounts(service: KeyService) -> None:
    """Of concurrent creations of an account one succeeds, and every `ensure` returns that account."""
    created = _at_once(10, lambda: service.accounts.create("new"))
    ensured = _at_once(10, lambda: service.accounts.ensure("newer", plan="growth"))

    assert created == {"done": 1, "account_exists": 9}
    assert ensured == {"done": 10}
    assert service.events("newer").total == 1


@contextmanager
def _held_commit(store: KeyStore) -> Iterator[tuple[Event, Event]]:
    """Pause the first commit of a block until the test lets it continue."""
    reached, let_go = Event(), Event()

    def hold(_: object) -> None:
        if not reached.is_set():
            reached.set()
            assert let_go.wait(10), "the test did not let the commit continue"

    event.listen(store._engines.writing, "commit", hold)
    try:
        yield reached, let_go
    finally:
        let_go.set()


def test_order_of_changes(service: KeyService, store: KeyStore) -> None:
    """A poll never skips a change that has a number but is not yet committed."""
    service.accounts.create("other")
    position = store.query(queries.changes_since, None).position
    with _held_commit(store) as (reached, let_go):
        first = Call(service.accounts.set_plan, "acme", "growth")
        reached.wait(10)
        second = Call(service.accounts.set_plan, "other", "growth")
        # Long enough for the second change to overtake the first, if it could.
        second.join(0.2)
        position, early = store.query(queries.changes_since, position)
        let_go.set()
        first.ended()
        second.ended()
    late = store.query(queries.changes_since, position).accounts

    assert early == frozenset()
    assert late == frozenset({"acme", "other"})


def test_changes_in_other_processes(database: str, service: KeyService) -> None:
    """A process with the key in memory applies a new plan, and refuses the revoked key, within a second each."""
    created = service.create("acme", "n")
    command = [sys.executable, "-c", _VERIFY, database, created.secret.reveal()]
    with timed() as watch, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        upgraded_s = time.time()
        service.accounts.set_plan("acme", "growth")
        plan, plan_s = process.stdout.readline().split()
        revoked_s = time.time()
        service.revoke("acme", created.key.id)
        code, code_s = process.stdout.readline().split()

    assert first == "starter\n"
    assert plan == "growth"
    assert code == "api_key_revoked"
    assert process.returncode == 0
    assert float(plan_s) - upgraded_s < watch.limit(1)
    assert float(code_s) - revoked_s < watch.limit(1)


def test_no_deadlock(service: KeyService, store: KeyStore, clock: ManualClock) -> None:
    """Concurrent operations on many accounts all end, and every change is polled."""
    names = [f"acct_{number}" for number in range(6)]
    keys = {}
    for name in names:
        service.accounts.create(name)
        keys[name] = service.create(name, "n").key.id
    position = store.query(queries.changes_since, None).position
    barrier = Barrier(18)

    def act(verb: Callable[[str], Any], name: str) -> Any:
        barrier.wait(20)
        for _ in range(5):
            try:
                verb(name)
            except KeyRequestRefused:
                continue

    def rotate(name: str) -> None:
        keys[name] = service.rotate(name, keys[name]).key.id

    verbs = (rotate, service.accounts.suspend, service.accounts.activate)
    calls = [Call(act, verb, name) for name in names for verb in verbs]
    ended = [call.ended() for call in calls]
    heard = eventually(lambda: len(store.query(queries.changes_since, position).accounts or ()), 6)

    assert ended == [None] * 18
    assert heard == 6
