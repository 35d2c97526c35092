"""What commands print: tables for people, JSON for programs. What was asked for is on stdout, all else on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live as _Live
from rich.table import Table
from rich.text import Text

from awx_ratelimit.keys import Account, ApiKey

#: What is read by a program is not cut to the width of a screen.
_WIDE = 10_000


def print_json(answer: object) -> None:
    """One document."""
    print(json.dumps(answer, indent=2))  # noqa: T201  # it is a command


def print_line(text: str) -> None:
    """One line of what was asked for."""
    print(text)  # noqa: T201  # it is a command


def say(text: str) -> None:
    """One line of what is said of it."""
    print(text, file=sys.stderr)  # noqa: T201  # it is a command


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under names; their texts as they are, whatever brackets are in them."""
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(_table(columns, rows))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


class Live:
    """A head, rows and verdicts on stderr, drawn again in place; gone when it stops."""

    def __init__(self) -> None:
        self._live = _Live(console=Console(stderr=True, highlight=False), transient=True, auto_refresh=False)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Leave the screen as it was."""
        self._live.stop()

    def update(
        self, head: str, columns: Sequence[str], rows: Iterable[Sequence[str]], verdicts: Sequence[tuple[str, str, str]]
    ) -> None:
        """Draw this instead."""
        parts: list[Text | Table] = [Text(head), _table(columns, rows)]
        if verdicts:
            parts.append(_table(("so far", "", ""), verdicts))
        self._live.update(Group(*parts), refresh=True)


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
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")
