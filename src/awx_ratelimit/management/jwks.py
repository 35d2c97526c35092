"""`Jwks`: the public keys of an issuer, as a document or at a URL that is asked again while it is used.

An issuer renews its keys without telling anybody. So a set is fetched anew every few minutes, and when a token names a
key that is not in it, but then once in a while only: tokens are cheap to forge, and must not make us ask.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from threading import Lock
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

from awx_ratelimit.errors import InvalidKeyRequest, SigningKeysUnavailable
from awx_ratelimit.forks import renewed_after_fork
from awx_ratelimit.management.signing import KeySet, SigningKeys

_log = logging.getLogger("awx_ratelimit.management")
_MOST_BYTES = 262_144
#: Between two tries, whatever tokens come.
BETWEEN_S: Final = 10.0
#: After that a set that could not be renewed is not believed any more.
MOST_AGE_S: Final = 86_400.0
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
        cls, url: str, *, every_s: float = 300.0, timeout_s: float = 2.0, clock: Callable[[], float] = monotonic
    ) -> "Jwks":
        """The set at `url`, which is ``https://`` (or on this machine), fetched when it is first needed.

        Each answer is waited for `timeout_s`, and believed for `every_s`; while there is none the last one counts, for
        a day. Redirections are not followed. `clock` gives seconds, for tests. Raises InvalidKeyRequest.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _HERE):
            raise InvalidKeyRequest("cannot be trusted", remedy="allowed is an https:// URL", field="url")
        return cls(lambda algorithms: _Fetched(url, algorithms, every_s, timeout_s, clock))


def _usable(keys: KeySet) -> KeySet:
    if not len(keys):
        remedy = "allowed are public keys of the algorithms' kind, RSA ones of at least 2048 bits"
        raise InvalidKeyRequest("has no usable key", remedy=remedy, field="key")
    return keys


class _Stays(HTTPRedirectHandler):
    """Follows nobody elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Fetched:
    """The set at a URL, as it was last."""

    def __init__(
        self, url: str, algorithms: Sequence[str], every_s: float, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        self._url = url
        self._algorithms = algorithms
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._open = build_opener(_Stays()).open
        self._keys: KeySet | None = None
        self._fetched_at_s = self._tried_at_s = -MOST_AGE_S
        self._renew_lock()
        renewed_after_fork(self._renew_lock)

    def key_for(self, algorithm: str, key_id: str | None, /) -> Any:
        """See SigningKeys."""
        keys = self._current(self._every_s)
        return keys.key_for(algorithm, key_id) or self._current(0.0).key_for(algorithm, key_id)

    def _current(self, most_age_s: float) -> KeySet:
        """A set that is not older, where it is time to ask for one."""
        # Whoever has a set does not wait for one who fetches another.
        if self._is_due(most_age_s) and self._lock.acquire(blocking=self._keys is None):
            try:
                if self._is_due(most_age_s):
                    self._fetch()
            finally:
                self._lock.release()
        if self._keys is None or self._clock() - self._fetched_at_s >= MOST_AGE_S:
            raise SigningKeysUnavailable(f"the keys at {self._url} could not be had")
        return self._keys

    def _is_due(self, most_age_s: float) -> bool:
        now_s = self._clock()
        return now_s - self._tried_at_s >= BETWEEN_S and now_s - self._fetched_at_s >= most_age_s

    def _fetch(self) -> None:
        self._tried_at_s = self._clock()
        try:
            with self._open(self._url, timeout=self._timeout_s) as answer:
                text = self._text_of(answer)
            document = json.loads(text) if len(text) <= _MOST_BYTES else None
            self._keys = _usable(KeySet(document if isinstance(document, dict) else {}, self._algorithms))
            self._fetched_at_s = self._tried_at_s
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            _log.warning("the keys at %s could not be fetched: %s", self._url, error)

    def _text_of(self, answer: Any) -> bytes:
        """What is in the answer; one that comes drop by drop is no answer, though no drop is late."""
        until_s = monotonic() + self._timeout_s
        text = b""
        while len(text) <= _MOST_BYTES and (piece := answer.read1(_MOST_BYTES)):
            text += piece
            if monotonic() > until_s:
                raise TimeoutError("it has no end")
        return text

    def _renew_lock(self) -> None:
        self._lock = Lock()
