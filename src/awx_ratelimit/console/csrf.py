"""`Forms`: that what changes something was a form of one of our own pages, in the same browser, sent once.

A form is refused unless the browser says that it comes from our own origin, and unless it carries a token that we
signed for this act, this owner and this browser's cookie. The id of the key that a form will make follows from its
token: so the database itself refuses a form that is sent again, in whichever process.
"""

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from awx_ratelimit.console.page_request import Browser, Visit
from awx_ratelimit.errors import AccessRefused
from awx_ratelimit.http.cookies import values_of
from awx_ratelimit.http.header_values import only_value
from awx_ratelimit.http.message import Request
from awx_ratelimit.keys.clock import Clock
from awx_ratelimit.keys.format import BASE62

#: A browser keeps a cookie of this prefix to the very host, to TLS (or this machine), and to the path '/'.
COOKIE: Final = "__Host-awx-console"
#: How long a form may lie open.
MOST_AGE_MS: Final = 43_200_000
_LEAST_SECRET_BYTES = 32
_NONCE_BYTES, _TIME_BYTES, _MAC_BYTES = 16, 8, 32
_TOKEN_BYTES = _NONCE_BYTES + _TIME_BYTES + _MAC_BYTES
_ID_CHARACTERS = 16
#: Each costs a digest when a form is checked.
_MAX_COOKIES = 32
_is_cookie = re.compile(rb"[0-9A-Za-z_-]{22}").fullmatch


class Forms:
    """Makes tokens and looks at them. Every check raises AccessRefused, with a reason for the log."""

    def __init__(self, secret: str | bytes, origins: Collection[str], clock: Clock) -> None:
        key = secret.encode() if isinstance(secret, str) else secret
        if len(key) < _LEAST_SECRET_BYTES:
            raise ValueError(f"the console's secret is too short; allowed are at least {_LEAST_SECRET_BYTES} bytes")
        self._key = hmac.digest(key, b"awx_ratelimit.console", "sha256")
        self._origins = frozenset(origins)
        self._clock = clock

    def browser(self, request: Request) -> Browser:
        """The browser by its cookie; where it has none that can be one, by a new one, to be set.

        Several are kept: a second one, which a neighbour has planted, must neither hide the right one nor replace it.
        """
        found = [value for value in values_of(request.values(b"cookie"), COOKIE.encode()) if _is_cookie(value)]
        if found:
            return Browser(tuple(value.decode() for value in found[:_MAX_COOKIES]), is_new=False)
        return Browser((secrets.token_urlsafe(16),), is_new=True)

    def token(self, visit: Visit, act: str) -> str:
        """A token for one form: `act` with the key that it is about."""
        signed = secrets.token_bytes(_NONCE_BYTES) + self._clock.now_ms().to_bytes(_TIME_BYTES)
        mac = self._mac(signed, visit.cookies[0], visit, act)
        return base64.urlsafe_b64encode(signed + mac).decode().rstrip("=")

    def check(self, visit: Visit, act: str, token: str) -> str:
        """Raise unless the form is ours; the id of the key that it will make, where it makes one."""
        self._check_origin(visit.whole.request)
        token_bytes = _decoded(token)
        signed, mac = token_bytes[:-_MAC_BYTES], token_bytes[-_MAC_BYTES:]
        if visit.browser is None or visit.browser.is_new:
            raise AccessRefused("csrf_failed", "the browser sent no cookie of ours")
        if len(token_bytes) != _TOKEN_BYTES or not self._is_signed(mac, signed, visit, act):
            raise AccessRefused("csrf_failed", "its token is not one for this form")
        age_ms = self._clock.now_ms() - int.from_bytes(signed[_NONCE_BYTES:])
        if not -MOST_AGE_MS <= age_ms <= MOST_AGE_MS:
            raise AccessRefused("csrf_failed", "it lay open for too long")
        return f"key_{_base62(self._digest(b'key id', signed, visit.owner.account_id.encode()))}"

    def _check_origin(self, request: Request) -> None:
        """By what browsers say of where a form comes from, and pages cannot change: it must be said, and be ours."""
        sites, origins = request.values(b"sec-fetch-site"), request.values(b"origin")
        if not (sites or origins):
            raise AccessRefused("csrf_failed", "it does not say where it comes from")
        if sites and sites != [b"same-origin"]:
            raise AccessRefused("csrf_failed", "it comes from another site")
        origin = only_value(origins)
        if origins and (origin is None or not self._is_ours(origin.decode("latin-1"), request)):
            raise AccessRefused("csrf_failed", "it comes from another origin")

    def _is_ours(self, origin: str, request: Request) -> bool:
        if self._origins:
            return origin in self._origins
        host = only_value(request.values(b"host"))
        try:
            netloc = urlsplit(origin).netloc
        except ValueError:
            return False
        return host is not None and netloc.lower() == host.decode("latin-1").lower() != ""

    def _is_signed(self, mac: bytes, signed: bytes, visit: Visit, act: str) -> bool:
        return any(hmac.compare_digest(mac, self._mac(signed, cookie, visit, act)) for cookie in visit.cookies)

    def _mac(self, signed: bytes, cookie: str, visit: Visit, act: str) -> bytes:
        about = (cookie, *visit.owner, act, visit.key_id)
        return self._digest(b"form", signed, *(text.encode() for text in about))

    def _digest(self, *parts: bytes) -> bytes:
        # Each with its length, so that no two lists of parts are one text.
        return hmac.digest(self._key, b"".join(len(part).to_bytes(4) + part for part in parts), "sha256")


def _decoded(token: str) -> bytes:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return b""


def _base62(digest: bytes) -> str:
    number = int.from_bytes(digest)
    characters = []
    for _ in range(_ID_CHARACTERS):
        number, digit = divmod(number, len(BASE62))
        characters.append(BASE62[digit])
    return "".join(characters)
