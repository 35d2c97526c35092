"""The keys that tokens are signed with, and the signature of one token. The one user of PyJWT.

A key is tied to its algorithms before any token is seen, so that no token chooses how it is verified.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.runtime.extras import check_versions

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
    "Ed25519", "Ed448",
)  # fmt: skip
#: RFC 9864: EdDSA by its curve. One key has both names, so tokens may be called either.
_EDDSA: Final = "EdDSA"
_CURVES: Final = ("Ed25519", "Ed448")
_METHODS: Final[dict[str, Any]] = get_default_algorithms()
#: PyJWT's own, which also knows the names of the curves.
_SIGNATURES: Final = jwt.PyJWS()
for _curve in _CURVES:
    if _EDDSA in _METHODS and _curve not in _METHODS:
        _METHODS[_curve] = _METHODS[_EDDSA]
        _SIGNATURES.register_algorithm(_curve, _METHODS[_EDDSA])
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
        self._keys: dict[str, Any] = {}
        for name in algorithms:
            prepared = _prepared(key, name)
            self._keys |= dict.fromkeys(_names_of(prepared, name), prepared)

    def key_for(self, algorithm: str, _key_id: str | None, /) -> Any:
        """See SigningKeys."""
        return self._keys.get(algorithm)


class KeySet:
    """The public keys of one JSON Web Key Set (RFC 7517), by algorithm and name; what is not usable is not in it."""

    def __init__(self, document: Mapping[str, Any], algorithms: Sequence[str]) -> None:
        members = document.get("keys")
        self._keys: dict[str, dict[str | None, Any]] = {}
        for jwk in members if isinstance(members, list) else []:
            for name in algorithms:
                key = _public_key(jwk, name)
                for known_as in () if key is None else _names_of(key, name):
                    self._keys.setdefault(known_as, {}).setdefault(jwk.get("kid"), key)

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
        claims = json.loads(_SIGNATURES.decode(token, key, algorithms=[algorithm]))
    except _BROKEN as error:
        what = f"it is not signed as it must be ({type(error).__name__})"
        raise AccessRefused("invalid_access_token", what) from None
    if not isinstance(claims, dict):
        raise AccessRefused("invalid_access_token", "its claims are not a JSON object")
    return claims


def _prepared(key: object, algorithm: str) -> Any:
    method = _METHODS.get(algorithm)
    if method is None:
        raise ImportError(f"{algorithm} needs cryptography; install it with: pip install 'awx-ratelimit[keys]'")
    try:
        prepared = method.prepare_key(key)
        _names_of(prepared, algorithm)
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


def _names_of(key: Any, algorithm: str) -> tuple[str, ...]:
    """What a token that `key` has signed may call its algorithm. Raises ValueError for a key of another curve."""
    if algorithm != _EDDSA and algorithm not in _CURVES:
        return (algorithm,)
    curve: str = _METHODS[_EDDSA].to_jwk(key, as_dict=True)["crv"]
    if algorithm not in (_EDDSA, curve):
        raise ValueError(f"its curve is {curve}")
    return (_EDDSA, curve)


def _public_key(jwk: object, algorithm: str) -> Any:
    """The key in one member of a set, where it is one for this algorithm."""
    if not isinstance(jwk, Mapping) or jwk.get("use", "sig") != "sig":
        return None
    # A shared secret is no public key, and a private one that was published is anybody's.
    if jwk.get("kty") == "oct" or "d" in jwk or not isinstance(jwk.get("kid"), str | None):
        return None
    try:
        made = jwt.PyJWK(dict(jwk), _EDDSA if algorithm in _CURVES else algorithm)
        key = made.Algorithm.prepare_key(made.key)
        if jwk.get("alg", algorithm) not in _names_of(key, algorithm):
            return None
    except _BROKEN:
        return None
    return None if made.Algorithm.check_key_length(key) else key
