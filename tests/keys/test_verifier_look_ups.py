"""Look-ups that callers share, that hang, and their threads, on each database."""

import gc
import threading
import time
import weakref

import pytest
from tests.keys.store_probes import Call, paused_look_ups
from tests.keys.verifications import Make, code_of, new_key
from tests.machine import eventually

from awx_ratelimit.errors import KeyStoreUnavailable
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier
from awx_ratelimit.testing import ManualClock


def test_shared_look_up(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """Concurrent requests with the same key share one look-up."""
    key_id, key = new_key(service)
    verifier.poll()
    with paused_look_ups(store) as held:
        calls = [Call(verifier.verify, key) for _ in range(20)]
        held.reached.wait(10)
        held.let_go.set()
        answers = {call.ended().subject for call in calls}

    assert answers == {key_id}
    assert held.number == 1


def test_independent_look_ups(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """While the look-up of one key hangs, another key is looked up."""
    _, first = new_key(service)
    second_id, second = new_key(service)
    verifier.poll()
    with paused_look_ups(store) as held:
        hanging = Call(verifier.verify, first)
        held.reached.wait(10)
        other = Call(verifier.verify, second)
        both = eventually(lambda: held.number, 2)
        held.let_go.set()

    assert both == 2
    assert other.ended().subject == second_id
    assert hanging.ended().account == "acme"


def test_hanging_look_up(
    service: KeyService, store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All callers of a hanging look-up give up in time; later ones do not wait, and cached keys work."""
    verifier = verifiers(budget_ms=30_000)
    (_, known), (_, hanging), (_, other) = new_key(service), new_key(service), new_key(service)
    verifier.verify(known)
    # Only the hanging look-up has a short budget: the first one may be late on a busy machine.
    monkeypatch.setattr(verifier._threads.single_flight, "_budget_s", 0.2)
    with paused_look_ups(store) as held:
        began_s = time.monotonic()
        said = {str(call.ended()) for call in [Call(verifier.verify, hanging) for _ in range(5)]}
        waited_s = time.monotonic() - began_s
        with pytest.raises(KeyStoreUnavailable, match="has not answered in time; look-ups pause"):
            verifier.verify(other)
        remembered = code_of(verifier.verify, known)

    assert said == {"the key store has not answered within 200 ms"}
    assert held.number == 1
    assert remembered == "ok"
    assert 0.19 < waited_s < 10


def test_store_recovers(service: KeyService, store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hung is used again when it responds, also for the key whose look-up hung."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.single_flight._COOLDOWN_S", 0.0)
    verifier = verifiers(budget_ms=500)
    key_id, key = new_key(service)
    with paused_look_ups(store), pytest.raises(KeyStoreUnavailable):
        verifier.verify(key)

    assert verifier.verify(key).subject == key_id


def test_threads_of_a_hanging_store(store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most four threads wait for the store, and look-ups that nobody waits for are dropped."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.single_flight._COOLDOWN_S", 0.0)
    verifier = verifiers(budget_ms=300)
    verifier.poll()
    before = threading.active_count()
    with paused_look_ups(store) as held:
        calls = [Call(verifier.verify, KeyFormat().new().reveal().encode()) for _ in range(30)]
        reached = eventually(lambda: held.number, 4)
        errors = {type(call.ended()) for call in calls}
        threads = threading.active_count() - before
    settled = eventually(verifier._threads.single_flight._queue.qsize, 0)

    assert reached == 4
    assert errors == {KeyStoreUnavailable}
    assert held.number == 4
    assert settled == 0
    # Four threads look up, one polls and one writes.
    assert threads == 6


def test_threads(service: KeyService, verifiers: Make) -> None:
    """The first look-up starts the threads, and `close` ends them."""

    def running() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("awx-key")}

    verifier = verifiers()
    made = running()
    verifier.verify(new_key(service)[1])
    working = running()
    verifier.close()
    verifier.close()

    assert made == set()
    assert working == {"awx-key-changes", "awx-key-uses", "awx-key-look-up"}
    assert eventually(lambda: len(running()), 0) == 0


def test_collected_verifier(
    store: KeyStore, service: KeyService, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads do not keep a verifier alive that was not closed."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.threads.WRITE_USES_S", 0.01)
    verifier = KeyVerifier(store, clock=clock)
    verifier.verify(new_key(service)[1])
    gone = weakref.ref(verifier)
    del verifier

    assert eventually(lambda: (gc.collect(), gone())[1], None) is None
