"""`CsrfProtection`: a form is accepted once, from our own page, in the browser and for the user it was made for.

The browser must report our own origin, and the form must carry a token signed for this console, this action, this user
and this browser's cookie. The id of a new key is derived from the token, so the database refuses a form that is
submitted twice, even to two processes.
"""

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from awx_ratelimit.console.page_request import ConsoleRequest, CsrfCookie
from awx_ratelimit.errors import AccessRefused
from awx_ratelimit.http.header_values import cookie_values, only_value
from awx_ratelimit.http.message import Request
from awx_ratelimit.keys.format import base62
from awx_ratelimit.runtime.clock import Clock

#: A form expires after 12 hours.
MAX_FORM_AGE_MS: Final = 43_200_000
_MIN_SECRET_BYTES: Final = 32
_NONCE_BYTES, _TIME_BYTES, _MAC_BYTES = 16, 8, 32
_TOKEN_BYTES = _NONCE_BYTES + _TIME_BYTES + _MAC_BYTES
_KEY_ID_CHARACTERS = 16
#: Each cookie costs one digest per submitted form.
_MAX_COOKIES = 32
_is_cookie = re.compile(rb"[0-9A-Za-z_-]{22}").fullmatch


class FormSigner(NamedTuple):
    """What keeps the forms of one console apart from those of another with the same secret.

    Browsers accept a cookie with the prefix ``__Host-`` only from this host, over HTTPS (or localhost), for path '/'.
    """

    cookie_name: str
    label: bytes


class CsrfProtection:
    """Issues and checks the tokens of forms.

    `signer` is that of the console. `origins` are the origins that forms may come from; if empty, a form must come from
    the host of the request. Raises ValueError for a secret of less than 32 bytes.
    """

    def __init__(self, signer: FormSigner, secret: str | bytes, origins: Collection[str], clock: Clock) -> None:
        key = secret.encode() if isinstance(secret, str) else secret
        if len(key) < _MIN_SECRET_BYTES:
            raise ValueError(f"secret: expected at least {_MIN_SECRET_BYTES} bytes, got {len(key)}")
        self._key = hmac.digest(key, signer.label, "sha256")
        self._cookie_name = signer.cookie_name
        self._origins = frozenset(origins)
        self._clock = clock

    def cookie(self, request: Request) -> CsrfCookie:
        """The browser's cookie, or a new one.

        All values are kept: a neighbouring host of the same site may have set a second cookie of this name, which
        must neither hide ours nor replace it.
        """
        name = self._cookie_name.encode()
        values = [value for value in cookie_values(request.values(b"cookie"), name) if _is_cookie(value)]
        if values:
            return CsrfCookie(tuple(value.decode() for value in values[:_MAX_COOKIES]), is_new=False)
        return CsrfCookie((secrets.token_urlsafe(16),), is_new=True)

    def set_cookie(self, cookie: CsrfCookie) -> str:
        """The field Set-Cookie for a new cookie.

        It is lax, so that following a link to a page does not replace the cookie that forms in other tabs depend on.
        """
        return f"{self._cookie_name}={cookie.values[0]}; Path=/; Secure; HttpOnly; SameSite=Lax"

    def token(self, request: ConsoleRequest, action: str) -> str:
        """Issue a token for one form, which performs `action` on what the request is about."""
        assert request.csrf_cookie is not None  # pages without a login have no forms
        signed = secrets.token_bytes(_NONCE_BYTES) + self._clock.now_ms().to_bytes(_TIME_BYTES)
        mac = self._mac(signed, request.csrf_cookie.values[0], request, action)
        return base64.urlsafe_b64encode(signed + mac).decode().rstrip("=")

    def check(self, request: ConsoleRequest, action: str, token: str) -> str:
        """The id for the key that the form creates. Raises AccessRefused, with a reason for the log."""
        self._check_origin(request.full_request.request)
        cookie, token_bytes = request.csrf_cookie, _decoded(token)
        signed, mac = token_bytes[:-_MAC_BYTES], token_bytes[-_MAC_BYTES:]
        if cookie is None or cookie.is_new:
            raise AccessRefused("csrf_failed", "the browser sent no CSRF cookie")
        macs = (self._mac(signed, value, request, action) for value in cookie.values)
        if len(token_bytes) != _TOKEN_BYTES or not any(hmac.compare_digest(mac, expected) for expected in macs):
            raise AccessRefused("csrf_failed", "the token does not belong to this form")
        age_ms = self._clock.now_ms() - int.from_bytes(signed[_NONCE_BYTES:])
        if not -MAX_FORM_AGE_MS <= age_ms <= MAX_FORM_AGE_MS:
            raise AccessRefused("csrf_failed", "the form has expired")
        digest = self._digest(b"key id", signed, request.form_context[0].encode())
        return f"key_{base62(int.from_bytes(digest), _KEY_ID_CHARACTERS)}"

    def _check_origin(self, request: Request) -> None:
        """Check ``Sec-Fetch-Site`` and ``Origin``, which pages cannot forge. At least one must be present."""
        sites, origins = request.values(b"sec-fetch-site"), request.values(b"origin")
        if not (sites or origins):
            raise AccessRefused("csrf_failed", "the form has neither Sec-Fetch-Site nor Origin")
        if sites and sites != [b"same-origin"]:
            raise AccessRefused("csrf_failed", "the form comes from another site")
        origin = only_value(origins)
        if origins and (origin is None or not self._is_own_origin(origin.decode("latin-1"), request)):
            raise AccessRefused("csrf_failed", "the form comes from another origin")

    def _is_own_origin(self, origin: str, request: Request) -> bool:
        if self._origins:
            return origin in self._origins
        host = only_value(request.values(b"host"))
        try:
            netloc = urlsplit(origin).netloc
        except ValueError:
            return False
        return host is not None and netloc.lower() == host.decode("latin-1").lower() != ""

    def _mac(self, signed: bytes, cookie: str, request: ConsoleRequest, action: str) -> bytes:
        *user, subject = request.form_context
        context = (cookie, *user, action, subject)
        return self._digest(b"form", signed, *(text.encode() for text in context))

    def _digest(self, *parts: bytes) -> bytes:
        # The lengths make the encoding unambiguous: two lists of parts never give the same bytes.
        return hmac.digest(self._key, b"".join(len(part).to_bytes(4) + part for part in parts), "sha256")


def _decoded(token: str) -> bytes:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return b""
