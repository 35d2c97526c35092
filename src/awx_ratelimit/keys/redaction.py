"""Logs and error reports without keys: a filter for `logging`, and a function for Sentry's `before_send`.

A key is in a log because somebody did not think of it: in a message, an argument, an exception's text, a field of
their own. So everything that will be written is looked through, whatever it is called.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from awx_ratelimit.keys.scanner import FINDER, KeyFinder

_DEEPEST = 20
_MOST_VALUES = 20_000
_LEFT_OUT: Final = "[left out: too deep or too much to be searched for keys]"
#: What has no text of its own making.
_PLAIN: Final = frozenset((type(None), bool, int, float, complex, type))
_FORMATTER: Final = logging.Formatter()


class KeyRedactingFilter(logging.Filter):
    """Shows every key in a record in its masked form. Add it to handlers: filters of loggers miss their children.

    It looks through the message, the arguments, the exception's text, the stack and the fields of `extra`, nested ones
    too, changes the record itself, and lets every record pass. Where an exception's text has a key, `exc_info` is
    replaced by the text without it. `finder` says which keys; without one, those that begin with ``awx_``.
    """

    def __init__(self, finder: KeyFinder = FINDER) -> None:
        super().__init__()
        self._finder = finder

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record, and let it pass. It never raises."""
        try:
            self._redact_message(record)
            self._redact_exception(record)
            for field, value in list(record.__dict__.items()):
                if field not in {"msg", "args", "exc_info"}:
                    record.__dict__[field] = redacted(value, self._finder)
        except Exception as error:
            # Something in it does not let itself be read. What cannot be searched is not written.
            bare = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            text = f"[a record that could not be searched for keys: {type(error).__name__}]"
            record.__dict__.update(logging.makeLogRecord({**bare, "msg": text}).__dict__)
        return True

    def _redact_message(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            # It cannot be written, and `logging` would show its parts in its own complaint.
            record.msg, record.args = self._finder.redact(f"{record.msg!s} {record.args!r}"), None
            return
        shown = self._finder.redact(message)
        # Formatters may take the arguments apart, as uvicorn's does: they stay, where that is enough.
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
    """A Sentry event without keys: ``sentry_sdk.init(before_send=redact_event)``, `before_send_transaction` as well.

    Every text in it is looked through, names of fields too; the event that was given is left as it is.
    """
    clean: dict[str, Any] = redacted(event, finder)
    return clean


def redacted(value: Any, finder: KeyFinder = FINDER) -> Any:
    """`value` without keys: texts, bytes, and what mappings, lists, tuples and sets hold.

    Any other object is its `repr` without keys, where that or its `str` has one. What holds no key is left as it is.
    What is more than 20 levels deep, beyond the first 20,000 values, or has no text, is left out rather than let
    through.
    """
    return _Redaction(finder).of(value, _DEEPEST)


class _Redaction:
    """One walk through a value, which counts its steps."""

    def __init__(self, finder: KeyFinder) -> None:
        self._redact = finder.redact
        self._left = _MOST_VALUES

    def of(self, value: Any, depth: int) -> Any:
        """`value` without keys; the very same where it has none."""
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
        """An object, where neither of the texts by which it may be written has a key."""
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
