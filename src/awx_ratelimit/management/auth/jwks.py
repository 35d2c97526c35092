"""`Jwks`: the public keys of an issuer, as a document or at a URL that is asked again while it is used.

An issuer renews its keys without telling anybody. So a set is fetched anew every few minutes, and when a token names a
key that is not in it, but then once in a while only: tokens are cheap to forge, and must not make us ask.
"""

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from math import inf
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import InvalidKeyRequest, SigningKeysUnavailable
from awx_ratelimit.management.auth.http_get import get
from awx_ratelimit.management.auth.signing import KeySet, SigningKeys
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

_log = logging.getLogger("awx_ratelimit.management")
_MOST_BYTES = 262_144
#: Between two tries, whatever tokens come.
MIN_INTERVAL_S: Final = 10.0
#: After that a set that could not be renewed is not believed any more.
MAX_AGE_S: Final = 86_400.0
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Jwks:
    """A JSON Web Key Set (RFC 7517), of public keys: `of` a document, or `at` a URL."""

    for_algorithms: Callable[[Sequence[str]], SigningKeys]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Jwks":
        """The set that was read. Raises InvalidKeyRequest, when it is used, where no key in it is usable."""
        return cls(lambda algorithms: _usable(KeySet(document, algorithms)))

    @classmethod
    def at(
        cls, url: str, *, interval_s: float = 300.0, timeout_s: float = 2.0, clock: Callable[[], float] = monotonic
    ) -> "Jwks":
        """The set at `url`, which is ``https://`` (or on this machine), fetched when it is first needed.

        A whole fetch, with the look-up of the name, is waited for `timeout_s`; its answer is believed for `interval_s`;
        while there is none the last one counts, for a day. There is one fetch at a time, and all who wait share its
        outcome. Redirections are not followed. `clock` gives seconds, for tests. Raises InvalidKeyRequest.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _HERE):
            raise InvalidKeyRequest("cannot be trusted", remedy="allowed is an https:// URL", field="url")
        for name, seconds in (("interval_s", interval_s), ("timeout_s", timeout_s)):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < inf:
                raise InvalidKeyRequest(
                    f"is {describe(seconds)}", remedy="allowed is a number of seconds above 0", field=name
                )
        return cls(lambda algorithms: _Fetched(url, algorithms, interval_s, timeout_s, clock))


def _usable(keys: KeySet) -> KeySet:
    if not len(keys):
        remedy = "allowed are public keys of the algorithms' kind, RSA ones of at least 2048 bits"
        raise InvalidKeyRequest("has no usable key", remedy=remedy, field="key")
    return keys


class _Fetch:
    """A fetch under way in process `pid`; who waits for it waits until `until_s`, whatever becomes of it."""

    def __init__(self, timeout_s: float) -> None:
        self.pid = os.getpid()
        self._until_s = monotonic() + timeout_s
        self._ended = threading.Event()
        self.end = self._ended.set

    def wait(self) -> None:
        self._ended.wait(max(0.0, self._until_s - monotonic()))


class _Fetched:
    """The set at a URL, as it was last."""

    def __init__(
        self, url: str, algorithms: Sequence[str], interval_s: float, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        self._url = url
        self._algorithms = algorithms
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at_s = self._tried_at_s = -MAX_AGE_S
        self._under_way: _Fetch | None = None
        self._renew_lock()
        register_after_fork(self._renew_lock)

    def key_for(self, algorithm: str, key_id: str | None, /) -> Any:
        """See SigningKeys."""
        key = self._current(self._interval_s).key_for(algorithm, key_id)
        return key or self._current(0.0, waits=True).key_for(algorithm, key_id)

    def _current(self, most_age_s: float, *, waits: bool = False) -> KeySet:
        """A set that is not older, where it is time to ask for one; `waits` for a fetch that another has begun."""
        renew_if_forked()
        if self._under_way is not None or self._is_due(most_age_s):
            fetch, is_ours = self._fetch_if_due(most_age_s)
            # Otherwise a set that is a little old is as good as the next.
            if fetch is not None and (is_ours or waits or self._keys is None):
                fetch.wait()
        if self._keys is None or self._clock() - self._fetched_at_s >= MAX_AGE_S:
            raise SigningKeysUnavailable(f"the keys at {self._url} could not be had")
        return self._keys

    def _is_due(self, most_age_s: float) -> bool:
        now_s = self._clock()
        return now_s - self._tried_at_s >= MIN_INTERVAL_S and now_s - self._fetched_at_s >= most_age_s

    def _fetch_if_due(self, most_age_s: float) -> tuple[_Fetch | None, bool]:
        """The fetch that is under way, and whether this call has begun it."""
        with self._lock:
            fetch = self._under_way
            if fetch is not None and fetch.pid == os.getpid():
                return fetch, False
            # One of a parent process never ends in its child.
            if fetch is None and not self._is_due(most_age_s):
                return None, False
            self._tried_at_s = self._clock()
            self._under_way = fetch = _Fetch(self._timeout_s)
        try:
            # In a thread, because nothing bounds how long the resolver of names takes.
            threading.Thread(target=self._fetch, args=(fetch,), name="awx_ratelimit jwks", daemon=True).start()
        except RuntimeError as error:
            self._fail(error)
            self._end(fetch)
        return fetch, True

    def _fetch(self, fetch: _Fetch) -> None:
        begun_at_s = self._tried_at_s
        try:
            document = json.loads(get(self._url, timeout_s=self._timeout_s, max_bytes=_MOST_BYTES))
            self._keys = _usable(KeySet(document if isinstance(document, dict) else {}, self._algorithms))
            self._fetched_at_s = begun_at_s
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            self._fail(error)
        finally:
            self._end(fetch)

    def _fail(self, error: Exception) -> None:
        _log.warning("the keys at %s could not be fetched: %s", self._url, error)

    def _end(self, fetch: _Fetch) -> None:
        self._under_way = None
        fetch.end()

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()
