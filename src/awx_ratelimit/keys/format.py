"""`KeyFormat`: how an API key looks, how one is made, and under which digest it is known.

A key is its prefix, 32 characters of base62 from `secrets` (190 bits), and 6 characters of base62 that are the CRC-32
of all before them. So a text that is no key is told from one without a look-up, and a scanner of texts finds keys
without false alarms. A key is stored as its SHA-256: a slow hash defends guessable passwords, and these are not.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final
from zlib import crc32

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.secret import Secret

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX: Final = "awx_"
RANDOM_CHARACTERS: Final = 32
CHECK_CHARACTERS: Final = 6
#: What is longer is no key, whatever its prefix; nobody has to digest it to know.
MAX_KEY_BYTES: Final = 128
_ID_CHARACTERS = 16
_LEAST_PEPPER_BYTES = 16
_BLOCK_BYTES = 64
_is_prefix = re.compile(r"(?=.{2,32}\Z)[a-z][a-z0-9]*_(?:[a-z0-9]+_)*").fullmatch
is_key_id: Final = re.compile(rf"key_[0-9A-Za-z]{{{_ID_CHARACTERS}}}").fullmatch


def _sha256_of_python() -> Any:
    """Python's own, where it was built with it: for a text as short as a key a call of OpenSSL costs twice as much."""
    for module in ("_sha2", "_sha256"):
        try:
            return import_module(module).sha256
        except ImportError:
            continue
    return hashlib.sha256


sha256: Final = _sha256_of_python()


def checksum(body: bytes) -> bytes:
    """The 6 characters that follow `body` in a key."""
    number = crc32(body)
    characters = []
    for _ in range(CHECK_CHARACTERS):
        number, digit = divmod(number, len(BASE62))
        characters.append(BASE62[digit])
    return "".join(reversed(characters)).encode()


def new_key_id() -> str:
    """``key_`` and 16 random characters: an id tells nothing of how many there are, nor when it was made."""
    return f"key_{_random(_ID_CHARACTERS)}"


class KeyFormat:
    """Keys of one prefix, and the digests under which they are stored.

    `prefix` is 2 to 32 of ``[a-z0-9_]``, begins with a letter and ends with an underscore, such as ``awx_test_``. With
    a `pepper` of at least 16 bytes a digest is the HMAC-SHA-256 under it, so that a copy of the store alone does not
    even tell whether a text is one of its keys; the keys made with one pepper are known with no other. Raises
    InvalidKeyRequest.
    """

    def __init__(self, prefix: str = PREFIX, *, pepper: bytes | None = None) -> None:
        if not isinstance(prefix, str) or not _is_prefix(prefix):
            allowed = "allowed are 2 to 32 of [a-z0-9_] that begin with a letter and end with '_', such as 'awx_test_'"
            raise InvalidKeyRequest("the prefix cannot be one", remedy=allowed, field="prefix")
        if pepper is not None and not (isinstance(pepper, bytes) and len(pepper) >= _LEAST_PEPPER_BYTES):
            remedy = f"allowed are at least {_LEAST_PEPPER_BYTES} bytes, such as secrets.token_bytes(32)"
            raise InvalidKeyRequest("the pepper is too weak", remedy=remedy, field="pepper")
        self.prefix = prefix
        self._matches = re.compile(
            rb"%s[0-9A-Za-z]{%d}" % (prefix.encode(), RANDOM_CHARACTERS + CHECK_CHARACTERS)
        ).fullmatch
        #: The 32 bytes under which a key is stored and looked up. It digests whatever it is given.
        self.digest: Callable[[bytes], bytes] = _sha256 if pepper is None else _hmac_sha256(pepper)

    def __repr__(self) -> str:
        return f"KeyFormat({self.prefix!r})"

    def new(self) -> Secret:
        """A key that nobody has."""
        body = self.prefix + _random(RANDOM_CHARACTERS)
        return Secret(body + checksum(body.encode()).decode(), prefix=self.prefix)

    def is_key(self, sent: bytes | str) -> bool:
        """Whether `sent` is a key of this prefix, to the letter, with the check that follows from the rest."""
        if isinstance(sent, str):
            if not sent.isascii():
                return False
            sent = sent.encode()
        return self._matches(sent) is not None and checksum(sent[:-CHECK_CHARACTERS]) == sent[-CHECK_CHARACTERS:]


def _random(characters: int) -> str:
    return "".join(secrets.choice(BASE62) for _ in range(characters))


def _sha256(key: bytes) -> bytes:
    return sha256(key).digest()  # type: ignore[no-any-return]


def _hmac_sha256(pepper: bytes) -> Callable[[bytes], bytes]:
    """HMAC (RFC 2104) whose two first blocks are digested once: a third of the time of `hmac.digest`."""
    block = (sha256(pepper).digest() if len(pepper) > _BLOCK_BYTES else pepper).ljust(_BLOCK_BYTES, b"\0")
    begun = sha256(bytes(byte ^ 0x36 for byte in block))
    around = sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(key: bytes) -> bytes:
        inner, outer = begun.copy(), around.copy()
        inner.update(key)
        outer.update(inner.digest())
        return outer.digest()  # type: ignore[no-any-return]

    return digest
