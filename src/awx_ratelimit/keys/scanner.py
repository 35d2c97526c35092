"""Finds keys in a text, and keeps them out of logs and error reports: for `logging`, and for Sentry.

It finds a key anywhere, by prefix, characters and checksum. The underscores of the prefix may be encoded as in URLs,
JSON, HTML and mail, and the key may be in Base64, also as a part of it. `redact` also hides what only looks like a key:
one that is cut short, mistyped or in capitals.

Keys get into logs where nobody expects them: in a message, an argument, an exception or an extra field. So the filter
searches everything that will be written.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from awx_ratelimit.keys.base64_keys import Base64Finder, decoded
from awx_ratelimit.keys.format import CHECK_CHARACTERS, PREFIX, RANDOM_CHARACTERS, KeyFormat, Secret, checksum, masked

#: Encoded in a URL (also repeatedly), in the source of a program, in HTML, and in mail.
_UNDERSCORE = (
    r"(?:_|%(?:25)*5[Ff]|\\\\*(?:(?:x|u00|U0{6})5[Ff]|u\{0{0,6}5[Ff]\}|137)"
    r"|&(?:#0{0,9}95|#[Xx]0{0,9}5[Ff]|lowbar|UnderBar);|=5[Ff])"
)
_underscores = re.compile(_UNDERSCORE)
#: Two more words in the prefix (``awx_test_``), so a finder needs only the common beginning.
_WORDS = rf"(?:[a-z0-9]{{1,16}}{_UNDERSCORE}){{0,2}}"
_KEY = rf"(?P<body>[0-9A-Za-z]{{{RANDOM_CHARACTERS}}})(?P<check>[0-9A-Za-z]{{{CHECK_CHARACTERS}}})"
#: `redact` hides a text with so many key characters even if the checksum is wrong: it may be a truncated key.
_MIN_SUSPICIOUS_CHARACTERS = 20
#: RFC 7617. Clients may use the URL-safe alphabet and omit the padding.
_basic = re.compile(r"basic(?:[ \t+]|%20)+(?P<credentials>[0-9A-Za-z+/_-]{16,}(?:=|%3d){0,2})", re.IGNORECASE)


class FoundKey(NamedTuple):
    """A key found in a string, with its position."""

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
        self._base64 = Base64Finder(self._prefixes)
        beginnings = {*(name.partition("_")[0] for name in self._prefixes), *self._base64.hints}
        self._hints = ("basic", *{beginning.lower() for beginning in beginnings})
        names = "|".join(name.replace("_", _UNDERSCORE) for name in sorted(self._prefixes, key=len, reverse=True))
        # A look-ahead, because a key may begin inside a match that fails the checksum.
        self._keys = re.compile(rf"(?=(?P<prefix>(?:{names}){_WORDS}){_KEY})")
        self._suspicious = re.compile(
            rf"(?P<prefix>(?:{names}){_WORDS})[0-9A-Za-z]{{{_MIN_SUSPICIOUS_CHARACTERS},}}", re.IGNORECASE
        )

    def find(self, text: str) -> Iterator[FoundKey]:
        """Yield every key in `text`, from left to right. One in Base64 has the position of its characters there."""
        if self._has_hint(text):
            found = [*self._plain(text), *self._in_base64(text)]
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
        for start, end, secret in self.find(text):
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

    def _in_base64(self, text: str) -> Iterator[FoundKey]:
        for maybe in self._base64.find(text):
            key = next(self._plain(maybe.text), None)
            if key is not None and key.start == 0:
                yield FoundKey(maybe.start, maybe.end_of(key.secret.reveal()), key.secret)

    def _redact_credentials(self, match: "re.Match[str]") -> str:
        """Replace the credentials by the redacted user name and password, if one of them contains a key."""
        decoded = _decoded(match["credentials"])
        shown = self.redact(decoded)
        scheme = match[0][: match.start("credentials") - match.start()]
        return match[0] if shown == decoded else f"{scheme}[{shown}]"


def _hidden(match: "re.Match[str]") -> str:
    return masked(_underscores.sub("_", match["prefix"]), "")


def _decoded(credentials: str) -> str:
    return decoded(credentials.partition("=")[0].partition("%")[0])


#: Finds keys with the default prefix, or a longer one.
FINDER: Final = KeyFinder()


_MAX_DEPTH = 20
_MAX_VALUES = 20_000
_LEFT_OUT: Final = "[left out: too deep or too much to be searched for keys]"
#: Values whose text cannot contain a key.
_PLAIN: Final = frozenset((type(None), bool, int, float, complex, type))
_FORMATTER: Final = logging.Formatter()


class KeyRedactingFilter(logging.Filter):
    """Masks every key in a log record. Add it to handlers, because filters of loggers do not see records of children.

    It searches the message, the arguments, the exception, the stack and the fields of `extra`, including nested values.
    It changes the record in place and lets every record pass. If the text of an exception contains a key, the redacted
    text replaces `exc_info`. `finder` decides what a key is; the default finds keys that begin with ``awx_``.
    """

    def __init__(self, finder: KeyFinder = FINDER) -> None:
        super().__init__()
        self._finder = finder

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record and return True. Never raises."""
        try:
            self._redact_message(record)
            self._redact_exception(record)
            for field, value in list(record.__dict__.items()):
                if field not in {"msg", "args", "exc_info"}:
                    record.__dict__[field] = redacted(value, self._finder)
        except Exception as error:
            # A value in the record cannot be converted to text. Write nothing that was not searched.
            bare = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            text = f"[a record that could not be searched for keys: {type(error).__name__}]"
            record.__dict__.update(logging.makeLogRecord({**bare, "msg": text}).__dict__)
        return True

    def _redact_message(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            # The arguments do not fit the message. `logging` would print both, unredacted, in its own error.
            record.msg, record.args = self._finder.redact(f"{record.msg!s} {record.args!r}"), None
            return
        shown = self._finder.redact(message)
        # Keep redacted arguments if that is enough, because formatters such as uvicorn's unpack them.
        record.args = redacted(record.args, self._finder)
        if shown != message and self._finder.may_contain_key(record.getMessage()):
            record.msg, record.args = shown, None

    def _redact_exception(self, record: logging.LogRecord) -> None:
        if not record.exc_info:
            return
        text = _FORMATTER.formatException(record.exc_info)
        shown = self._finder.redact(text)
        if shown != text:
            record.exc_info, record.exc_text = None, shown


def redact_event(event: dict[str, Any], _hint: object = None, *, finder: KeyFinder = FINDER) -> dict[str, Any]:
    """Return a Sentry event without keys: ``sentry_sdk.init(before_send=redact_event)``. Works for transactions, too.

    It searches every string, including names of fields. It does not change the given event.
    """
    clean: dict[str, Any] = redacted(event, finder)
    return clean


def redacted(value: Any, finder: KeyFinder = FINDER) -> Any:
    """Return `value` without keys. It searches strings, bytes and the items of mappings, lists, tuples and sets.

    If the `str` or `repr` of another object contains a key, the redacted `repr` replaces it. Values without a key are
    returned unchanged. Values deeper than 20 levels, after the first 20,000, or without a text are omitted.
    """
    return _Redaction(finder).of(value, _MAX_DEPTH)


class _Redaction:
    """One traversal of a value, with a limited number of steps."""

    def __init__(self, finder: KeyFinder) -> None:
        self._redact = finder.redact
        self._left = _MAX_VALUES

    def of(self, value: Any, depth: int) -> Any:
        """Return `value` without keys, or the same object if it contains none."""
        self._left -= 1
        if isinstance(value, str):
            return self._text(value, value)
        if isinstance(value, bytes | bytearray):
            shown = self._text(value, value.decode("latin-1"))
            return shown.encode("latin-1") if isinstance(shown, str) else shown
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value, depth - 1) if depth and self._left > 0 else _LEFT_OUT
        return value if type(value) in _PLAIN else self._other(value)

    def _other(self, value: Any) -> Any:
        """Redact an object whose `str` or `repr` may contain a key."""
        kind: Any = type(value)
        if kind.__repr__ is object.__repr__ and kind.__str__ is object.__str__:
            return value
        try:
            plain, exact = str(value), repr(value)
        except Exception:
            return _LEFT_OUT
        return value if self._redact(plain) == plain and self._redact(exact) == exact else self._redact(exact)

    def _text(self, value: Any, text: str) -> Any:
        shown = self._redact(text)
        return value if shown == text else shown

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            pairs = list(value.items())
            clean = [(self.of(key, depth), self.of(item, depth)) for key, item in pairs]
            same = all(key is old and item is was for (key, item), (old, was) in zip(clean, pairs, strict=True))
            return value if same else dict(clean)
        old_items = list(value)
        items = [self.of(item, depth) for item in old_items]
        if all(item is old for item, old in zip(items, old_items, strict=True)):
            return value
        kind = next(kind for kind in (list, tuple, frozenset, set) if isinstance(value, kind))
        return kind(items)
