"""`KeyVerifier`: whose key this is, and whether it is accepted: from memory in microseconds, else by one look-up.

What is in memory may be outdated for a moment: this process forgets at once what it has changed itself, and twice a
second what others have changed; and nothing is believed for longer than 30 s. What is not in memory is asked of the
store, and where that gives no answer nobody is let in.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.errors import KeyRefused, TooManyWrongKeys
from awx_ratelimit.keys.format import MAX_KEY_BYTES, KeyFormat
from awx_ratelimit.keys.storage.rows import KeyRecord
from awx_ratelimit.keys.storage.store import KeyStore, checked_store
from awx_ratelimit.keys.verification.cache import KeyCache
from awx_ratelimit.keys.verification.last_used import LastUsedTracker
from awx_ratelimit.keys.verification.single_flight import SingleFlight
from awx_ratelimit.runtime.clock import Clock, WallClock, monotonic_ms
from awx_ratelimit.runtime.exits import register_at_exit
from awx_ratelimit.runtime.forks import SAME_PROCESS, register_after_fork, renew_if_forked
from awx_ratelimit.runtime.periodic_thread import PeriodicThread

KNOWN_MS: Final = 30_000
UNKNOWN_MS: Final = 5_000
POLL_S: Final = 0.5
WRITE_USES_S: Final = 10.0
_CLOSE_S = 2.0
_NEVER_MS = 1 << 63
#: Asks how long an address has to wait, in ms, before one of its keys is looked up; with True, a failure more counts.
Failures = Callable[[str, bool], int]


class _Entry:
    """A cached key, checked on every hit. Compared by identity, because `LastUsedTracker` uses it as a dict key."""

    __slots__ = ("accepted_until_ms", "account_id", "caller", "expires_at_ms", "key_id", "never_used", "revoked")

    def __init__(self, known: KeyRecord) -> None:
        self.key_id = known.key_id
        self.account_id = known.account_id
        self.revoked = known.revoked
        self.never_used = known.never_used
        self.expires_at_ms = _NEVER_MS if known.expires_at_ms is None else known.expires_at_ms
        self.accepted_until_ms = 0 if known.revoked or known.suspended else self.expires_at_ms
        self.caller = Caller(known.family_id, known.plan, known.account_id, known.overrides)

    def refusal(self, now_ms: int) -> KeyRefused:
        """Why it is not accepted at `now_ms`."""
        return KeyRefused("api_key_expired" if now_ms >= self.expires_at_ms and not self.revoked else "api_key_revoked")


class _Unknown:
    """That there is no such key."""


_UNKNOWN: Final = _Unknown()


class KeyVerifier:
    """Verifies API keys against a KeyStore, from any thread; each process has its own.

    `keys` is the form of the keys, the same that the KeyService has. `failures(address, failed)` is the limit on wrong
    keys by address: it answers the wait in ms (0: none) before a key of that address is looked up, and counts a wrong
    key where `failed` is true; what it raises goes to the caller. `max_keys` bounds each of the two memories, of known
    keys and of unknown ones. A look-up is waited for `budget_ms` at most. `clock` has ``now_ms() -> int`` and then
    decides alone; None is the machine's wall time, and a steady clock for how long something is believed.

    Its threads are started with the first look-up. `close` ends them and writes the last uses. An orderly end of the
    process does so too. A server that ends by a signal, as uvicorn does, is none; there the ASGI middleware writes the
    last uses at the end of the app's lifespan.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        keys: KeyFormat | None = None,
        failures: Failures | None = None,
        max_keys: int = 10_000,
        budget_ms: int = 1_000,
        clock: Clock | None = None,
    ) -> None:
        self._store = checked_store(store, "KeyVerifier")
        self._keys = keys or KeyFormat()
        #: How the keys begin that it knows.
        self.prefix = self._keys.prefix
        self._digest = self._keys.digest
        self._failures = failures
        self._now_ms = (clock or WallClock()).now_ms
        self._steady_ms = monotonic_ms if clock is None else clock.now_ms
        self._known: KeyCache[_Entry] = KeyCache(max_keys, KNOWN_MS)
        self._unknown: KeyCache[_Unknown] = KeyCache(max_keys, UNKNOWN_MS)
        self._single_flight: SingleFlight[_Entry | _Unknown] = SingleFlight(self._read, self._remembered, budget_ms)
        self._last_used = LastUsedTracker(store.mark_used)
        self._poller = PeriodicThread("awx-key-changes", self.poll, POLL_S)
        self._writer = PeriodicThread("awx-key-uses", self.write_uses, WRITE_USES_S)
        self._lock = threading.Lock()
        self._generation = 0
        self._position: int | None = None
        store.subscribe(self._forget_account)
        register_after_fork(self._renew)
        register_at_exit(self.close)

    def verify(self, sent: bytes, address: str | None = None) -> Caller:
        """The caller of the key that was sent, in the bytes of the one header; spaces and tabs around it do not count.

        `address` is whose failures are counted, None for nobody's. Raises KeyRefused with the code of the answer,
        TooManyWrongKeys, and KeyStoreUnavailable where the key is not in memory and the store gives no answer in time.
        'Expired' and 'revoked' are said to whoever has the key alone; a suspended account's keys are revoked ones.
        """
        caller = self.verify_cached(sent, address)
        if caller is not None:
            return caller
        digest = self._digest(sent.strip(b" \t"))
        if digest not in self._known:
            self._refuse_busy(address, failed=False)
        self._poller.start()
        self._writer.start()
        found = self._single_flight.get(digest)
        if isinstance(found, _Unknown):
            raise self._wrong(address)
        caller = self._accepted(found)
        if found.never_used:
            found.never_used = False
            self._writer.wake()
        return caller

    def verify_cached(self, sent: bytes, address: str | None = None) -> Caller | None:
        """`verify` from memory alone, without waiting for anything; None: ask `verify`, which may wait.

        For event loops. It raises as `verify` does; `failures` is called here, too.
        """
        if not SAME_PROCESS:
            renew_if_forked()
        key = sent.strip(b" \t")
        if len(key) > MAX_KEY_BYTES:
            raise self._wrong(address)
        digest = self._digest(key)
        entry = self._known.get(digest, self._steady_ms())
        if entry is not None:
            # As `_accepted` does, without the call: this is what nearly every request is.
            now_ms = self._now_ms()
            if now_ms < entry.accepted_until_ms:
                self._last_used.latest[entry] = now_ms
                return entry.caller
            raise entry.refusal(now_ms)
        # Only now: what is known by its digest was found to be a key before.
        if not self._keys.is_key(key) or self._unknown.get(digest, self._steady_ms()):
            raise self._wrong(address)
        return None

    def was_known(self, sent: bytes) -> bool:
        """Whether the key has been looked up and found, even if that is too long ago to be believed.

        Such a key is not a guess: clients that guess must not keep it from its next look-up.
        """
        renew_if_forked()
        return self._digest(sent.strip(b" \t")) in self._known

    def poll(self) -> None:
        """Look once at what others have changed, and forget that. A thread does so twice a second; tests do it.

        Raises KeyStoreUnavailable.
        """
        renew_if_forked()
        position, accounts = self._store.changes_since(self._position)
        self._position = position
        if accounts is None:
            self._forget(lambda _: True)
        elif accounts:
            self._forget(lambda entry: entry.account_id in accounts)

    def write_uses(self) -> None:
        """Write now when keys were used last. A thread does so every 10 s; tests do it. Raises KeyStoreUnavailable."""
        renew_if_forked()
        self._last_used.flush()

    def health(self) -> Mapping[str, Any]:
        """How it is, for a status page: what is in memory, and what is still to be written. It never raises."""
        renew_if_forked()
        return {"known": len(self._known), "unknown": len(self._unknown), "unwritten_uses": len(self._last_used)}

    def close(self) -> None:
        """Write the last uses and end the threads, within 2 s each; from then on nobody is let in. Harmless twice.

        The store is its owner's to close, after this.
        """
        renew_if_forked()
        self._single_flight.close()
        self._known.clear()
        self._writer.stop(_CLOSE_S)
        self._poller.stop(_CLOSE_S)

    def _accepted(self, entry: _Entry) -> Caller:
        now_ms = self._now_ms()
        if now_ms >= entry.accepted_until_ms:
            raise entry.refusal(now_ms)
        self._last_used.latest[entry] = now_ms
        return entry.caller

    def _wrong(self, address: str | None) -> KeyRefused:
        """The refusal of a key that is none, whatever is wrong with it; or TooManyWrongKeys."""
        self._refuse_busy(address, failed=True)
        return KeyRefused()

    def _refuse_busy(self, address: str | None, *, failed: bool) -> None:
        if self._failures is None or address is None:
            return
        wait_ms = self._failures(address, failed)
        if wait_ms > 0:
            raise TooManyWrongKeys(wait_ms)

    def _remembered(self, digest: bytes) -> _Entry | _Unknown | None:
        now_ms = self._steady_ms()
        return self._known.get(digest, now_ms) or self._unknown.get(digest, now_ms)

    def _read(self, digest: bytes) -> _Entry | _Unknown:
        """One look-up. What it read may be remembered only if nobody has been told to forget since it began."""
        if self._position is None:
            self.poll()
        generation, now_ms = self._generation, self._steady_ms()
        known = self._store.look_up(digest)
        found = _UNKNOWN if known is None else _Entry(known)
        with self._lock:
            if generation == self._generation:
                if isinstance(found, _Entry):
                    self._known.put(digest, found, now_ms)
                else:
                    self._known.forget(digest)
                    self._unknown.put(digest, found, now_ms)
        return found

    def _forget_account(self, account_id: str) -> None:
        self._forget(lambda entry: entry.account_id == account_id)

    def _forget(self, outdated: Callable[[_Entry], bool]) -> None:
        with self._lock:
            self._generation += 1
            self._known.forget_where(outdated)
        self._single_flight.detach()

    def _renew(self) -> None:
        register_at_exit(self.close)
        self._lock = threading.Lock()
        for part in (self._single_flight, self._last_used, self._poller, self._writer):
            part.renew()
        self._known.clear()
        self._unknown.clear()
