"""`KeyVerifier`: verifies an API key, from a cache in microseconds or by one look-up in the store.

The cache follows changes made in this process at once, and changes made in others within half a second, by polling. No
entry is used for more than 30 s. If a key is not cached and the store does not answer, the key is refused.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.errors import KeyRefused, TooManyWrongKeys
from awx_ratelimit.keys.format import MAX_KEY_BYTES, KeyFormat
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.keys.storage.store import KeyStore, checked_store
from awx_ratelimit.keys.verification.cache import KeyCache, KnownKey, LastUsedTracker, UnknownKey
from awx_ratelimit.keys.verification.threads import VerifierThreads
from awx_ratelimit.runtime.clock import Clock, WallClock, monotonic_ms
from awx_ratelimit.runtime.exits import register_at_exit
from awx_ratelimit.runtime.forks import SAME_PROCESS, register_after_fork, renew_if_forked
from awx_ratelimit.runtime.reopening import Reopenable

KNOWN_MS: Final = 30_000
UNKNOWN_MS: Final = 5_000
_UNKNOWN: Final = UnknownKey()
#: Takes an address and whether it has just sent a wrong key. Returns how many ms it must wait for its next look-up.
Failures = Callable[[str, bool], int]


class KeyVerifier(Reopenable):
    """Verifies API keys against a KeyStore. You may call it from any thread. Every process needs its own.

    `keys` is the format of the keys; give the KeyService the same one. `failures(address, failed)` limits wrong keys
    per client address: it returns how many ms the address must wait before one of its keys is looked up (0: no wait),
    and counts a wrong key if `failed` is true. Its exceptions reach the caller. `max_keys` bounds each of the two
    caches, of known keys and of unknown digests. A look-up takes at most `budget_ms`. `clock` has ``now_ms() -> int``;
    None uses the system time, and a monotonic clock for the age of cache entries.

    The first look-up starts the threads. `close` stops them and writes the pending last uses, and so does a normal exit
    of the process. A server that ends by a signal, such as uvicorn, has no normal exit; there the ASGI middleware
    writes the last uses when the app's lifespan ends.
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
        #: The store of the keys.
        self.store = checked_store(store, "KeyVerifier")
        self._keys = keys or KeyFormat()
        #: The prefix of the keys.
        self.prefix = self._keys.prefix
        self._digest = self._keys.digest
        self._failures = failures
        self._now_ms = (clock or WallClock()).now_ms
        self._age_ms = monotonic_ms if clock is None else clock.now_ms
        self._known: KeyCache[KnownKey] = KeyCache(max_keys, KNOWN_MS)
        self._unknown: KeyCache[UnknownKey] = KeyCache(max_keys, UNKNOWN_MS)
        self._last_used = LastUsedTracker(store.mark_used)
        self._threads = VerifierThreads.of(self._read, self._cached, budget_ms, self.poll, self.write_uses)
        self._lock = threading.Lock()
        self._generation = 0
        self._position: int | None = None
        store.subscribe(self._expire_account)
        register_after_fork(self._renew)
        register_at_exit(self.close)

    def verify(self, sent: bytes, address: str | None = None) -> Caller:
        """Return the caller of a key, given as the bytes of its header. Surrounding spaces and tabs are ignored.

        `address` is the client address that pays for a wrong key; None counts nothing. Raises KeyRefused with the code
        of the response, TooManyWrongKeys, and KeyStoreUnavailable if the key is not cached and the store does not
        answer in time. Only the right key gets the codes for expired and revoked; the keys of a suspended account
        count as revoked.
        """
        found = self.find(sent, address)
        return self.look_up(found, address) if isinstance(found, bytes) else found

    def find(self, sent: bytes, address: str | None = None) -> Caller | bytes:
        """Return the caller of a cached key; otherwise the key's digest, to pass to `look_up`. Never waits.

        It raises like `verify`, also from `failures`.
        """
        if not SAME_PROCESS:
            renew_if_forked()
        key = sent.strip(b" \t")
        if len(key) > MAX_KEY_BYTES:
            raise self._wrong_key(address)
        digest = self._digest(key)
        known = self._known.get(digest, self._age_ms())
        if known is not None:
            return self._accepted(known)
        # Checked only now, because a cached digest belongs to a key that was checked before.
        if not self._keys.is_key(key) or self._unknown.get(digest, self._age_ms()):
            raise self._wrong_key(address)
        return digest

    def caller_in_memory(self, key: bytes) -> Caller | None:
        """Return the caller of a key that is cached and accepted, or None for any other. It never waits or raises."""
        if not SAME_PROCESS:
            renew_if_forked()
        known = self._known.get(self._digest(key), self._age_ms()) if len(key) <= MAX_KEY_BYTES else None
        now_ms = self._now_ms()
        if known is None or now_ms >= known.valid_until_ms:
            return None
        caller = known.caller
        self._last_used.latest[known] = now_ms
        return caller

    def look_up(self, digest: bytes, address: str | None = None) -> Caller:
        """Return the caller of the key with this digest, after a look-up in the store. Raises like `verify`."""
        if digest not in self._known:
            self._check_failures(address, failed=False)
        threads = self._threads
        threads.start()
        found = threads.single_flight.get(digest)
        if isinstance(found, UnknownKey):
            raise self._wrong_key(address)
        caller = self._accepted(found)
        if found.never_used:
            found.never_used = False
            threads.writer.wake()
        return caller

    def inspect(self, sent: bytes) -> Caller:
        """Return what `verify` would now, from the store itself. It is not a use of the key. Raises like `verify`."""
        key = sent.strip(b" \t")
        is_key = len(key) <= MAX_KEY_BYTES and self._keys.is_key(key)
        record = self.store.query(queries.key_record, self._digest(key)) if is_key else None
        if record is None:
            raise KeyRefused
        return KnownKey(record).caller_at(self._now_ms())

    def verify_cached(self, sent: bytes, address: str | None = None) -> Caller | None:
        """Return the caller of a cached key, or None if a look-up is needed. Never waits. Raises like `verify`."""
        found = self.find(sent, address)
        return None if isinstance(found, bytes) else found

    def was_known(self, sent: bytes) -> bool:
        """Return whether the key was found before, even if its cache entry has expired.

        Such a key is not a guess, so guesses from the same address must not block its next look-up.
        """
        renew_if_forked()
        return self._digest(sent.strip(b" \t")) in self._known

    def poll(self) -> None:
        """Expire the keys of accounts that other processes have changed. A thread does this twice a second.

        Raises KeyStoreUnavailable.
        """
        renew_if_forked()
        position, accounts = self.store.query(queries.changes_since, self._position)
        self._position = position
        if accounts is None:
            self._expire(lambda _: True)
        elif accounts:
            self._expire(lambda known: known.account_id in accounts)

    def write_uses(self) -> None:
        """Write when keys were last used. A thread does this every 10 s. Raises KeyStoreUnavailable."""
        renew_if_forked()
        self._last_used.flush()

    def health(self) -> Mapping[str, Any]:
        """Return the sizes of the caches and the number of unwritten last uses, for a status page. Never raises."""
        renew_if_forked()
        return {"known": len(self._known), "unknown": len(self._unknown), "unwritten_uses": len(self._last_used)}

    def close(self) -> None:
        """Write the last uses and stop the threads, within 2 s each. Then every key is refused. You may call it twice.

        Close the store yourself, after this.
        """
        renew_if_forked()
        threads = self._threads  # `reopen` may replace them meanwhile
        threads.single_flight.close()
        with self._lock:
            self._known.clear()
        threads.stop()

    def reopen(self) -> None:
        """Verify keys again after `close`. The ASGI middleware calls this when a lifespan begins. Harmless if open."""
        with self._lock:
            if self._threads.single_flight.is_closed:
                self._threads = self._threads.reopened()

    def _accepted(self, known: KnownKey) -> Caller:
        now_ms = self._now_ms()
        caller = known.caller_at(now_ms)
        self._last_used.latest[known] = now_ms
        return caller

    def _wrong_key(self, address: str | None) -> KeyRefused:
        """Return the refusal of a wrong key, the same for every reason, or raise TooManyWrongKeys."""
        self._check_failures(address, failed=True)
        return KeyRefused()

    def _check_failures(self, address: str | None, *, failed: bool) -> None:
        if self._failures is None or address is None:
            return
        wait_ms = self._failures(address, failed)
        if wait_ms > 0:
            raise TooManyWrongKeys(wait_ms)

    def _cached(self, digest: bytes) -> KnownKey | UnknownKey | None:
        now_ms = self._age_ms()
        return self._known.get(digest, now_ms) or self._unknown.get(digest, now_ms)

    def _read(self, digest: bytes) -> KnownKey | UnknownKey:
        """Look the digest up. Cache the result unless something was expired meanwhile, or the verifier was closed."""
        if self._position is None:
            self.poll()
        generation, now_ms = self._generation, self._age_ms()
        record = self.store.query(queries.key_record, digest)
        found = _UNKNOWN if record is None else KnownKey(record)
        with self._lock:
            if generation == self._generation and not self._threads.single_flight.is_closed:
                if isinstance(found, KnownKey):
                    self._known.put(digest, found, now_ms)
                else:
                    self._known.remove(digest)
                    self._unknown.put(digest, found, now_ms)
        return found

    def _expire_account(self, account_id: str) -> None:
        self._expire(lambda known: known.account_id == account_id)

    def _expire(self, outdated: Callable[[KnownKey], bool]) -> None:
        with self._lock:
            self._generation += 1
            self._known.expire_where(outdated)
        self._threads.single_flight.detach()

    def _renew(self) -> None:
        register_at_exit(self.close)
        self._lock = threading.Lock()
        self._threads.renew()
        self._last_used.renew()
        self._known.clear()
        self._unknown.clear()
