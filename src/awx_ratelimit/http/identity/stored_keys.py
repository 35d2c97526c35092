"""`StoredKeys`: callers by the keys of a key store: from memory at once, else by one look-up.

Only the look-up blocks. On an event loop it has threads of its own, and what is in memory costs no `await`.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.validation import check_bool, type_name
from awx_ratelimit.errors import KeyRefused, KeyStoreUnavailable
from awx_ratelimit.http.error_responses import KEY_CHALLENGE
from awx_ratelimit.http.header_values import first_bytes
from awx_ratelimit.http.identity.credentials import sends_key, sent_key
from awx_ratelimit.http.message import Request
from awx_ratelimit.runtime.event_loops import ThreadPool

if TYPE_CHECKING:
    # It needs an extra, which whoever has a verifier has installed.
    from awx_ratelimit.keys.verification.verifier import KeyVerifier

_log = logging.getLogger("awx_ratelimit")
_AUTHORIZATION = b"authorization"
_THREADS = 32
_WRITE_USES_S = 2.0


class StoredKeys:
    """The `identify` of either gate whose callers have the keys that `verifier` knows.

    A caller's subject is its key's family, so that a rotated key and its successor share one budget. Keys come in
    ``X-API-Key``; with `bearer` also as ``Authorization: Bearer awx_...``. Any other text in that header is left to the
    app, and so is everything after its first kilobyte. A request with two keys has none. Unknown keys are counted by
    the gate, by client address: the verifier needs no `failures` of its own. On an event loop at most `threads`
    look-ups are waited for at a time. Raises InvalidLimit for a `bearer` that is neither True nor False.

    A call raises KeyRefused, KeyStoreUnavailable (the gate answers 503) and TooManyWrongKeys.
    """

    #: The WWW-Authenticate of its 401s.
    challenge = KEY_CHALLENGE
    #: Its look-ups on an event loop.
    needs_asyncio: ClassVar[bool] = True

    def __init__(self, verifier: "KeyVerifier", *, bearer: bool = False, threads: int = _THREADS) -> None:
        if isinstance(verifier, type) or not hasattr(verifier, "verify_cached"):
            raise TypeError(f"verifier is {type_name(verifier)}; write StoredKeys(KeyVerifier(store))")
        check_bool(bearer, "bearer")
        self._verifier = verifier
        self._verify = verifier.verify
        self._verify_cached = verifier.verify_cached
        self._threads = ThreadPool(threads)
        self._sent = sent_key
        #: Whether a request has something in a place of a key.
        self.sends_key = sends_key
        if bearer:
            places = _Places(verifier.prefix)
            self._sent, self.sends_key = places.sent_key, places.sends_key

    def __call__(self, request: Request) -> Caller | None:
        """The caller of the key that was sent; None without one. It waits for a look-up."""
        key = self._sent(request)
        return None if key is None else self._verify(key)

    def known(self, request: Request) -> Caller | None:
        """The caller if its key is in memory; None if that needs a look-up. Raises KeyRefused as a call does."""
        key = self._sent(request)
        return None if key is None else self._verify_cached(key)

    def was_known(self, request: Request) -> bool:
        """Whether the key was accepted before, so it is not a guess. Raises KeyRefused as a call does."""
        key = self._sent(request)
        return key is not None and self._verifier.was_known(key)

    def in_tasks(self, request: Request) -> Caller | Awaitable[Caller] | None:
        """The same for an event loop: at once from memory, else to be awaited."""
        key = self._sent(request)
        if key is None:
            return None
        return self._verify_cached(key) or self._threads.run(self._verify, key)

    def write_uses(self) -> None:
        """Write when keys were used last. It never raises: what cannot be written is kept for the next time."""
        try:
            self._verifier.write_uses()
        except KeyStoreUnavailable as error:
            _log.warning("the last uses of keys cannot be written now: %s", error)

    async def write_uses_in_tasks(self) -> None:
        """The same for an event loop, which waits for it for 2 s at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._threads.run(self.write_uses), _WRITE_USES_S)


class _Places:
    """The two places of a key: its own header, and Authorization where a bearer has the prefix of keys."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        credential = rb"[ \t]*bearer[ \t]+(%s[^,]*)" % self._prefix
        self._alone = re.compile(credential, re.IGNORECASE).fullmatch
        self._after_comma = re.compile(rb"," + credential, re.IGNORECASE).search

    def sends_key(self, request: Request) -> bool:
        """Whether there is something in one of them."""
        return sends_key(request) or self._has_key(first_bytes(request.values(_AUTHORIZATION))[0])

    def sent_key(self, request: Request) -> bytes | None:
        """The one key of the request, None where there is none. Raises KeyRefused for two, or what no key can be."""
        credentials, is_cut = first_bytes(request.values(_AUTHORIZATION))
        found = self._alone(credentials)
        if found is None and not self._has_key(credentials):
            return sent_key(request)
        if found is None or is_cut or sends_key(request):
            raise KeyRefused
        key: bytes = found[1]
        return key

    def _has_key(self, credentials: bytes) -> bool:
        # A comma is where a server has joined two headers; no key has one.
        first, comma, _ = credentials.partition(b",")
        if self._alone(first):
            return True
        # The search is slow, and nobody's usual request.
        return bool(comma and self._prefix in credentials.lower() and self._after_comma(credentials))
