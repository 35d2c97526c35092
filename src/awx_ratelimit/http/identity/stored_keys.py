"""`StoredKeys`: identifies callers by the keys of a key store, from memory or by one look-up.

Only a look-up blocks. On an event loop it runs in a thread, and a key in memory costs no `await`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.validation import check_bool, type_name
from awx_ratelimit.errors import KeyStoreUnavailable
from awx_ratelimit.http.error_responses import KEY_CHALLENGE
from awx_ratelimit.http.identity.identifiers import (
    BearerKeys,
    FindCaller,
    is_complete,
    key_finders,
    sends_key,
    sent_key,
)
from awx_ratelimit.http.message import Request
from awx_ratelimit.runtime.event_loops import ThreadPool
from awx_ratelimit.runtime.reopening import Reopenable

if TYPE_CHECKING:
    # It needs the extra `keys`, which everyone with a verifier has installed.
    from awx_ratelimit.keys.verification.verifier import KeyVerifier

_log = logging.getLogger("awx_ratelimit")
_THREADS = 32
_FLUSH_TIMEOUT_S = 2.0
_VERIFIES = ("verify", "find", "look_up", "verify_cached", "was_known")


class StoredKeys(Reopenable):
    """An `identify` for either gate. Callers are the owners of the keys that `verifier` knows.

    The subject of a caller is the family of its key, so a rotated key and its successor share one budget. Keys come in
    ``X-API-Key``; with `bearer` also as ``Authorization: Bearer awx_...``. Anything else in that header is left to the
    app, and so is everything after its first kilobyte. A request with two keys is refused. The gate counts unknown
    keys by client address, so the verifier needs no `failures` limit. On an event loop at most `threads` look-ups run
    at a time. Raises InvalidLimit for a `bearer` that is not True or False.

    A call raises KeyRefused, KeyStoreUnavailable (the gate answers 503) and TooManyWrongKeys.
    """

    #: The WWW-Authenticate header of the 401s.
    challenge = KEY_CHALLENGE
    #: On an event loop, look-ups need asyncio.
    needs_asyncio: ClassVar[bool] = True

    def __init__(self, verifier: "KeyVerifier", *, bearer: bool = False, threads: int = _THREADS) -> None:
        if isinstance(verifier, type) or not hasattr(verifier, "look_up"):
            raise TypeError(f"verifier: expected a KeyVerifier, got {type_name(verifier)}; write KeyVerifier(store)")
        check_bool(bearer, "bearer")
        #: Whether keys are also read from the Authorization header.
        self.accepts_bearer = bearer
        #: The KeyVerifier.
        self.verifier = verifier
        # Bound once: attribute look-ups of methods cost time in every request.
        self._verify, self._find, self._look_up = verifier.verify, verifier.find, verifier.look_up
        self._threads = ThreadPool(threads)
        self._sent_key = sent_key
        #: Whether a request has something in the place of a key.
        self.sends_key = sends_key
        if bearer:
            keys = BearerKeys(verifier.prefix)
            self._sent_key, self.sends_key = keys.sent_key, keys.sends_key

    def __call__(self, request: Request) -> Caller | None:
        """The caller of the request's key, None without a key. It may block for a look-up."""
        key = self._sent_key(request)
        return None if key is None else self._verify(key)

    def call_async(self, request: Request) -> Caller | Awaitable[Caller] | None:
        """As a call, for an event loop: the caller if the key is in memory, else an awaitable."""
        key = self._sent_key(request)
        if key is None:
            return None
        found = self._find(key)
        return self._threads.run(self._look_up, found) if isinstance(found, bytes) else found

    def memory_finders(self) -> Mapping[bytes, FindCaller]:
        """See `finders_of`. None if the verifier is of your own kind."""
        if not is_complete(self.verifier, "caller_in_memory", _VERIFIES):
            return {}
        return key_finders(self.verifier.caller_in_memory, bearer=self.accepts_bearer)

    def identify_quietly(self, request: Request) -> Caller | None:
        """As a call, without noting a use of the key: for explanations."""
        key = self._sent_key(request)
        return None if key is None else self.verifier.inspect(key)

    async def identify_quietly_async(self, request: Request) -> Caller | None:
        """As `identify_quietly`, for an event loop."""
        return await self._threads.run(self.identify_quietly, request)

    def known(self, request: Request) -> Caller | None:
        """The caller if the key is in memory; None if it must be looked up. Raises KeyRefused as a call does."""
        key = self._sent_key(request)
        return None if key is None else self.verifier.verify_cached(key)

    def was_known(self, request: Request) -> bool:
        """Whether the key was accepted before, so it is not a guess. Raises KeyRefused as a call does."""
        key = self._sent_key(request)
        return key is not None and self.verifier.was_known(key)

    def flush(self) -> None:
        """Record when keys were last used. It never raises; records that fail to be written are kept for later."""
        try:
            self.verifier.write_uses()
        except KeyStoreUnavailable as error:
            _log.warning("the last uses of keys cannot be written now: %s", error)

    def reopen(self) -> None:
        """Open a closed verifier again. The ASGI middleware calls this when a lifespan begins."""
        if isinstance(self.verifier, Reopenable):
            self.verifier.reopen()

    async def flush_async(self) -> None:
        """As `flush`, in a thread, for at most 2 s."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._threads.run(self.flush), _FLUSH_TIMEOUT_S)
