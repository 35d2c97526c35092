"""Keeps keys out of logs and error reports: a filter for `logging`, and a hook for Sentry's `before_send`.

Keys get into logs where nobody expects them: in a message, an argument, an exception or an extra field. So the filter
searches everything that will be written.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from awx_ratelimit.keys.scanner import FINDER, KeyFinder

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

    It searches every text, including names of fields. It does not change the given event.
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
