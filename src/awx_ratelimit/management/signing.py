"""The keys that tokens are signed with, and the signature of one token. The one user of PyJWT.

A key is tied to its algorithms before any token is seen, so that no token chooses how it is verified.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.extras import check_versions

try:
    check_versions("access tokens", "keys", "pyjwt")
    import jwt
    from jwt.algorithms import get_default_algorithms
except ModuleNotFoundError as error:
    if error.name != "jwt":
        raise
    raise ImportError("access tokens need PyJWT; install it with: pip install 'awx-ratelimit[keys]'") from error

#: Each needs a key of its own kind. What has no signature, or is little known, is not among them.
ALGORITHMS: Final = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
_SIGNATURE_ALONE: Final[Any] = {
    "verify_signature": True, "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False,
    "verify_iss": False, "verify_sub": False, "verify_jti": False,
}  # fmt: skip
_METHODS: Final[Mapping[str, Any]] = get_default_algorithms()
_BROKEN = (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError)

_NO_KEY: Final = "there is no key for its alg and kid; compare the algorithms that you allow, and the issuer's keys"


class SigningKeys(Protocol):
    """Where the key of a token is found."""

    def key_for(self, algorithm: str, key_id: str | None, /) -> Any:
        """The key of this name for this algorithm; None where there is none. Raises SigningKeysUnavailable."""
        ...


class OneKey:
    """A secret or a public key, whatever a token says of its name. Raises InvalidKeyRequest for what is none."""

    def __init__(self, key: object, algorithms: Sequence[str]) -> None:
        self._keys = {name: _prepared(key, name) for name in algorithms}

    def key_for(self, algorithm: str, _key_id: str | None, /) -> Any:
        """See SigningKeys."""
        return self._keys.get(algorithm)


class KeySet:
    """The public keys of one JSON Web Key Set (RFC 7517), by algorithm and name; what is not usable is not in it."""

    def __init__(self, document: Mapping[str, Any], algorithms: Sequence[str]) -> None:
        members = document.get("keys")
        self._keys: dict[str, dict[str | None, Any]] = {name: {} for name in algorithms}
        for jwk in members if isinstance(members, list) else []:
            for name in algorithms:
                key = _public_key(jwk, name)
                if key is not None:
                    self._keys[name].setdefault(jwk.get("kid"), key)

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def key_for(self, algorithm: str, key_id: str | None, /) -> Any:
        """See SigningKeys. A token that names no key has the only one that there is."""
        keys = self._keys.get(algorithm, {})
        if key_id is None and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(key_id)


def verified(token: bytes, keys: SigningKeys) -> Mapping[str, Any]:
    """The claims of a token whose signature is right. Raises AccessRefused and SigningKeysUnavailable."""
    try:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        # An extension that must be understood is understood by nobody here (RFC 7515, section 4.1.11).
        if not isinstance(algorithm, str) or "crit" in header or "b64" in header:
            raise AccessRefused("invalid_access_token", "its header is none that is known")
        # Only for an algorithm that was allowed beforehand is there a key.
        key = keys.key_for(algorithm, header.get("kid"))
        if key is None:
            raise AccessRefused("invalid_access_token", _NO_KEY)
        return jwt.decode(token, key, algorithms=[algorithm], options=_SIGNATURE_ALONE)
    except _BROKEN as error:
        what = f"it is not signed as it must be ({type(error).__name__})"
        raise AccessRefused("invalid_access_token", what) from None


def _prepared(key: object, algorithm: str) -> Any:
    method = _METHODS.get(algorithm)
    if method is None:
        raise ImportError(f"{algorithm} needs cryptography; install it with: pip install 'awx-ratelimit[keys]'")
    try:
        prepared = method.prepare_key(key)
    except _BROKEN:
        # Not its cause: what could not be read may be a secret.
        remedy = "allowed are a secret for HS256 and its like, and for others a public key in PEM of their kind"
        raise InvalidKeyRequest(f"is none for {algorithm}", remedy=remedy, field="key") from None
    if hasattr(prepared, "private_bytes"):
        raise InvalidKeyRequest("is a private key", remedy="give its public key: nothing is signed here", field="key")
    if method.check_key_length(prepared):
        remedy = "allowed are secrets as long as the hash (32 bytes for HS256), and RSA keys of 2048 bits"
        raise InvalidKeyRequest(f"is too short for {algorithm}", remedy=remedy, field="key")
    return prepared


def _public_key(jwk: object, algorithm: str) -> Any:
    """The key in one member of a set, where it is one for this algorithm."""
    if not isinstance(jwk, Mapping) or jwk.get("use", "sig") != "sig" or jwk.get("alg", algorithm) != algorithm:
        return None
    # A shared secret is no public key, and a private one that was published is anybody's.
    if jwk.get("kty") == "oct" or "d" in jwk or not isinstance(jwk.get("kid"), str | None):
        return None
    try:
        made = jwt.PyJWK(dict(jwk), algorithm)
        made.Algorithm.prepare_key(made.key)
    except _BROKEN:
        return None
    return None if made.Algorithm.check_key_length(made.key) else made
