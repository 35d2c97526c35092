"""`KeyFinder`: keys inside a text: in a log line, a source file, a name.

A key is found wherever it stands, whatever stands around it: only its prefix, its letters and its check count. The
underscores of the prefix may be encoded, as URLs and JSON do it, and the key may be part of Basic credentials. To
redact is to do more: what merely looks like a key, cut short, mistyped or in capitals, is hidden as well.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from awx_ratelimit.keys.format import CHECK_CHARACTERS, PREFIX, RANDOM_CHARACTERS, KeyFormat, checksum
from awx_ratelimit.keys.secret import Secret, masked

#: In a URL (encoded again and again), in a text of JSON or Python, in HTML.
_UNDERSCORE = r"(?:_|%(?:25)*5[Ff]|\\\\*(?:x|u00)5[Ff]|&#(?:95|[Xx]5[Ff]);)"
_underscores = re.compile(_UNDERSCORE)
#: A prefix may have words more (``awx_test_``), so that nobody has to tell a finder of them.
_WORDS = rf"(?:[a-z0-9]{{1,16}}{_UNDERSCORE}){{0,2}}"
_KEY = rf"(?P<body>[0-9A-Za-z]{{{RANDOM_CHARACTERS}}})(?P<check>[0-9A-Za-z]{{{CHECK_CHARACTERS}}})"
#: From here on a text is hidden though it is no key: what is left of one that was cut short, or is one letter off.
_LOOKS_LIKE = 20
#: RFC 7617; a client may use the alphabet for URLs, and leave the end out.
_basic = re.compile(r"basic(?:[ \t+]|%20)+(?P<credentials>[0-9A-Za-z+/_-]{16,}(?:=|%3d){0,2})", re.IGNORECASE)


class FoundKey(NamedTuple):
    """Where a key stands in a text, and the key."""

    start: int
    end: int
    secret: Secret


class KeyFinder:
    """Finds the keys of `prefixes` and of every prefix that goes on from one of them (``awx_``: ``awx_test_`` too).

    Raises InvalidKeyRequest for a prefix that cannot be one.
    """

    def __init__(self, prefixes: Iterable[str] = (PREFIX,)) -> None:
        self._marks = tuple(KeyFormat(prefix).prefix for prefix in prefixes)
        #: What is in every text that has a key, in small letters: a quick look for nearly all that have none.
        self._hints = ("basic", *{mark.partition("_")[0] for mark in self._marks})
        marks = "|".join(mark.replace("_", _UNDERSCORE) for mark in sorted(self._marks, key=len, reverse=True))
        # A key may begin inside what looked like one: each place is looked at by itself.
        self._keys = re.compile(rf"(?=(?P<prefix>(?:{marks}){_WORDS}){_KEY})")
        self._alike = re.compile(rf"(?P<prefix>(?:{marks}){_WORDS})[0-9A-Za-z]{{{_LOOKS_LIKE},}}", re.IGNORECASE)

    def find(self, text: str) -> Iterator[FoundKey]:
        """Every key in `text`, from left to right; one in Basic credentials stands where these stand."""
        if self._may_have_one(text):
            found = [*self._plain(text), *self._in_credentials(text)]
            yield from sorted(found, key=lambda key: key.start)

    def may_contain_key(self, text: str) -> bool:
        """Whether `text` is one that should not be shown: it has a key, or what is left of one."""
        return self.redact(text) != text

    def redact(self, text: str) -> str:
        """`text` with every key in its masked form, and what looks like one hidden as well."""
        if not self._may_have_one(text):
            return text
        text = _basic.sub(self._without_credentials, text)
        pieces: list[str] = []
        done = 0
        for start, end, secret in self._plain(text):
            # Keys may overlap: what belongs to one that is hidden already is not shown again.
            if start >= done:
                pieces += (self._alike.sub(_hidden, text[done:start]), str(secret))
            done = max(done, end)
        return "".join((*pieces, self._alike.sub(_hidden, text[done:])))

    def _may_have_one(self, text: str) -> bool:
        small = text.lower()
        return any(hint in small for hint in self._hints)

    def _plain(self, text: str) -> Iterator[FoundKey]:
        for match in self._keys.finditer(text):
            prefix, body, check = _underscores.sub("_", match["prefix"]), match["body"], match["check"]
            if checksum(f"{prefix}{body}".encode()).decode() == check:
                yield FoundKey(match.start(), match.end("check"), Secret(prefix + body + check, prefix=prefix))

    def _in_credentials(self, text: str) -> Iterator[FoundKey]:
        for match in _basic.finditer(text):
            for key in self._plain(_decoded(match["credentials"])):
                yield FoundKey(*match.span("credentials"), key.secret)

    def _without_credentials(self, match: "re.Match[str]") -> str:
        """The user name and the password as they may be shown, where a key is or may be one of the two."""
        decoded = _decoded(match["credentials"])
        shown = self.redact(decoded)
        scheme = match[0][: match.start("credentials") - match.start()]
        return match[0] if shown == decoded else f"{scheme}[{shown}]"


def _hidden(match: "re.Match[str]") -> str:
    return masked(_underscores.sub("_", match["prefix"]), "")


def _decoded(credentials: str) -> str:
    """What Basic credentials say; a part of a byte at their end is left out."""
    letters = credentials.partition("=")[0].partition("%")[0].replace("-", "+").replace("_", "/")
    return b64decode(letters[: len(letters) // 4 * 4] + _end(letters)).decode("latin-1")


def _end(letters: str) -> str:
    left = len(letters) % 4
    return letters[-left:].ljust(4, "=") if left > 1 else ""


#: The keys of the usual prefix and of those that go on from it.
FINDER: Final = KeyFinder()
