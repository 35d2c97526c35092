"""Signing keys, and the verification of a token's signature. Only this module uses PyJWT.

Every key is bound to its algorithms before any token arrives, so no token chooses how it is verified.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.runtime.extras import INSTALL, check_versions, missing_package

try:
    check_versions("access tokens", "keys", "pyjwt")
    import jwt
    from jwt.algorithms import get_default_algorithms
except ModuleNotFoundError as error:
    if error.name != "jwt":
        raise
    raise missing_package("access tokens need", error, "keys") from error

#: The supported algorithms. ``none`` and rarely used ones are missing on purpose.
ALGORITHMS: Final = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519", "Ed448",
)  # fmt: skip
#: RFC 9864 names EdDSA by its curve. Tokens may use either name for the same key.
_EDDSA: Final = "EdDSA"
_CURVES: Final = ("Ed25519", "Ed448")
_METHODS: Final[dict[str, Any]] = get_default_algorithms()
#: PyJWT's verifier, extended by the names of the curves.
_SIGNATURES: Final = jwt.PyJWS()
for _curve in _CURVES:
    if _EDDSA in _METHODS and _curve not in _METHODS:
        _METHODS[_curve] = _METHODS[_EDDSA]
        _SIGNATURES.register_algorithm(_curve, _METHODS[_EDDSA])
_BROKEN = (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError)

_NO_KEY: Final = "there is no key for its alg and kid; compare the allowed algorithms and the issuer's keys"


class SigningKeys(Protocol):
    """A source of keys for verifying tokens."""

    def key_for(self, algorithm: str, key_id: str | None, /) -> Any:
        """Return the key with this id for this algorithm, or None. Raises SigningKeysUnavailable."""

    def in_memory(self) -> "SigningKeys":
        """Return the keys that are in memory, which load nothing."""


class SingleKey:
    """A secret or a public key, for tokens with any key id. Raises InvalidKeyRequest for an invalid key."""

    def __init__(self, key: object, algorithms: Sequence[str]) -> None:
        self._keys: dict[str, Any] = {}
        for name in algorithms:
            prepared = _prepared(key, name)
            self._keys |= dict.fromkeys(_names_of(prepared, name), prepared)

    def key_for(self, algorithm: str, _key_id: str | None, /) -> Any:
        return self._keys.get(algorithm)

    def in_memory(self) -> "SingleKey":
        return self


class KeySet:
    """The usable public keys of a JSON Web Key Set (RFC 7517), by algorithm and key id."""

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
        """See SigningKeys. A token without a key id gets the only key, if there is just one."""
        keys = self._keys.get(algorithm, {})
        if key_id is None and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(key_id)

    def in_memory(self) -> "KeySet":
        return self


def verified_claims(token: bytes, keys: SigningKeys) -> Mapping[str, Any]:
    """Verify the signature of a token and return its claims. Raises AccessRefused and SigningKeysUnavailable."""
    try:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        # RFC 7515, section 4.1.11: refuse tokens with critical extensions. None is supported here.
        if not isinstance(algorithm, str) or "crit" in header or "b64" in header:
            raise AccessRefused("invalid_access_token", "its header is not supported")
        # There are keys only for the allowed algorithms.
        key = keys.key_for(algorithm, header.get("kid"))
        if key is None:
            raise AccessRefused("invalid_access_token", _NO_KEY)
        claims = json.loads(_SIGNATURES.decode(token, key, algorithms=[algorithm]))
    except _BROKEN as error:
        what = f"its signature is invalid ({type(error).__name__})"
        raise AccessRefused("invalid_access_token", what) from None
    if not isinstance(claims, dict):
        raise AccessRefused("invalid_access_token", "its claims are not a JSON object")
    return claims


def _prepared(key: object, algorithm: str) -> Any:
    method = _METHODS.get(algorithm)
    if method is None:
        raise ImportError(f"{algorithm} needs cryptography; {INSTALL.format('keys')}")
    try:
        prepared = method.prepare_key(key)
        _names_of(prepared, algorithm)
    except _BROKEN:
        # Without the cause: its message may quote a secret.
        remedy = "expected a secret for HS256, HS384 and HS512, and a matching public key in PEM for other algorithms"
        raise InvalidKeyRequest(f"not a key for {algorithm}", remedy=remedy, field="key") from None
    if hasattr(prepared, "private_bytes"):
        raise InvalidKeyRequest("got a private key", remedy="use its public key; nothing is signed here", field="key")
    if method.check_key_length(prepared):
        remedy = (
            "expected a secret at least as long as the hash (32 bytes for HS256), or an RSA key of at least 2048 bits"
        )
        raise InvalidKeyRequest(f"too short for {algorithm}", remedy=remedy, field="key")
    return prepared


def _names_of(key: Any, algorithm: str) -> tuple[str, ...]:
    """Return the algorithm names of tokens signed with `key`. Raises ValueError for a key of another curve."""
    if algorithm != _EDDSA and algorithm not in _CURVES:
        return (algorithm,)
    curve: str = _METHODS[_EDDSA].to_jwk(key, as_dict=True)["crv"]
    if algorithm not in (_EDDSA, curve):
        raise ValueError(f"its curve is {curve}")
    return (_EDDSA, curve)


def _public_key(jwk: object, algorithm: str) -> Any:
    """Return the key of one member of a set, or None if it is not a public key for this algorithm."""
    if not isinstance(jwk, Mapping) or jwk.get("use", "sig") != "sig":
        return None
    # Refuse shared secrets, and private keys that were published by mistake.
    if jwk.get("kty") == "oct" or "d" in jwk or not isinstance(jwk.get("kid"), str | None):
        return None
    try:
        pyjwk = jwt.PyJWK(dict(jwk), _EDDSA if algorithm in _CURVES else algorithm)
        key = pyjwk.Algorithm.prepare_key(pyjwk.key)
        if jwk.get("alg", algorithm) not in _names_of(key, algorithm):
            return None
    except _BROKEN:
        return None
    return None if pyjwk.Algorithm.check_key_length(key) else key
