"""`AccessTokens`: verifies the JWTs that say whose keys a request may manage.

You configure the accepted algorithms, the key, the issuer and the audience. Nothing of that is taken from a token. JWT
libraries accept everything that they are not configured to refuse: no expiry, an expiry as text, no audience. So each
claim is checked here, beginning with its type.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from awx_ratelimit.core.validation import describe, short_repr
from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.http.limit_headers import KEY_HEADER
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.keys.format import PREFIX
from awx_ratelimit.keys.validation import account_id, integer, readable_text
from awx_ratelimit.management.auth.jwks import Jwks
from awx_ratelimit.management.auth.signing import ALGORITHMS, SigningKeys, SingleKey, verified_claims
from awx_ratelimit.runtime.clock import Clock, WallClock

_log = logging.getLogger("awx_ratelimit.management")
#: Longer tokens are refused before decoding. Browsers and proxies have similar limits for headers.
MAX_TOKEN_BYTES: Final = 8_192
_MAX_ID_CHARACTERS = 128
_MAX_TIME_S = 2**53
_MAX_LIFETIME_S = 365 * 86_400
_MAX_LEEWAY_S = 300
_LOG_INTERVAL_S = 60.0
_bearer = re.compile(rb"[ \t]*bearer[ \t]+([!-~]+)[ \t]*", re.IGNORECASE).fullmatch


#: Tokens with this scope are for the operator's API alone.
OPERATOR_SCOPE: Final = "awx:operator"
#: The names of operators in the audit trail begin with this, and no other names.
OPERATOR_PREFIX: Final = "operator:"
#: So that, with the prefix, such a name has at most 128 characters.
MAX_OPERATOR_CHARACTERS: Final = 100
_T = TypeVar("_T")


class Owner(NamedTuple):
    """The account whose keys may be managed, and the user who does it. Their ids may differ."""

    account_id: str
    actor: str


class AccessTokens:
    """Verifies the ``Authorization: Bearer`` tokens of one issuer for one audience.

    `key` is a secret for HS256, HS384 and HS512, at least as long as the hash (32 bytes for HS256). For other
    algorithms it is a public key in PEM, a JSON Web Key Set as a mapping, or `Jwks.at(url)`. `algorithms` are the
    accepted ones, all for one kind of key. ``Ed25519`` is EdDSA with that curve (RFC 9864), and tokens may use either
    name. A token must have ``exp``, ``iss``, ``aud`` and ``sub``. `account_claim` names the claim with the account;
    ``sub`` is the actor. Tokens with a lifetime above `max_lifetime_s` (1 s to a year) are refused, because a stolen
    token works that long. `leeway_s`, 0 to 300, is the tolerated difference between clocks. `prefix` is the prefix of
    API keys.

    The 401 does not say why a token is refused. The log does, with one WARNING a minute for each reason. Raises
    InvalidKeyRequest for an invalid configuration, such as an unknown algorithm or a short secret.
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
                raise InvalidKeyRequest(f"got {describe(value)}", remedy="expected a non-empty string", field=field)
        integer(max_lifetime_s, "max_lifetime_s", 1, _MAX_LIFETIME_S)
        integer(leeway_s, "leeway_s", 0, _MAX_LEEWAY_S)
        self._issuer, self._audience, self._account_claim = issuer, audience, account_claim
        self._max_lifetime_s, self._leeway_s = max_lifetime_s, leeway_s
        self._prefix = prefix.encode()
        self._refusals = SampledLog(_log, interval_s=_LOG_INTERVAL_S)
        #: The time in milliseconds since the epoch.
        self.now_ms = (clock or WallClock()).now_ms

    def owner(self, request: Request) -> Owner:
        """Return whose keys the request may manage. Raises AccessRefused and SigningKeysUnavailable."""
        return self.authorized(request, self.owner_of)

    def authorized(self, request: Request, read: Callable[[bytes], _T]) -> _T:
        """Return what `read` returns for the token of the request. Log why a token is refused."""
        try:
            return read(self._token(request))
        except AccessRefused as error:
            if error.code != "access_token_missing":
                # Operators must see the reason, but a client that retries must not fill the log.
                level = logging.WARNING if error.code == "invalid_access_token" else logging.INFO
                self._refusals.write(level, error.reason, "an access token was refused: %s", error.reason)
            raise

    def owner_of(self, token: bytes) -> Owner:
        """Return whose keys the bearer of `token` may manage. Raises AccessRefused and SigningKeysUnavailable."""
        return self._owner(self.claims_of(token))

    def claims_of(self, token: bytes, *, loads_keys: bool = True) -> Mapping[str, Any]:
        """Return the claims of `token`, of which only ``iss``, ``aud`` and the times are checked.

        An operator's token is refused, so that it can never act for a customer. Without `loads_keys`, only keys in
        memory verify it. Raises AccessRefused and SigningKeysUnavailable.
        """
        claims = self.any_claims_of(token, loads_keys=loads_keys)
        _require(not is_operators(claims), f"it is an operator's: it has the scope {OPERATOR_SCOPE!r}")
        return claims

    def any_claims_of(self, token: bytes, *, loads_keys: bool = True) -> Mapping[str, Any]:
        """Return the claims of `token`, also of an operator's. Raises like `claims_of`."""
        if len(token) > MAX_TOKEN_BYTES:
            raise AccessRefused("invalid_access_token", f"it has more than {MAX_TOKEN_BYTES} bytes")
        claims = verified_claims(token, self._keys if loads_keys else self._keys.in_memory())
        _require(claims.get("iss") == self._issuer, f"its issuer is wrong; iss must be {self._issuer!r}")
        audience = claims.get("aud")
        _require(
            self._audience in (audience if isinstance(audience, list) else [audience]),
            f"its audience is wrong; aud must be or contain {self._audience!r}",
        )
        self._check_times(claims)
        return claims

    def _owner(self, claims: Mapping[str, Any]) -> Owner:
        try:
            actor = readable_text(claims.get("sub"), field="sub", max_characters=_MAX_ID_CHARACTERS)
            _require(not is_operators_name(actor), f"its claim sub begins with {OPERATOR_PREFIX!r}, as operators do")
            return Owner(account_id(claims.get(self._account_claim), field=self._account_claim), actor)
        except InvalidKeyRequest as error:
            reason = f"its claim {error.field} is missing or not a valid id"
            raise AccessRefused("invalid_access_token", reason) from error

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        """Raise AccessRefused for a wrong lifetime. Only a token that was valid once is reported as expired."""
        now_s = self.now_ms() / 1000
        until_s = _time_claim(claims, "exp")
        if until_s is None:
            raise AccessRefused("invalid_access_token", "it has no expiry; exp is required")
        begins_s = [time_s for time_s in (_time_claim(claims, "iat"), _time_claim(claims, "nbf")) if time_s is not None]
        _require(
            all(time_s <= now_s + self._leeway_s for time_s in begins_s),
            "it is not valid yet: iat or nbf is in the future; check the clocks, or increase leeway_s",
        )
        # The lifetime from iat or nbf, if there is one, and always from now.
        _require(
            max(until_s - time_s for time_s in [now_s, *begins_s]) <= self._max_lifetime_s + self._leeway_s,
            f"its lifetime exceeds {self._max_lifetime_s} s; issue tokens that expire sooner, or raise max_lifetime_s",
        )
        if now_s >= until_s + self._leeway_s:
            raise AccessRefused("access_token_expired", "it has expired")

    def _token(self, request: Request) -> bytes:
        values = request.values(b"authorization")
        if not values:
            if request.values(KEY_HEADER):
                raise AccessRefused("access_token_required", "an API key was sent")
            raise AccessRefused("access_token_missing", "no token was sent")
        token = bearer_token(values)
        if token is None:
            raise AccessRefused("invalid_access_token", "the Authorization header is not one bearer token")
        if token.startswith(self._prefix):
            raise AccessRefused("access_token_required", "an API key was sent")
        return token


