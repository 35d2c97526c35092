"""Keys in Base64, wherever they begin: in a Secret of Kubernetes, an encoded file, or credentials in a log.

Base64 writes three bytes as four characters. So a prefix has three forms, by its place in these three bytes; the
characters that depend on the prefix alone are searched for.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from awx_ratelimit.keys.format import CHECK_CHARACTERS, RANDOM_CHARACTERS

_PLACES: Final = range(3)
#: Also URL-safe.
_CHARACTER: Final = "[0-9A-Za-z+/_-]"
_STANDARD: Final = str.maketrans("-_", "+/")
_LEAST: Final = (RANDOM_CHARACTERS + CHECK_CHARACTERS) * 8 // 6
#: Two more words in the prefix, of at most 17 characters.
_MOST: Final = _LEAST + 2 * 17 * 8 // 6 + 4


class MaybeKey(NamedTuple):
    """A text that begins with a prefix, and where its Base64 begins. `place` is that among its first three bytes."""

    start: int
    place: int
    text: str

    def end_of(self, key: str) -> int:
        """Where the Base64 of `key` ends, with which the text begins."""
        return self.start - (-(self.place + len(key)) * 8 // 6) - _shared(self.place)


class Base64Finder:
    """Finds the Base64 of texts that begin with one of `prefixes` and are as long as a key."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        #: By the place: the characters that each prefix shares with the bytes before it, by those that are its own.
        self._shared = [dict(_own_and_shared(prefix, place) for prefix in prefixes) for place in _PLACES]
        #: Every text with a key in Base64 contains one of these.
        self.hints = frozenset(own for each in self._shared for own in each)
        # A look-ahead, because what begins inside of a match may be the key.
        self._patterns = [
            re.compile(rf"(?=({_any_of(each)})({_CHARACTER}{{{_LEAST},{_MOST}}}))") for each in self._shared
        ]

    def find(self, text: str) -> Iterator[MaybeKey]:
        """Yield what may be a key in `text`."""
        for place, pattern, shared in zip(_PLACES, self._patterns, self._shared, strict=True):
            for match in pattern.finditer(text):
                letters = shared[match[1].translate(_STANDARD)] + match[1] + match[2]
                yield MaybeKey(match.start(), place, decoded(letters)[place:])


def decoded(letters: str) -> str:
    """Return the bytes of Base64 without padding, as Latin-1, without an incomplete byte at the end."""
    letters = letters.translate(_STANDARD)
    left = len(letters) % 4
    whole = letters[: len(letters) - left]
    return b64decode(whole + (letters[-left:].ljust(4, "=") if left > 1 else "")).decode("latin-1")


def _own_and_shared(prefix: str, place: int) -> tuple[str, str]:
    """The characters that depend on `prefix` alone, if it begins at `place`, and those before them."""
    letters = b64encode(bytes(place) + prefix.encode()).decode()
    return letters[_shared(place) : (place + len(prefix)) * 8 // 6], letters[: _shared(place)]


def _shared(place: int) -> int:
    """How many characters depend on the bytes before `place`."""
    return -(-place * 8 // 6)


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(text.replace("+", "[+-]").replace("/", "[/_]") for text in texts)
