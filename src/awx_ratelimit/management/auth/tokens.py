"""`AccessTokens`: whose keys a request may manage, by a JWT that someone else has issued.

What is accepted is said when it is made, all of it: the algorithms, the key, the issuer, the audience. Nothing of that
is taken from a token.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from awx_ratelimit.core.validation import describe, short_repr
from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.http.limit_headers import KEY_HEADER
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.keys.format import PREFIX
from awx_ratelimit.management.auth.claims import Owner, Rules, owner_of
from awx_ratelimit.management.auth.jwks import Jwks
from awx_ratelimit.management.auth.signing import ALGORITHMS, OneKey, SigningKeys, verified
from awx_ratelimit.runtime.clock import Clock, WallClock

_log = logging.getLogger("awx_ratelimit.management")
#: A token that is longer is not decoded. Headers of browsers and proxies end there, too.
MAX_TOKEN_BYTES: Final = 8_192
_MOST_LIFETIME_S = 365 * 86_400
_MOST_LEEWAY_S = 300
_REFUSALS_EVERY_S = 60.0
_bearer = re.compile(rb"[ \t]*bearer[ \t]+([!-~]+)[ \t]*", re.IGNORECASE).fullmatch


class AccessTokens:
    """Verifies the ``Authorization: Bearer`` tokens of one issuer for one audience.

    `key` is the secret for HS256 and its like, at least as long as the hash (32 bytes for HS256), or the public key in
    PEM for the others, or a JSON Web Key Set as a mapping, or `Jwks.at(url)`. `algorithms` are those that are accepted,
    all of one kind of key; ``Ed25519`` is EdDSA over that curve (RFC 9864), and tokens may call it either. ``exp``,
    ``iss``, ``aud`` and ``sub`` are required. `account_claim` is the claim that names the account; ``sub`` is who acts.
    A token that lives longer than `max_lifetime_s` (1 s to a year) is refused: a
    stolen one is good so long. The 401 does not say why a token is refused: the log does, with one WARNING a minute for
    each reason. `leeway_s`, 0 to 300, is how far clocks may differ. `prefix` is how API keys begin.

    Raises InvalidKeyRequest for what cannot be meant: an algorithm that is none, a secret that is too short.
    """

    def __init__(
        self,
        key: str | bytes | Mapping[str, Any] | Jwks,
        *,
        algorithms: Sequence[str],
        issuer: str,
        audience: str,
        account_claim: str = "sub",
        max_lifetime_s: int = 3_600,
        leeway_s: int = 10,
        prefix: str = PREFIX,
        clock: Clock | None = None,
    ) -> None:
        self._keys = _signing_keys(key, _checked_algorithms(algorithms))
        for field, value in (("issuer", issuer), ("audience", audience), ("account_claim", account_claim)):
            if not isinstance(value, str) or not value:
                raise InvalidKeyRequest(f"is {describe(value)}", remedy="allowed is a non-empty string", field=field)
        _between("max_lifetime_s", max_lifetime_s, 1, _MOST_LIFETIME_S)
        _between("leeway_s", leeway_s, 0, _MOST_LEEWAY_S)
        self._rules = Rules(issuer, audience, account_claim, max_lifetime_s, leeway_s)
        self._prefix = prefix.encode()
        self._refusals = SampledLog(_log, interval_s=_REFUSALS_EVERY_S)
        self._now_ms = (clock or WallClock()).now_ms

    def owner(self, request: Request) -> Owner:
        """Whose keys the request may manage. Raises AccessRefused and SigningKeysUnavailable."""
        try:
            return self.owner_of(self._token(request))
        except AccessRefused as error:
            if error.code != "access_token_missing":
                # Whoever set this up must see why; a client that tries again and again must not fill the log.
                level = logging.WARNING if error.code == "invalid_access_token" else logging.INFO
                self._refusals.write(level, error.reason, "an access token was refused: %s", error.reason)
            raise

    def owner_of(self, token: bytes) -> Owner:
        """Whose keys the bearer of `token` may manage. Raises AccessRefused and SigningKeysUnavailable."""
        if len(token) > MAX_TOKEN_BYTES:
            raise AccessRefused("invalid_access_token", f"it has more than {MAX_TOKEN_BYTES} bytes")
        return owner_of(verified(token, self._keys), self._rules, self._now_ms())

    def _token(self, request: Request) -> bytes:
        values = request.values(b"authorization")
        if not values:
            if request.values(KEY_HEADER):
                raise AccessRefused("access_token_required", "an API key was sent")
            raise AccessRefused("access_token_missing", "there is none")
        match = _bearer(values[0]) if len(values) == 1 and len(values[0]) <= 2 * MAX_TOKEN_BYTES else None
        if match is None:
            raise AccessRefused("invalid_access_token", "it does not come as one bearer token")
        token: bytes = match[1]
        if token.startswith(self._prefix):
            raise AccessRefused("access_token_required", "an API key was sent")
        return token


def _checked_algorithms(algorithms: Sequence[str]) -> tuple[str, ...]:
    if isinstance(algorithms, str) or not algorithms or any(name not in ALGORITHMS for name in algorithms):
        remedy = f"allowed is a list of {', '.join(ALGORITHMS)}"
        raise InvalidKeyRequest(f"is {short_repr(algorithms)}", remedy=remedy, field="algorithms")
    return tuple(algorithms)


def _signing_keys(key: object, algorithms: tuple[str, ...]) -> SigningKeys:
    if isinstance(key, Mapping):
        key = Jwks.of(key)
    return key.for_algorithms(algorithms) if isinstance(key, Jwks) else OneKey(key, algorithms)


def _between(field: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        remedy = f"allowed are whole numbers from {least} to {most}"
        raise InvalidKeyRequest(f"is {describe(value)}", remedy=remedy, field=field)
