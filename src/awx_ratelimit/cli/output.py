"""The output of commands: tables for people, JSON for programs. Results go to stdout, everything else to stderr.

The output contains names and responses from elsewhere. Terminals act on escape sequences, and CI systems on lines such
as ``::error::`` (GitHub) or ``##vso[...]`` (Azure, TeamCity), so both are escaped.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.keys import ApiKey
from awx_ratelimit.keys.csv_text import csv_of_fields
from awx_ratelimit.keys.scanner import KeyFinder, redacted
from awx_ratelimit.runtime.clock import rfc3339

if TYPE_CHECKING:
    from awx_ratelimit.keys.usage_reports import BusyKey, UsagePeriod

#: Output that is not for a terminal is never cut.
_WIDE = 10_000
#: A shorter key, such as one of a test, is only hidden where it is a whole word.
_MIN_KEY_LENGTH: Final = 8
#: The fields of a key in JSON and in CSV.
KEY_FIELDS: Final = (
    "id", "account_id", "family_id", "name", "prefix", "status", "created_at", "created_by", "expires_at",
    "last_used_at", "rotated_from", "replaced_by",
)  # fmt: skip


class _OneKey(KeyFinder):
    """Finds `key` too, which may be of any form."""

    def __init__(self, key: str) -> None:
        super().__init__()
        # As it is, in a repr, and in a word that is quoted for a shell.
        forms = {key, repr(key)[1:-1], key.replace("'", "'\"'\"'")}
        found = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
        self._key = re.compile(found if len(key) >= _MIN_KEY_LENGTH else rf"(?<!\w)(?:{found})(?!\w)", re.IGNORECASE)

    def redact(self, text: str) -> str:
        return super().redact(self._key.sub("[the key]", text))


_finder: Final[ContextVar[KeyFinder | None]] = ContextVar("finder", default=None)


@contextmanager
def one_run() -> Iterator[None]:
    """The block is one run of a command: a key that it hides is not hidden after it."""
    token = _finder.set(None)
    try:
        yield
    finally:
        _finder.reset(token)


def hide(key: str) -> None:
    """Print neither `key` nor a text that looks like one in this run. Code of an app may use it as a name."""
    _finder.set(_OneKey(key))


def print_json(document: object) -> None:
    """Print one JSON document."""
    # "#" occurs only inside strings, where JSON allows this escape.
    finder = _finder.get()
    document = document if finder is None else redacted(document, finder)
    print(json.dumps(document, indent=2).replace("##", "\\u0023\\u0023"))  # noqa: T201  # a command prints


def print_json_documents(documents: Iterable[object], *, as_array: bool) -> None:
    """Print JSON documents, each in one line, and flush them. With `as_array` the lines are one JSON array."""
    separator = "[" if as_array else ""
    for document in documents:
        text = json.dumps(document, separators=(",", ":")).replace("##", "\\u0023\\u0023")
        print(separator + text, end="" if as_array else "\n")  # noqa: T201  # a command prints
        separator = ",\n" if as_array else ""
    if as_array:
        print("[]" if separator == "[" else "]")  # noqa: T201  # a command prints
    # A failure to write must be seen before anything says that all was written.
    sys.stdout.flush()


def print_line(text: str) -> None:
    """Print one line of the result."""
    print(line(text))  # noqa: T201  # a command prints


def print_csv(text: str) -> None:
    """Print CSV."""
    for row in text.splitlines():
        print_line(row)


def say(text: str) -> None:
    """Print one message to stderr."""
    print(line(text), file=sys.stderr)  # noqa: T201  # a command prints


def say_all(texts: Iterable[str]) -> None:
    """Print messages to stderr."""
    for text in texts:
        say(text)


def line(text: str) -> str:
    """`text` as one line without control sequences, in the encoding of the output."""
    finder = _finder.get()
    text = escape_unprintable(text if finder is None else finder.redact(text)).replace("##", "\\x23\\x23")
    if text.lstrip().startswith("::"):
        text = text.replace("::", "\\x3a\\x3a", 1)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table. Cells are plain text: brackets are not markup."""
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(_table(columns, rows))


def print_list(
    objects: Iterable[Mapping[str, Any]], fields: Sequence[str], columns: Sequence[str],
    rows: Iterable[Sequence[str]], *, json: bool, csv: bool, more: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Print a list as CSV with the `fields` of its JSON objects, as JSON with `more` beside it, or as a table.

    Only one of `objects` and `rows` is read.
    """
    if csv:
        print_csv(csv_of_fields(fields, objects))
    elif json:
        print_json({"data": list(objects), **(more or {})})
    else:
        print_table(columns, rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(line(cell)) for cell in row))
    return table


def is_live() -> bool:
    """Whether stderr is a terminal that supports redrawing."""
    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


def key_fields(key: ApiKey) -> dict[str, Any]:
    """The fields of a key in JSON."""
    return {
        "id": key.id,
        "account_id": key.account_id,
        "family_id": key.family_id,
        "name": key.name,
        "prefix": key.masked,
        "status": key.status,
        "created_at": rfc3339(key.created_at),
        "created_by": key.created_by,
        "expires_at": optional_rfc3339(key.expires_at),
        "last_used_at": optional_rfc3339(key.last_used_at),
        "rotated_from": key.rotated_from,
        "replaced_by": key.replaced_by,
    }


def period_fields(period: "UsagePeriod") -> dict[str, Any]:
    """The fields of a period of the usage history in JSON, as in the REST API."""
    return {
        "begins_at": rfc3339(period.begins_at),
        "allowed": period.allowed,
        "refused": period.refused,
        "costs": dict(period.costs),
        "refusals": dict(period.refusals),
        "peak_concurrent": period.peak_concurrent,
        "last_used_at": optional_rfc3339(period.last_used_at),
    }


def busy_key_fields(key: "BusyKey") -> dict[str, Any]:
    """The fields of a busy key in JSON."""
    return {
        "id": key.key_id,
        "name": key.name,
        "prefix": key.masked,
        "revoked": key.revoked,
        "allowed": key.allowed,
        "refused": key.refused,
        "peak_concurrent": key.peak_concurrent,
        "last_used_at": rfc3339(key.last_used_at),
    }


def optional_rfc3339(at: datetime | None) -> str | None:
    """The time in UTC, as in ``2025-06-01T10:00:00Z``; None for None."""
    return None if at is None else rfc3339(at)
