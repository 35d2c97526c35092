"""The output of commands: tables for people, JSON for programs. Results go to stdout, everything else to stderr.

The output contains names and responses from elsewhere. Terminals act on escape sequences, and CI systems on lines such
as ``::error::`` (GitHub) or ``##vso[...]`` (Azure, TeamCity), so both are escaped.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live as _Live
from rich.table import Table
from rich.text import Text

from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.keys import Account, ApiKey
from awx_ratelimit.runtime.clock import rfc3339

#: Output that is not for a terminal is never cut.
_WIDE = 10_000
_NARROW: Final = 56
_STYLES: Final = {"passed": "green", "failed": "bold red"}


def print_json(document: object) -> None:
    """Print one JSON document."""
    # "#" occurs only inside strings, where JSON allows this escape.
    print(json.dumps(document, indent=2).replace("##", "\\u0023\\u0023"))  # noqa: T201  # a command prints


def print_line(text: str) -> None:
    """Print one line of the result."""
    print(_line(text))  # noqa: T201  # a command prints


def say(text: str) -> None:
    """Print one message to stderr."""
    print(_line(text), file=sys.stderr)  # noqa: T201  # a command prints


def _line(text: str) -> str:
    """`text` as one line without control sequences, in the encoding of the output."""
    text = escape_unprintable(text).replace("##", "\\x23\\x23")
    if text.lstrip().startswith("::"):
        text = text.replace("::", "\\x3a\\x3a", 1)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table. Cells are plain text: brackets are not markup."""
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(_table(columns, rows))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_line(cell)) for cell in row))
    return table


def is_live() -> bool:
    """Whether stderr is a terminal that supports redrawing."""
    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


class Live:
    """A live display on stderr, redrawn in place and removed when it stops. It never exceeds the terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = _Live(console=self._console, transient=True, auto_refresh=False)

    def start(self) -> None:
        """Start drawing."""
        self._live.start()

    def stop(self) -> None:
        """Remove the display."""
        self._live.stop()

    def update(
        self,
        head: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        verdicts: Sequence[Sequence[str]],
    ) -> None:
        """Redraw. A narrow terminal omits the last two columns; a low one omits the first rows."""
        column_count = len(columns) if self._console.width >= _NARROW else len(columns) - 2
        max_rows = max(1, self._console.height - len(head) - len(verdicts) - 3)
        table = Table(box=None, pad_edge=False)
        for number, name in enumerate(columns[:column_count]):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in rows[-max_rows:]:
            table.add_row(*(Text(_line(cell)) for cell in row[:column_count]))
        head_lines = [Text(_line(line), no_wrap=True, overflow="ellipsis") for line in head]
        self._live.update(Group(*head_lines, table, Text(), _marked(verdicts)), refresh=True)


def _marked(verdicts: Sequence[Sequence[str]]) -> Table:
    """One line per verdict, cut at the width of the terminal."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for texts in list(zip(*verdicts, strict=True))[:2]:
        table.add_column(no_wrap=True, min_width=max(map(len, texts)))
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, mark, detail in verdicts:
        table.add_row(Text(name), Text(mark, style=_STYLES.get(mark, "yellow")), Text(_line(detail), style="dim"))
    return table


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


def account_fields(account: Account) -> dict[str, Any]:
    """The fields of an account in JSON."""
    return {
        "id": account.id,
        "plan": account.plan,
        "overrides": None if account.overrides is None else dict(account.overrides),
        "status": account.status,
        "max_keys": account.max_keys,
        "created_at": rfc3339(account.created_at),
    }


def optional_rfc3339(at: datetime | None) -> str | None:
    """The time in UTC, as in ``2025-06-01T10:00:00Z``; None for None."""
    return None if at is None else rfc3339(at)