def is_operators(claims: Mapping[str, Any]) -> bool:
    """Whether a token has the operator's scope, in ``scope`` (RFC 9068) or ``scp``, as a text or as a list."""
    scopes: list[object] = []
    for claim in (claims.get("scope"), claims.get("scp")):
        scopes += claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return OPERATOR_SCOPE in scopes


def is_operators_name(actor: str) -> bool:
    """Whether the audit trail would show `actor` as an operator."""
    return actor.lstrip().lower().startswith(OPERATOR_PREFIX)


def bearer_token(values: Sequence[bytes]) -> bytes | None:
    """The token in the values of the Authorization header; None unless it is exactly one bearer token."""
    match = _bearer(values[0]) if len(values) == 1 and len(values[0]) <= 2 * MAX_TOKEN_BYTES else None
    return match[1] if match else None


def _checked_algorithms(algorithms: Sequence[str]) -> tuple[str, ...]:
    if isinstance(algorithms, str) or not algorithms or any(name not in ALGORITHMS for name in algorithms):
        remedy = f"expected a list of {', '.join(ALGORITHMS)}"
        raise InvalidKeyRequest(f"got {short_repr(algorithms)}", remedy=remedy, field="algorithms")
    return tuple(algorithms)


def _signing_keys(key: object, algorithms: tuple[str, ...]) -> SigningKeys:
    if isinstance(key, Mapping):
        key = Jwks.of(key)
    return key.for_algorithms(algorithms) if isinstance(key, Jwks) else SingleKey(key, algorithms)


def _time_claim(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a time in seconds since the epoch (NumericDate of RFC 7519), or None if the claim is missing."""
    if name not in claims:
        return None
    time_s = claims[name]
    if isinstance(time_s, bool) or not isinstance(time_s, int | float) or not abs(time_s) < _MAX_TIME_S:
        raise AccessRefused("invalid_access_token", f"its claim {name} is not a time in seconds since 1970")
    return time_s


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise AccessRefused("invalid_access_token", reason)
