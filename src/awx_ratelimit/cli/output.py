"""What commands print: tables for people, JSON for programs. What was asked for is on stdout, all else on stderr.

Names and answers of others are in it. A terminal would obey an escape sequence, and the log of a CI a line such as
``::error::`` (GitHub) or ``##vso[...]`` (Azure, TeamCity): both are written as escapes.
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

#: What is read by a program is not cut to the width of a screen.
_WIDE = 10_000
_NARROW: Final = 56
_STYLES: Final = {"passed": "green", "failed": "bold red"}


def print_json(answer: object) -> None:
    """One document."""
    # Between the quotes of a text, `#` may be written like that; outside of them there is none.
    print(json.dumps(answer, indent=2).replace("##", "\\u0023\\u0023"))  # noqa: T201  # it is a command


def print_line(text: str) -> None:
    """One line of what was asked for."""
    print(_line(text))  # noqa: T201  # it is a command


def say(text: str) -> None:
    """One line of what is said of it."""
    print(_line(text), file=sys.stderr)  # noqa: T201  # it is a command


def _line(text: str) -> str:
    """`text` as one line that nobody obeys, in what the output can write."""
    text = escape_unprintable(text).replace("##", "\\x23\\x23")
    if text.lstrip().startswith("::"):
        text = text.replace("::", "\\x3a\\x3a", 1)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under names; their texts as they are, whatever brackets are in them."""
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(_table(columns, rows))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_line(cell)) for cell in row))
    return table


def is_live() -> bool:
    """Whether stderr is a screen that can be drawn on again."""
    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


class Live:
    """Lines, rows and verdicts on stderr, drawn again in place, as many as there is room for; gone when it stops."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = _Live(console=self._console, transient=True, auto_refresh=False)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Leave the screen as it was."""
        self._live.stop()

    def update(
        self,
        head: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        verdicts: Sequence[Sequence[str]],
    ) -> None:
        """Draw this instead. Where it is narrow the last two columns are left out, where it is low the first rows."""
        shown = len(columns) if self._console.width >= _NARROW else len(columns) - 2
        room = max(1, self._console.height - len(head) - len(verdicts) - 3)
        table = Table(box=None, pad_edge=False)
        for number, name in enumerate(columns[:shown]):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in rows[-room:]:
            table.add_row(*(Text(_line(cell)) for cell in row[:shown]))
        lines = [Text(_line(line), no_wrap=True, overflow="ellipsis") for line in head]
        self._live.update(Group(*lines, table, Text(), _marked(verdicts)), refresh=True)


def _marked(verdicts: Sequence[Sequence[str]]) -> Table:
    """A line for each, whatever of it there is room for."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for texts in list(zip(*verdicts, strict=True))[:2]:
        table.add_column(no_wrap=True, min_width=max(map(len, texts)))
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, mark, said in verdicts:
        table.add_row(Text(name), Text(mark, style=_STYLES.get(mark, "yellow")), Text(_line(said), style="dim"))
    return table


def shown_key(key: ApiKey) -> dict[str, Any]:
    """A key, for programs."""
    return {
        "id": key.id,
        "account_id": key.account_id,
        "family_id": key.family_id,
        "name": key.name,
        "prefix": key.masked,
        "status": key.status,
        "created_at": shown_time(key.created_at),
        "created_by": key.created_by,
        "expires_at": shown_time(key.expires_at),
        "last_used_at": shown_time(key.last_used_at),
        "rotated_from": key.rotated_from,
        "replaced_by": key.replaced_by,
    }


def shown_account(account: Account) -> dict[str, Any]:
    """An account, for programs."""
    return {
        "id": account.id,
        "plan": account.plan,
        "overrides": None if account.overrides is None else dict(account.overrides),
        "status": account.status,
        "max_keys": account.max_keys,
        "created_at": shown_time(account.created_at),
    }


def shown_time(at: datetime | None) -> str | None:
    """RFC 3339, in UTC."""
    return None if at is None else rfc3339(at)
