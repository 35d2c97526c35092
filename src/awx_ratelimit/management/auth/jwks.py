"""`Jwks`: an issuer's public keys, from a document or from a URL that is fetched again as needed.

Issuers rotate their keys without notice. So the set is fetched every few minutes, and also when a token names an
unknown key. The second kind is limited, because anybody can forge a token with an unknown key id.

One deadline bounds a whole response. Name resolution has no time-out, and each address and the TLS handshake have their
own. So a thread fetches, and nobody waits for that thread beyond the deadline.
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
from awx_ratelimit.management.auth.signing import KeySet, SigningKeys
from awx_ratelimit.runtime.forks import ForkSafeLock, renew_if_forked
from awx_ratelimit.runtime.http_client import LOCAL_HOSTS, get

_log = logging.getLogger("awx_ratelimit.management")
_MAX_BYTES = 262_144
#: The shortest time between two fetches, whatever tokens arrive.
MIN_INTERVAL_S: Final = 10.0
#: A set that cannot be fetched again is used for this long.
MAX_AGE_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Jwks:
    """A JSON Web Key Set (RFC 7517) of public keys: `of` a document, or `at` a URL."""

    for_algorithms: Callable[[Sequence[str]], SigningKeys]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Jwks":
        """Return the set in `document`. If it has no usable key, AccessTokens raises InvalidKeyRequest."""
        return cls(lambda algorithms: _check_usable(KeySet(document, algorithms)))

    @classmethod
    def at(
        cls, url: str, *, interval_s: float = 300.0, timeout_s: float = 2.0, clock: Callable[[], float] = monotonic
    ) -> "Jwks":
        """Return the set at `url`, which must be ``https://``, or local. The first token triggers the first fetch.

        A set is used for `interval_s`. If it cannot be fetched again, the last one is used for a day. A whole fetch,
        including the name resolution, takes at most `timeout_s`. There is one fetch at a time, and all waiting requests
        share its result. Redirects are not followed. `clock` returns seconds, for tests. Raises InvalidKeyRequest.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL_HOSTS):
            raise InvalidKeyRequest("not a trusted URL", remedy="expected an https:// URL", field="url")
        for name, seconds in (("interval_s", interval_s), ("timeout_s", timeout_s)):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < inf:
                raise InvalidKeyRequest(
                    f"got {describe(seconds)}", remedy="expected a number of seconds above 0", field=name
                )
        return cls(lambda algorithms: _RemoteKeys(url, algorithms, interval_s, timeout_s, clock))


def _check_usable(keys: KeySet) -> KeySet:
    if not len(keys):
        remedy = "expected public keys for the algorithms, with at least 2048 bits for RSA"
        raise InvalidKeyRequest("has no usable key", remedy=remedy, field="key")
    return keys


class _Fetch:
    """A fetch under way in process `pid`. `wait` waits for it, but not beyond the time-out."""

    def __init__(self, timeout_s: float) -> None:
        self.pid = os.getpid()
        self.until_s = monotonic() + timeout_s
        self._ended = threading.Event()
        self.end = self._ended.set

    def wait(self) -> None:
        self._ended.wait(max(0.0, self.until_s - monotonic()))


class _RemoteKeys:
    """The set at a URL, cached."""

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
        self._current_fetch: _Fetch | None = None
        self._lock = ForkSafeLock()

    def key_for(self, algorithm: str, key_id: str | None, /) -> Any:
        key = self._key_set(self._interval_s).key_for(algorithm, key_id)
        return key or self._key_set(0.0, waits=True).key_for(algorithm, key_id)

    def in_memory(self) -> KeySet:
        is_usable = self._clock() - self._fetched_at_s < MAX_AGE_S
        return self._keys if self._keys is not None and is_usable else KeySet({}, self._algorithms)

    def _key_set(self, max_age_s: float, *, waits: bool = False) -> KeySet:
        """Return the set, after a fetch if it is older and a fetch is due. `waits`: also for another thread's fetch."""
        renew_if_forked()
        if self._current_fetch is not None or self._is_due(max_age_s):
            fetch, is_ours = self._fetch_if_due(max_age_s)
            # Otherwise use the cached set, even if it is slightly too old.
            if fetch is not None and (is_ours or waits or self._keys is None):
                fetch.wait()
        if self._keys is None or self._clock() - self._fetched_at_s >= MAX_AGE_S:
            raise SigningKeysUnavailable(f"the keys at {self._url} are unavailable")
        return self._keys

    def _is_due(self, max_age_s: float) -> bool:
        now_s = self._clock()
        return now_s - self._tried_at_s >= MIN_INTERVAL_S and now_s - self._fetched_at_s >= max_age_s

    def _fetch_if_due(self, max_age_s: float) -> tuple[_Fetch | None, bool]:
        """Return the fetch under way, if any, and whether this call has started it."""
        with self._lock.current:
            fetch = self._current_fetch
            if fetch is not None and fetch.pid == os.getpid():
                return fetch, False
            # A fetch of the parent process never ends in its child, so the child starts its own.
            if fetch is None and not self._is_due(max_age_s):
                return None, False
            self._tried_at_s = self._clock()
            self._current_fetch = fetch = _Fetch(self._timeout_s)
        try:
            # In a thread, because name resolution has no time-out.
            threading.Thread(target=self._fetch, args=(fetch,), name="awx_ratelimit jwks", daemon=True).start()
        except RuntimeError as error:
            self._fail(error)
            self._end(fetch)
        return fetch, True

    def _fetch(self, fetch: _Fetch) -> None:
        started_at_s = self._tried_at_s
        try:
            document = json.loads(get(self._url, until_s=fetch.until_s, max_bytes=_MAX_BYTES))
            self._keys = _check_usable(KeySet(document if isinstance(document, dict) else {}, self._algorithms))
            self._fetched_at_s = started_at_s
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            self._fail(error)
        finally:
            self._end(fetch)

    def _fail(self, error: Exception) -> None:
        _log.warning("the keys at %s could not be fetched: %s", self._url, error)

    def _end(self, fetch: _Fetch) -> None:
        self._current_fetch = None
        fetch.end()
