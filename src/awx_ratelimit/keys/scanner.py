"""`KeyFinder`: finds and redacts keys in a text such as a log line, a source file or a name.

It finds a key anywhere, by prefix, characters and checksum. The underscores of the prefix may be encoded as in URLs and
JSON, and the key may be part of Basic credentials. `redact` also hides what only looks like a key: one that is cut
short, mistyped or in capitals.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from awx_ratelimit.keys.format import CHECK_CHARACTERS, PREFIX, RANDOM_CHARACTERS, KeyFormat, Secret, checksum, masked

#: Encoded in a URL (also repeatedly), in JSON or Python source, and in HTML.
_UNDERSCORE = r"(?:_|%(?:25)*5[Ff]|\\\\*(?:x|u00)5[Ff]|&#(?:95|[Xx]5[Ff]);)"
_underscores = re.compile(_UNDERSCORE)
#: Two more words in the prefix (``awx_test_``), so a finder needs only the common beginning.
_WORDS = rf"(?:[a-z0-9]{{1,16}}{_UNDERSCORE}){{0,2}}"
_KEY = rf"(?P<body>[0-9A-Za-z]{{{RANDOM_CHARACTERS}}})(?P<check>[0-9A-Za-z]{{{CHECK_CHARACTERS}}})"
#: `redact` hides a text with so many key characters even if the checksum is wrong: it may be a truncated key.
_MIN_SUSPICIOUS_CHARACTERS = 20
#: RFC 7617. Clients may use the URL-safe alphabet and omit the padding.
_basic = re.compile(r"basic(?:[ \t+]|%20)+(?P<credentials>[0-9A-Za-z+/_-]{16,}(?:=|%3d){0,2})", re.IGNORECASE)


class FoundKey(NamedTuple):
    """A key in a text, with its position."""

    start: int
    end: int
    secret: Secret


class KeyFinder:
    """Finds keys with one of `prefixes`, or with a longer prefix: ``awx_`` also finds ``awx_test_``.

    Raises InvalidKeyRequest for an invalid prefix.
    """

    def __init__(self, prefixes: Iterable[str] = (PREFIX,)) -> None:
        self._prefixes = tuple(KeyFormat(prefix).prefix for prefix in prefixes)
        #: Every text with a key contains one of these, in lower case. Most texts contain none, and need no more work.
        self._hints = ("basic", *{name.partition("_")[0] for name in self._prefixes})
        names = "|".join(name.replace("_", _UNDERSCORE) for name in sorted(self._prefixes, key=len, reverse=True))
        # A look-ahead, because a key may begin inside a match that fails the checksum.
        self._keys = re.compile(rf"(?=(?P<prefix>(?:{names}){_WORDS}){_KEY})")
        self._suspicious = re.compile(
            rf"(?P<prefix>(?:{names}){_WORDS})[0-9A-Za-z]{{{_MIN_SUSPICIOUS_CHARACTERS},}}", re.IGNORECASE
        )

    def find(self, text: str) -> Iterator[FoundKey]:
        """Yield every key in `text`, from left to right. One in Basic credentials has their position."""
        if self._has_hint(text):
            found = [*self._plain(text), *self._in_credentials(text)]
            yield from sorted(found, key=lambda key: key.start)

    def may_contain_key(self, text: str) -> bool:
        """Return whether `redact` would change `text`: it contains a key or a part of one."""
        return self.redact(text) != text

    def redact(self, text: str) -> str:
        """Return `text` with every key masked, and everything that looks like a key hidden."""
        if not self._has_hint(text):
            return text
        text = _basic.sub(self._redact_credentials, text)
        pieces: list[str] = []
        done = 0
        for start, end, secret in self._plain(text):
            # Keys may overlap: never show a part of a key that is already hidden.
            if start >= done:
                pieces += (self._suspicious.sub(_hidden, text[done:start]), str(secret))
            done = max(done, end)
        return "".join((*pieces, self._suspicious.sub(_hidden, text[done:])))

    def _has_hint(self, text: str) -> bool:
        lower = text.lower()
        return any(hint in lower for hint in self._hints)

    def _plain(self, text: str) -> Iterator[FoundKey]:
        for match in self._keys.finditer(text):
            prefix, body, check = _underscores.sub("_", match["prefix"]), match["body"], match["check"]
            if checksum(f"{prefix}{body}".encode()).decode() == check:
                yield FoundKey(match.start(), match.end("check"), Secret(prefix + body + check, prefix=prefix))

    def _in_credentials(self, text: str) -> Iterator[FoundKey]:
        for match in _basic.finditer(text):
            for key in self._plain(_decoded(match["credentials"])):
                yield FoundKey(*match.span("credentials"), key.secret)

    def _redact_credentials(self, match: "re.Match[str]") -> str:
        """Replace the credentials by the redacted user name and password, if one of them contains a key."""
        decoded = _decoded(match["credentials"])
        shown = self.redact(decoded)
        scheme = match[0][: match.start("credentials") - match.start()]
        return match[0] if shown == decoded else f"{scheme}[{shown}]"


def _hidden(match: "re.Match[str]") -> str:
    return masked(_underscores.sub("_", match["prefix"]), "")


def _decoded(credentials: str) -> str:
    """Return the decoded Basic credentials, without an incomplete byte at the end."""
    letters = credentials.partition("=")[0].partition("%")[0].replace("-", "+").replace("_", "/")
    return b64decode(letters[: len(letters) // 4 * 4] + _end(letters)).decode("latin-1")


def _end(letters: str) -> str:
    left = len(letters) % 4
    return letters[-left:].ljust(4, "=") if left > 1 else ""


#: Finds keys with the default prefix, or a longer one.
FINDER: Final = KeyFinder()
