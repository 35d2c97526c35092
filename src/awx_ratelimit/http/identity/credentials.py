"""Reads the API key of a request. A key is exactly one header value of 1 to 128 bytes, without a comma.

A comma means that a server joined two headers. A request with a malformed key is refused, never anonymous.
"""

import re

from awx_ratelimit.errors import KeyRefused
from awx_ratelimit.http.header_values import MAX_BYTES, first_bytes
from awx_ratelimit.http.limit_headers import KEY_HEADER
from awx_ratelimit.http.message import Request

MAX_KEY_BYTES = 128
_AUTHORIZATION = b"authorization"


def sent_key(request: Request) -> bytes | None:
    """The API key of the request, None without a header X-API-Key. Raises KeyRefused for a header that has no key.

    The characters of the key are not checked: no digest of a malformed key is ever found.
    """
    _, _, _, values_of, _ = request
    values = values_of(KEY_HEADER)
    if len(values) == 1:
        (key,) = values
        if len(key) <= MAX_BYTES:
            key = key.strip(b" \t")
            if 0 < len(key) <= MAX_KEY_BYTES:
                return key
    elif not values:
        return None
    raise KeyRefused


def sends_key(request: Request) -> bool:
    """Whether the request has a header X-API-Key, with or without a key in it."""
    return bool(request.values(KEY_HEADER))


class BearerKeys:
    """Reads keys from X-API-Key, or from ``Authorization: Bearer`` followed by a key with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        credential = rb"[ \t]*bearer[ \t]+(%s[^,]*)" % self._prefix
        self._whole = re.compile(credential, re.IGNORECASE).fullmatch
        self._after_comma = re.compile(rb"," + credential, re.IGNORECASE).search

    def sends_key(self, request: Request) -> bool:
        """Whether either header has a key, or something in its place."""
        return sends_key(request) or self._has_key(first_bytes(request.values(_AUTHORIZATION))[0])

    def sent_key(self, request: Request) -> bytes | None:
        """The only key of the request, None without one. Raises KeyRefused for two keys or a malformed one."""
        authorization, is_cut = first_bytes(request.values(_AUTHORIZATION))
        found = self._whole(authorization)
        if found is None and not self._has_key(authorization):
            return sent_key(request)
        if found is None or is_cut or sends_key(request):
            raise KeyRefused
        key: bytes = found[1]
        return key

    def _has_key(self, authorization: bytes) -> bool:
        # Servers join two headers with a comma, which no key contains.
        first, comma, _ = authorization.partition(b",")
        if self._whole(first):
            return True
        # The search is slow, so it runs only if both a comma and the prefix are there.
        return bool(comma and self._prefix in authorization.lower() and self._after_comma(authorization))
