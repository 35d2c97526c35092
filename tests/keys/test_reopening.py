"""What `reopen` does while threads of before still hang: they end by themselves, and nothing is lost or done twice."""

from collections.abc import Callable
from threading import Event, Thread, current_thread
from typing import Any

import pytest
from tests.keys.store_probes import Call, paused_look_ups
from tests.machine import eventually

from awx_ratelimit import Limiter, MemoryBackend, Plan, QuotaWarnings, Rate
from awx_ratelimit.errors import KeyRefused, KeyStoreUnavailable
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier, UsageHistory, usage_history
from awx_ratelimit.keys.storage import usage
from awx_ratelimit.keys.verification import threads
from awx_ratelimit.keys.warnings import listener
from awx_ratelimit.runtime import flushable_thread
from awx_ratelimit.testing import ManualClock

WIDE = Plan.of("wide", per_minute=10**6)
MONTHLY = Plan("monthly", (Rate("month", 10, period="month", measure="requests"),))


class Hanging:
    """A function that hangs until `may_end` is set. `threads` are those that have begun to call it."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.threads: list[Thread] = []
        self.may_end = Event()

    def __call__(self, *arguments: Any) -> Any:
        self.threads.append(current_thread())
        assert self.may_end.wait(60), "the test did not let the call continue"
        return self._call(*arguments)

    def names(self) -> set[str]:
        """The names of the threads."""
        return {thread.name for thread in self.threads}

    def end(self) -> bool:
        """Let the calls continue. Return whether the threads of all calls until now end."""
        hanging = [*self.threads]
        self.may_end.set()
        for thread in hanging:
            thread.join(10)
        return not any(thread.is_alive() for thread in hanging)


@pytest.fixture
def database(sqlite_database: str) -> str:
    """One kind of database is enough: threads hang before they call it."""
    return sqlite_database


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No `close` waits long for a thread."""
    for module in (threads, usage_history, listener):
        monkeypatch.setattr(module, "_CLOSE_S", 0.01)


def test_look_ups(
    service: KeyService, store: KeyStore, verifiers: Callable[..., KeyVerifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Look-ups that hang while the verifier is reopened take no thread from later ones, and all old threads end."""
    keys = [service.create("acme", f"n{number}").secret.reveal().encode() for number in range(6)]
    verifier = verifiers(budget_ms=30_000)
    verifier.verify(keys[0])
    hanging = Hanging(store.query)
    monkeypatch.setattr(store, "query", hanging)
    calls = [Call(verifier.verify, key) for key in keys[1:5]]
    assert eventually(hanging.names, {"awx-key-look-up", "awx-key-changes"}) == {"awx-key-look-up", "awx-key-changes"}
    assert eventually(lambda: len(hanging.threads), 5) == 5
    verifier.close()
    verifier.reopen()
    have_ended = hanging.end()
    old = [call.ended() for call in calls]

    assert have_ended
    assert [caller.account for caller in old] == ["acme"] * 4
    assert verifier.verify(keys[5]).account == "acme"


def test_look_up_during_close(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """A verifier that was closed during a look-up refuses the key from then on."""
    key = service.create("acme", "n").secret.reveal().encode()
    verifier.poll()
    with paused_look_ups(store) as held:
        call = Call(verifier.verify, key)
        held.reached.wait(10)
        verifier.close()
        held.let_go.set()
        caller = call.ended()

    assert caller.account == "acme"
    with pytest.raises(KeyStoreUnavailable, match="closed"):
        verifier.verify(key)


def test_reopened_during_close(
    service: KeyService, others: KeyService, verifier: KeyVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier that is reopened while `close` still writes stays open, and follows the changes of other processes."""
    created = service.create("acme", "n")
    key = created.secret.reveal().encode()
    verifier.verify(key)
    assert eventually(lambda: verifier.health()["unwritten_uses"], 0) == 0
    monkeypatch.setattr(threads, "_CLOSE_S", 30.0)
    poller = verifier._threads.poller.thread
    assert poller is not None
    hanging = Hanging(verifier._last_used._write)
    monkeypatch.setattr(verifier._last_used, "_write", hanging)
    verifier.verify(key)
    closing = Call(verifier.close)
    assert eventually(hanging.names, {"awx-key-uses"}) == {"awx-key-uses"}
    verifier.reopen()
    assert hanging.end()
    closing.ended()
    assert not poller.is_alive()
    verifier.verify(key)
    others.revoke("acme", created.key.id)

    def is_accepted() -> bool:
        try:
            verifier.verify(key)
        except KeyRefused:
            return False
        return True

    assert eventually(is_accepted, expected=False) is False


def test_history(service: KeyService, store: KeyStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that hangs while the history is reopened excludes the new one, so each batch is written once."""
    monkeypatch.setattr(flushable_thread, "FLUSH_TIMEOUT_S", 0.05)
    key = service.create("acme", "n").key.id
    history = UsageHistory(store, flush_seconds=3_600, clock=clock)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
    for _ in range(50):
        limiter.acquire(key, WIDE)
    write, hanging = store.write, Hanging(store.write)

    def hang_once(function: Any, *arguments: Any) -> Any:
        is_first = function is usage.add and not hanging.threads
        return (hanging if is_first else write)(function, *arguments)

    monkeypatch.setattr(store, "write", hang_once)
    history.flush()
    assert eventually(hanging.names, {"awx-usage"}) == {"awx-usage"}
    history.close()
    for _ in range(70):
        limiter.acquire(key, WIDE)
    history.reopen()
    history.flush()
    written = _allowed(service)
    have_ended = hanging.end()
    monkeypatch.setattr(usage_history, "_CLOSE_S", 30.0)
    history.close()

    assert written == 0
    assert have_ended
    assert _allowed(service) == 120


def test_warnings() -> None:
    """A delivery that hangs while warnings are reopened excludes the next one, and its thread ends."""
    at_once: list[int] = []
    running: list[str] = []
    hanging = Hanging(lambda: None)

    def warn(warning: Any) -> None:
        running.append(warning.subject)
        at_once.append(len(running))
        if warning.subject == "a":
            hanging()
        running.remove(warning.subject)

    warnings = QuotaWarnings(on_warning=warn, interval_seconds=0.01)
    limiter = Limiter(MemoryBackend(), listeners=[warnings])
    limiter.acquire("a", MONTHLY, 9)
    assert eventually(hanging.names, {"awx-warnings"}) == {"awx-warnings"}
    for subject in "bc":
        warnings.close()
        warnings.reopen()
        limiter.acquire(subject, MONTHLY, 9)
        warnings.look()
    have_ended = hanging.end()

    assert have_ended
    assert eventually(lambda: at_once, [1, 1, 1]) == [1, 1, 1]
    warnings.close()


def _allowed(service: KeyService) -> int:
    return sum(period.allowed for period in service.usage.history("acme").items)
