"""Filters that remove keys from log records and Sentry events."""

import io
import logging
import time
from collections import namedtuple
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from awx_ratelimit.keys import KeyFinder, KeyFormat, KeyRedactingFilter, redact_event
from awx_ratelimit.keys.scanner import redacted

KEY = "awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I"
SHOWN = "awx_...fk2I"
Point = namedtuple("Point", "x y")  # noqa: PYI024  # as a library of old makes it


class PrintsKey:
    """An object whose text contains a key."""

    def __repr__(self) -> str:
        return f"<PrintsKey {KEY}>"


class Unprintable:
    """An object that cannot be printed, and whose error contains a key."""

    def __repr__(self) -> str:
        raise ValueError(KEY)


class LaterHandler(logging.Handler):
    """A handler after the one with the filter, which keeps its records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


Log = tuple[logging.Logger, io.StringIO, list[logging.LogRecord]]


@pytest.fixture
def log() -> Iterator[Log]:
    """A logger, the text that its handler writes, and the records that later handlers see."""
    logger, output, later = logging.getLogger("test_redaction"), io.StringIO(), LaterHandler()
    handler = logging.StreamHandler(output)
    handler.addFilter(KeyRedactingFilter())
    handler.setFormatter(logging.Formatter("%(message)s %(context)s", defaults={"context": "-"}))
    logger.addHandler(handler)
    logger.addHandler(later)
    yield logger, output, later.records
    logger.removeHandler(handler)
    logger.removeHandler(later)


@pytest.mark.parametrize(
    ("message", "args", "shown"),
    [
        (f"got {KEY}", (), f"got {SHOWN}"),
        ("got %s", (KEY,), f"got {SHOWN}"),
        ("got %(key)s", ({"key": KEY},), f"got {SHOWN}"),
        ("got %r", ({"headers": [(b"x-api-key", KEY.encode())]},), f"got {{'headers': [(b'x-api-key', b'{SHOWN}')]}}"),
        ("got %s and %d", (PrintsKey(), 7), f"got <PrintsKey {SHOWN}> and 7"),
        ("half %s%s", (KEY[:20], KEY[20:]), f"half {SHOWN}"),
        ("%s", (KEY[:-1],), "awx_..."),
        (PrintsKey(), (), f"<PrintsKey {SHOWN}>"),
        ("nothing %s %d %r", ("x", 1, Point(1, 2)), "nothing x 1 Point(x=1, y=2)"),
    ],
)
def test_message(log: Log, message: str, args: tuple[Any, ...], shown: str) -> None:
    """A key in a message or its arguments is masked."""
    logger, output, records = log
    logger.warning(message, *args)

    assert output.getvalue() == f"{shown} -\n"
    assert KEY not in repr(records[0].__dict__)


def test_unused_argument(log: Log) -> None:
    """A key in an argument that the message does not use is masked too."""
    logger, output, records = log
    logger.warning("got %(id)s", {"id": 1, "key": KEY})

    assert output.getvalue() == "got 1 -\n"
    assert records[0].args == {"id": 1, "key": SHOWN}


def test_extra_fields(log: Log) -> None:
    """A key in an extra field is masked at any depth; the original value is not changed."""
    logger, output, records = log
    context = {"request": {KEY: [(KEY,), {KEY}, MappingProxyType({"k": KEY.encode()}), ValueError(KEY)]}}
    logger.warning("x", extra={"context": context})

    assert KEY not in output.getvalue() + repr(records[0].__dict__)
    assert output.getvalue().count(SHOWN) == 5
    assert context["request"][KEY][0] == (KEY,)


def test_objects(log: Log) -> None:
    """An object whose text contains a key becomes the masked text; unprintable ones are removed, others stay."""
    logger, output, records = log
    path = Path("x")
    logger.warning("x", extra={"context": [PrintsKey(), {"deep": (PrintsKey(), Unprintable(), path)}]})

    context = records[0].__dict__["context"]
    assert KEY not in output.getvalue()
    assert output.getvalue().count(SHOWN) == 2
    assert context[1]["deep"][1][:9] == "[left out"
    assert context[1]["deep"][2] is path


def test_exception_with_a_key(log: Log) -> None:
    """A key in an exception, its cause, its notes or the stack is masked, also for later handlers."""
    logger, output, records = log
    cause = ValueError(KEY)
    cause.add_note(f"note {KEY}")
    try:
        raise KeyError(KEY) from cause  # noqa: TRY301  # where it is raised does not matter
    except KeyError:
        logger.exception("failed", stack_info=True)

    assert KEY not in output.getvalue()
    assert output.getvalue().count(SHOWN) == 3
    assert "Traceback" in output.getvalue()
    assert records[0].exc_info is None
    assert KEY not in repr(records[0].__dict__)


def test_exception_without_a_key(log: Log) -> None:
    """An exception without a key reaches other handlers unchanged."""
    logger, _, records = log
    error = ValueError("plain")
    try:
        raise error
    except ValueError:
        logger.exception("failed")

    assert records[0].exc_info is not None
    assert records[0].exc_info[1] is error


@pytest.mark.parametrize(
    ("message", "args"), [("%d", (KEY,)), ("%s %s", (KEY,)), ("%s", (Unprintable(),)), ("x", (Unprintable(), KEY))]
)
def test_unprintable_message(log: Log, capsys: pytest.CaptureFixture[str], message: str, args: tuple[Any, ...]) -> None:
    """A message that does not fit its arguments, or an object that cannot be printed, shows no key."""
    logger, output, records = log
    logger.warning(message, *args)

    assert KEY not in output.getvalue() + capsys.readouterr().err + repr(records[0].__dict__)
    assert output.getvalue() != ""


def test_event() -> None:
    """Keys are masked everywhere in a Sentry event, and the given event is not changed."""
    frame = {"vars": {"key": repr(KEY), "headers": {"X-API-Key": KEY}}, "context_line": f"use({KEY!r})"}
    event = {
        "message": KEY,
        "logentry": {"params": [KEY, 1, None, True, 0.5]},
        "exception": {"values": [{"value": f"bad {KEY}", "stacktrace": {"frames": [frame]}}]},
        "request": {"url": f"https://host/?k={KEY}", "data": KEY.encode(), "headers": {KEY: "x"}},
        "breadcrumbs": {"values": [{"message": KEY[:-2]}]},
    }
    clean = redact_event(event, {"exc_info": None})

    assert KEY not in repr(clean)
    assert repr(clean).count(SHOWN) == 9
    assert clean["logentry"]["params"] == [SHOWN, 1, None, True, 0.5]
    assert event["message"] == KEY
    assert clean["breadcrumbs"] == {"values": [{"message": "awx_..."}]}


def test_value_without_a_key() -> None:
    """A value without a key is not copied."""
    value: Mapping[str, Any] = {"a": [1, (2, Point(3, "x")), {"b"}, b"c", object()]}

    assert redacted(value) is value


def test_deep_and_large_values() -> None:
    """Deep, cyclic and very large values neither leak a key nor take forever."""
    deep: list[Any] = [KEY]
    for _ in range(100):
        deep = [deep]
    cycle: list[Any] = [KEY]
    cycle += [cycle, cycle]

    began_s = time.process_time()

    assert [KEY in repr(redacted(value)) for value in (deep, cycle, [[KEY]] * 50_000)] == [False, False, False]
    assert time.process_time() - began_s < 10


def test_other_prefixes() -> None:
    """A filter and `redact_event` also take a finder for another prefix."""
    key = KeyFormat("acme_").new().reveal()
    finder = KeyFinder(["acme_"])
    record = logging.makeLogRecord({"msg": key})
    KeyRedactingFilter(finder).filter(record)

    assert key not in record.getMessage() + repr(redact_event({"message": key}, finder=finder))
