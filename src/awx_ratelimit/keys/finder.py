"""`KeyFinder`: keys inside a text: in a log line, a source file, a name.

A key is found wherever it stands, whatever stands around it: only its prefix, its letters and its check count. To
redact is to do more: what merely looks like a key, cut short or mistyped, is hidden as well.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from awx_ratelimit.keys.format import CHECK_CHARACTERS, PREFIX, RANDOM_CHARACTERS, KeyFormat, check_of
from awx_ratelimit.keys.secret import Secret, masked

#: A prefix may have words more (``awx_test_``), so that nobody has to tell a finder of them.
_WORDS = r"(?:[a-z0-9]{1,16}_){0,2}"
_KEY = rf"(?P<body>[0-9A-Za-z]{{{RANDOM_CHARACTERS}}})(?P<check>[0-9A-Za-z]{{{CHECK_CHARACTERS}}})"
#: From here on a text is hidden though it is no key: what is left of one that was cut short, or is one letter off.
_LOOKS_LIKE = 20


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
        marks = "|".join(sorted(self._marks, key=len, reverse=True))
        # A key may begin inside what looked like one: each place is looked at by itself.
        self._keys = re.compile(rf"(?=(?P<prefix>(?:{marks}){_WORDS}){_KEY})")
        self._alike = re.compile(rf"(?:{marks}){_WORDS}[0-9A-Za-z]{{{_LOOKS_LIKE},}}")

    def find(self, text: str) -> Iterator[FoundKey]:
        """Every key in `text`, from left to right."""
        for match in self._keys.finditer(text):
            prefix, body, check = match["prefix"], match["body"], match["check"]
            if check_of(f"{prefix}{body}".encode()).decode() == check:
                yield FoundKey(match.start(), match.end("check"), Secret(prefix + body + check, prefix=prefix))

    def suspects(self, text: str) -> bool:
        """Whether `text` is one that should not be shown: it has a key, or what is left of one."""
        return self.redact(text) != text

    def redact(self, text: str) -> str:
        """`text` with every key in its masked form, and what looks like one hidden as well."""
        if not any(mark in text for mark in self._marks):
            return text
        pieces: list[str] = []
        done = 0
        for start, end, secret in self.find(text):
            # Keys may overlap: what belongs to one that is hidden already is not shown again.
            if start >= done:
                pieces += (self._alike.sub(_hidden, text[done:start]), str(secret))
            done = max(done, end)
        return "".join((*pieces, self._alike.sub(_hidden, text[done:])))


def _hidden(match: "re.Match[str]") -> str:
    return masked(match[0][: match[0].rindex("_") + 1], "")


#: The keys of the usual prefix and of those that go on from it.
FINDER: Final = KeyFinder()
