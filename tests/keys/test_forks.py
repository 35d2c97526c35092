"""Workers that are forked from a process with an open store (gunicorn --preload), on each database."""

import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.machine import eventually
from tests.processes import FORKS

from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.storage.engine import ForkGate

ROOT = Path(__file__).parents[2]
_PREAMBLE = """
import gc, os, sys, threading, time
from tests.machine import eventually, timed
from tests.processes import FORKS
from awx_ratelimit.errors import KeyRefused
from awx_ratelimit.runtime.forks import renew_if_forked
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier

store = KeyStore.open(sys.argv[1], timeout_ms=int(sys.argv[2]))
service, verifier = KeyService(store), KeyVerifier(store, budget_ms=int(sys.argv[2]))
service.accounts.create("acme", plan="starter")
created = [service.create("acme", "n") for _ in range(2)]
known, unseen = (one.secret.reveal().encode() for one in created)

def code(key):
    try:
        verifier.verify(key)
    except KeyRefused as error:
        return error.code
    return "ok"

def child(work):
    pid = FORKS[sys.argv[3]]()
    if pid:
        return pid
    try:
        work()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
_PRELOADED = """
assert code(known) == "ok"
# No thread is writing at the moment of the fork: a fork in C waits for none.
verifier.write_uses()
read, write = os.pipe()
go, going = os.pipe()

def work():
    renew_if_forked()
    # Nothing of the parent's is open here: SQLite's locks are a process's own.
    names = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [name for name in names if "keys.db" in name]
    assert (code(known), code(unseen)) == ("ok", "ok")
    os.write(write, b"x")
    os.read(go, 1)
    # Its own poll, within a second, tells it what the parent did.
    with timed() as watch:
        assert eventually(lambda: code(known), "api_key_revoked") == "api_key_revoked"
    assert watch.seconds < watch.limit(1)
    service.create("acme", "by the child")
    gc.collect()
    verifier.close()
    store.close()

pid = child(work)
os.close(write)
assert os.read(read, 1) == b"x"
service.revoke("acme", created[0].key.id)
assert (code(known), code(unseen)) == ("api_key_revoked", "ok")
os.write(going, b"x")
assert ended(pid) == 0
assert sorted(key.name for key in service.list("acme").items) == ["by the child", "n"]
verifier.close()
store.close()
print("done")
"""
_BUSY = """
stopping = threading.Event()

def write():
    while not stopping.is_set():
        service.rename("acme", created[0].key.id, f"n{time.monotonic_ns()}")
        service.list("acme")
        code(unseen)

threads = [threading.Thread(target=write) for _ in range(4)]
for thread in threads:
    thread.start()

def work():
    for number in range(3):
        service.create("acme", f"child {os.getpid()} {number}")
    assert code(known) == "ok"
    verifier.close()
    store.close()

for _ in range(8):
    assert ended(child(work)) == 0
stopping.set()
for thread in threads:
    thread.join()
assert code(known) == "ok"
assert service.list("acme").total == 2 + 8 * 3
verifier.close()
store.close()
print("done")
"""

_HELD = """
inside, leave = threading.Event(), threading.Event()

def hold():
    with store._fork_gate:
        connections = [store._engines.reading.connect() for _ in range(5)]
        inside.set()
        leave.wait(20)
        for connection in connections:
            connection.close()

thread = threading.Thread(target=hold)
thread.start()
inside.wait(10)
read, write = os.pipe()

def work():
    assert service.list("acme").total == 2
    os.write(write, b"x")
    service.create("acme", "by the child")

pid = child(work)
os.close(write)
assert os.read(read, 1) == b"x"
leave.set()
thread.join()
assert ended(pid) == 0
service.create("acme", "by the parent")
assert service.list("acme").total == 4
verifier.close()
store.close()
print("done")
"""


def _run(script: str, address: str, timeout_ms: int = 10_000, fork: str = "python") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _PREAMBLE + script, address, str(timeout_ms), fork],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("fork", FORKS)
def test_worker(database: str, store: KeyStore, fork: str) -> None:
    """A forked worker verifies keys, learns of revocations and writes by itself, and its parent continues."""
    assert _run(_PRELOADED, database, fork=fork) == (0, "done\n", "")


def test_store_that_was_only_opened(database: str) -> None:
    """An open store that was never used has no connection that a fork in C could copy."""
    store = KeyStore.open(database)
    pools: list[Any] = [store._engines.reading.pool, store._engines.writing.pool]

    assert [pool.checkedin() for pool in pools] == [0, 0]


def test_forks_while_threads_work(database: str, store: KeyStore) -> None:
    """Forks while other threads read and write leave no lock taken and lose no row, in the parent and in the child."""
    assert _run(_BUSY, database) == (0, "done\n", "")
    assert KeyService(store).list("acme").total == 26


def test_fork_while_the_gate_is_taken(database: str, store: KeyStore) -> None:
    """A fork does not wait forever for a thread that uses the store, and the child opens new connections."""
    assert _run(_HELD, database, 500) == (0, "done\n", "")


def test_store_in_memory() -> None:
    """After a fork the parent's store in memory still exists, and the child has a copy."""
    script = _BUSY.replace('assert service.list("acme").total == 2 + 8 * 3', 'assert service.list("acme").total == 2')

    assert _run(script, "sqlite://") == (0, "done\n", "")


def test_fork_gate() -> None:
    """A closed gate waits for threads inside, and blocks new ones until it opens again."""
    turnstile, seen = ForkGate(10), []

    def come() -> None:
        with turnstile:
            seen.append("came in")

    turnstile.__enter__()
    shutting = Thread(target=turnstile.shut)
    shutting.start()
    coming = Thread(target=come)
    shutting.join(0.05)
    coming.start()
    coming.join(0.05)
    before = (shutting.is_alive(), list(seen))
    turnstile.__exit__(None, None, None)
    shutting.join(5)
    while_shut = list(seen)
    turnstile.reopen()

    assert before == (True, [])
    assert while_shut == []
    assert eventually(lambda: seen, ["came in"]) == ["came in"]
