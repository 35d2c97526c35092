"""`StoredKeys`: callers by the keys of a key store: from memory at once, else by one look-up.

Only the look-up blocks. On an event loop it has threads of its own, and what is in memory costs no `await`.
"""

import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.errors import KeyRefused
from awx_ratelimit.threads import Threads
from awx_ratelimit.web.identify import sends_key, sent_key
from awx_ratelimit.web.message import Request

if TYPE_CHECKING:
    # It needs an extra, which whoever has a verifier has installed.
    from awx_ratelimit.keys.verifier import KeyVerifier

_AUTHORIZATION = b"authorization"
_THREADS = 32


class StoredKeys:
    """The `identify` of either gate whose callers have the keys that `verifier` knows.

    A caller's subject is its key's family, so that a rotated key and its successor share one budget. Keys come in
    ``X-API-Key``; with `bearer` also as ``Authorization: Bearer awx_...``, where any other text is left to whoever it
    is meant for. A request with two keys has none. Unknown keys are counted by the gate, by client address: the
    verifier needs no `failures` of its own. On an event loop at most `threads` look-ups are waited for at a time.

    A call raises KeyRefused, KeyStoreUnavailable (the gate answers 503) and TooManyWrongKeys.
    """

    def __init__(self, verifier: "KeyVerifier", *, bearer: bool = False, threads: int = _THREADS) -> None:
        self._verify = verifier.verify
        self._verify_cached = verifier.verify_cached
        self._threads = Threads(threads)
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

    def in_tasks(self, request: Request) -> Caller | Awaitable[Caller] | None:
        """The same for an event loop: at once from memory, else to be awaited."""
        key = self._sent(request)
        if key is None:
            return None
        return self._verify_cached(key) or self._threads.run(self._verify, key)


class _Places:
    """The two places of a key: its own header, and Authorization where a bearer has the prefix of keys."""

    def __init__(self, prefix: str) -> None:
        self._bearer = re.compile(rb"[ \t]*bearer[ \t]+(%s.*)" % prefix.encode(), re.IGNORECASE | re.DOTALL).fullmatch

    def sends_key(self, request: Request) -> bool:
        """Whether there is something in one of them."""
        return sends_key(request) or any(map(self._bearer, _credentials(request)))

    def sent_key(self, request: Request) -> bytes | None:
        """The one key of the request, None where there is none. Raises KeyRefused for two, or what no key can be."""
        credentials = _credentials(request)
        found = [match for match in map(self._bearer, credentials) if match]
        if not found:
            return sent_key(request)
        if len(credentials) > 1 or sends_key(request):
            raise KeyRefused
        key: bytes = found[0][1]
        return key


def _credentials(request: Request) -> list[bytes]:
    # A comma is where a server has joined two headers; no key has one.
    return [credential for value in request.values(_AUTHORIZATION) for credential in value.split(b",")]
