"""`Webhook`: sends a signed message to a URL, as the Standard Webhooks specify (https://www.standardwebhooks.com).

The signature is an HMAC-SHA256 of the id, the time and the body of the message.
"""

import base64
import binascii
import hmac
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.runtime.http_client import LOCAL_HOSTS, post

TIMEOUT_S: Final = 10.0
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # the beginning of every secret
_SECRET_BYTES: Final = range(24, 65)
_is_plain: Final = re.compile(r"[!-~]{1,2000}").fullmatch


class DeliveryFailed(Exception):
    """The message was not accepted. The receiver wants no other attempt if it is `final`."""

    def __init__(self, what: str, *, final: bool = False) -> None:
        super().__init__(what)
        self.final = final


class Webhook:
    """The receiver of messages at `url`, which must be ``https://``, or local. `secret` signs the messages.

    A secret is ``whsec_`` and 24 to 64 random bytes in Base64. `now_s` is the time in seconds, for tests. Raises
    InvalidLimit for a wrong argument. No error and no log contains the path of the URL, which may contain a token.
    """

    def __init__(
        self, url: str, secret: str, *, timeout_s: float = TIMEOUT_S, now_s: Callable[[], float] = time.time
    ) -> None:
        self._host = _checked_host(url)
        self._url = url
        self._key = _checked_key(secret)
        self._timeout_s = timeout_s
        self._now_s = now_s

    def send(self, message_id: str, body: str) -> None:
        """Send a message. Takes the time-out at most, apart from the resolution of the name.

        Raises DeliveryFailed unless the status is 200 to 299. Redirects are not followed.
        """
        data = body.encode()
        timestamp = str(int(self._now_s()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "awx-ratelimit",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": self._signature(message_id, timestamp, data),
        }
        try:
            status = post(self._url, data, headers, until_s=time.monotonic() + self._timeout_s)
        except (OSError, HTTPException) as error:
            raise DeliveryFailed(f"{self._host}: {error}") from None
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise DeliveryFailed(f"{self._host} answered {status}", final=status == HTTPStatus.GONE)

    def _signature(self, message_id: str, timestamp: str, data: bytes) -> str:
        digest = hmac.digest(self._key, f"{message_id}.{timestamp}.".encode() + data, "sha256")
        return f"v1,{base64.b64encode(digest).decode()}"


def _checked_host(url: Any) -> str:
    if not isinstance(url, str):
        raise InvalidLimit(f"webhook: expected an https:// URL, got {type_name(url)}")
    try:
        parts = urlsplit(url)
        host, is_local = parts.hostname, parts.scheme == "http" and parts.hostname in LOCAL_HOSTS
        port = parts.port
    except ValueError:
        host, is_local = None, False
    if not host or not _is_plain(url) or not (parts.scheme == "https" or is_local):
        raise InvalidLimit("webhook: expected an https:// URL, or http:// with the host localhost")
    if parts.username is not None or parts.password is not None:
        raise InvalidLimit("webhook: expected a URL without a user and a password; the signature identifies the sender")
    return host if port is None else f"{host}:{port}"


def _checked_key(secret: Any) -> bytes:
    # No error contains the secret.
    expected = (
        "secret: expected 'whsec_' and 24 to 64 bytes in Base64; "
        "write 'whsec_' + base64.b64encode(secrets.token_bytes(32)).decode(), once"
    )
    if not isinstance(secret, str) or not secret.startswith(_SECRET_PREFIX):
        raise InvalidLimit(expected)
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidLimit(expected) from None
    if len(key) not in _SECRET_BYTES:
        raise InvalidLimit(expected)
    return key
