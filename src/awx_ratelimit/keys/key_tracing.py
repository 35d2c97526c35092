"""`KeyTracing`: finds the owner of a key that a log shows, for the operator of the service."""

import re
from typing import Final

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.format import MAX_KEY_BYTES, KeyFormat, is_key_id
from awx_ratelimit.keys.models import TracedKey
from awx_ratelimit.keys.scanner import KeyFinder
from awx_ratelimit.keys.storage.key_tracing import Traced, traced_keys
from awx_ratelimit.keys.storage.store import KeyStore
from awx_ratelimit.keys.validation import refuse_key
from awx_ratelimit.runtime.clock import Clock

#: The masked form of a key. Some programs write three dots as one character.
_is_masked: Final = re.compile(r"(?P<prefix>[a-z0-9_]{0,32})(?:\.{3}|…)(?P<last4>[0-9A-Za-z]{4})").fullmatch
_EXPECTED: Final = "expected the masked form of a key, such as awx_...x4f2, or the id of a key"


def traced(shown: str, finder: KeyFinder) -> Traced:
    """Return what `shown` says of a key. Raises InvalidKeyRequest for a whole key, and for anything else."""
    if not isinstance(shown, str):
        raise InvalidKeyRequest("not a text", remedy=_EXPECTED, field="key")
    refuse_key(shown, "key", finder)
    match = _is_masked(shown.strip())
    if match is not None:
        return Traced(prefix=match["prefix"] or None, last4=match["last4"])
    if not is_key_id(shown.strip()):
        raise InvalidKeyRequest("not what is shown of a key", remedy=_EXPECTED, field="key")
    return Traced(key_id=shown.strip())


class KeyTracing:
    """Finds keys of all accounts, also revoked ones. No customer may see what it finds.

    Every call raises InvalidKeyRequest for an invalid argument, and KeyStoreUnavailable.
    """

    def __init__(self, store: KeyStore, clock: Clock, keys: KeyFormat, finder: KeyFinder) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._finder = finder

    def shown_as(self, shown: str) -> tuple[TracedKey, ...]:
        """Return the keys that logs, the REST API and the console show as `shown`, at most 100.

        `shown` is a masked form such as ``awx_...x4f2``, ``...x4f2`` for any prefix, or the id of a key. Several keys
        may have the same masked form. They are ordered by account, newest first.
        """
        return self._found(traced(shown, self._finder))

    def of_text(self, key: str) -> TracedKey | None:
        """Return the key whose whole text is `key`; None if there is no such key. It is not a use of the key."""
        if not isinstance(key, str) or not 0 < len(key.encode()) <= MAX_KEY_BYTES:
            raise InvalidKeyRequest("not a key", remedy=f"expected 1 to {MAX_KEY_BYTES} bytes", field="key")
        return next(iter(self._found(Traced(digest=self._keys.digest(key.encode())))), None)

    def _found(self, known: Traced) -> tuple[TracedKey, ...]:
        return self._store.query(traced_keys, known, self._clock.now_ms())
