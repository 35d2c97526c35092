"""`KeyFormat`: the format of API keys, their generation and their digests. `Secret`: the text of one key.

A key is its prefix, 32 base62 characters from `secrets` (190 bits), and the CRC-32 of all that as 6 base62 characters.
With the checksum, wrong keys are refused without a look-up, and a scanner finds keys without false alarms. The store
keeps the SHA-256 of a key. A slow hash such as bcrypt protects guessable passwords; these keys cannot be guessed.

Whatever shows values implicitly (a log line, an error, a debugger, a pickle) shows a Secret's masked form, or fails.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from hmac import compare_digest
from importlib import import_module
from typing import Any, Final, NoReturn, final
from zlib import crc32

from awx_ratelimit.errors import InvalidKeyRequest

_LAST = 4


def masked(prefix: str, last4: str) -> str:
    """Return the masked form of a key: ``awx_...x4f2``."""
    return f"{prefix}...{last4}"


@final
class Secret:
    """The text of one key. `str`, `repr` and `format` return its masked form. It cannot be pickled."""

    __slots__ = ("_masked", "_text")

    def __init__(self, text: str, *, prefix: str) -> None:
        self._text = text
        self._masked = masked(prefix, self.last4)

    @property
    def last4(self) -> str:
        """The last four characters. They belong to the checksum, so they do not help to guess the rest."""
        return self._text[-_LAST:]

    def reveal(self) -> str:
        """Return the whole key. Pass it to its owner and store it nowhere."""
        return self._text

    def __str__(self) -> str:
        return self._masked

    def __repr__(self) -> str:
        return f"Secret({self._masked!r})"

    def __format__(self, spec: str) -> str:
        return format(self._masked, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]  # a dict would keep secrets alive

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: only the code that created the key may have it")


BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX: Final = "awx_"
RANDOM_CHARACTERS: Final = 32
CHECK_CHARACTERS: Final = 6
#: Longer texts are not keys, whatever the prefix, and are refused before they are hashed.
MAX_KEY_BYTES: Final = 128
_ID_CHARACTERS = 16
_MIN_PEPPER_BYTES = 16
_BLOCK_BYTES = 64
_is_prefix = re.compile(r"(?=.{2,32}\Z)[a-z][a-z0-9]*_(?:[a-z0-9]+_)*").fullmatch
KEY_ID_PREFIX: Final = "key_"
is_key_id: Final = re.compile(rf"{KEY_ID_PREFIX}[0-9A-Za-z]{{{_ID_CHARACTERS}}}").fullmatch


def _fastest_sha256() -> Any:
    """Return Python's own SHA-256 if it is built in. For texts as short as a key, OpenSSL takes twice as long."""
    for module in ("_sha2", "_sha256"):
        try:
            return import_module(module).sha256
        except ImportError:
            continue
    return hashlib.sha256


sha256: Final = _fastest_sha256()


def checksum(body: bytes) -> bytes:
    """Return the 6 characters that follow `body` in a key."""
    return base62(crc32(body), CHECK_CHARACTERS).encode()


def base62(number: int, length: int) -> str:
    """Return the last `length` digits of `number` in base 62."""
    characters = []
    for _ in range(length):
        number, digit = divmod(number, len(BASE62))
        characters.append(BASE62[digit])
    return "".join(reversed(characters))


def new_key_id() -> str:
    """Return ``key_`` and 16 random characters. An id reveals neither the number of keys nor the time."""
    return f"{KEY_ID_PREFIX}{_random(_ID_CHARACTERS)}"


class KeyFormat:
    """Keys of one prefix, and the digests under which they are stored.

    `prefix` has 2 to 32 characters of ``[a-z0-9_]``, begins with a letter and ends with an underscore, such as
    ``awx_test_``. With a `pepper` of at least 16 bytes, digests are HMAC-SHA-256 with the pepper as the key. A copy of
    the store alone then does not even reveal whether a given text is one of its keys. Keys created with one pepper
    are unknown under any other. Raises InvalidKeyRequest.
    """

    def __init__(self, prefix: str = PREFIX, *, pepper: bytes | None = None) -> None:
        if not isinstance(prefix, str) or not _is_prefix(prefix):
            expected = "expected 2 to 32 of [a-z0-9_], beginning with a letter and ending with '_', such as 'awx_test_'"
            raise InvalidKeyRequest("not a valid prefix", remedy=expected, field="prefix")
        if pepper is not None and not (isinstance(pepper, bytes) and len(pepper) >= _MIN_PEPPER_BYTES):
            remedy = f"expected at least {_MIN_PEPPER_BYTES} bytes, such as secrets.token_bytes(32)"
            raise InvalidKeyRequest("too short or not bytes", remedy=remedy, field="pepper")
        self.prefix = prefix
        self._matches = re.compile(
            rb"%s[0-9A-Za-z]{%d}" % (prefix.encode(), RANDOM_CHARACTERS + CHECK_CHARACTERS)
        ).fullmatch
        #: Returns the 32-byte digest of a key, under which it is stored. Accepts any bytes.
        self.digest: Callable[[bytes], bytes] = _sha256 if pepper is None else _hmac_sha256(pepper)

    def __repr__(self) -> str:
        return f"KeyFormat({self.prefix!r})"

    def new(self) -> Secret:
        """Generate a key."""
        body = self.prefix + _random(RANDOM_CHARACTERS)
        return Secret(body + checksum(body.encode()).decode(), prefix=self.prefix)

    def is_key(self, sent: bytes | str) -> bool:
        """Return whether `sent` has exactly this format, with the right prefix and checksum."""
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
    """Return an HMAC (RFC 2104) that hashes the two padded keys only once. It takes a third of `hmac.digest`'s time."""
    block = (sha256(pepper).digest() if len(pepper) > _BLOCK_BYTES else pepper).ljust(_BLOCK_BYTES, b"\0")
    inner_pad = sha256(bytes(byte ^ 0x36 for byte in block))
    outer_pad = sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(key: bytes) -> bytes:
        inner, outer = inner_pad.copy(), outer_pad.copy()
        inner.update(key)
        outer.update(inner.digest())
        return outer.digest()  # type: ignore[no-any-return]

    return digest
