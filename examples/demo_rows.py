"""The table of the demo: its rows, which the traffic fills in, drawn for a terminal of 80 columns."""

import codecs
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import TextIOWrapper

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

_SUBSTITUTES = {"✓": "+", "✗": "x", "─": "-"}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_HEADINGS = ("plan", "traffic", "sent", "admitted", "refused", "promised", "measured")
_WIDTHS = (11, 25, 5, 10, 9, 10, 9)
_WIDTH = sum(_WIDTHS)


@dataclass(slots=True)
class Row:
    """One plan under one kind of traffic: what was sent, admitted and refused, and whether the promise was kept.

    `promised_seconds` is the last Retry-After, exact or `estimated`. `proven_seconds` is the time from that refusal, or
    from a freed slot, to the next admitted request. `kept` is None until it is known.
    """

    plan: str
    traffic: str
    sent: int = 0
    admitted: int = 0
    refused: int = 0
    promised_seconds: int | None = None
    estimated: bool = False
    proven_seconds: float | None = None
    kept: bool | None = None
    reason: str = "waiting for the server"


def _substituted(error: UnicodeError) -> tuple[str, int]:
    """Substitutes for a terminal that lacks these characters."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(letter, "*") for letter in letters), error.end


def console() -> Console:
    """The demo's output. Control characters go to a terminal only, whatever the environment says about colors."""
    if isinstance(sys.stdout, TextIOWrapper):
        codecs.register_error(_substituted.__name__, _substituted)
        sys.stdout.reconfigure(errors=_substituted.__name__)
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, force_terminal=False, color_system=None, width=_WIDTH + 1)


def table(rows: Sequence[Row]) -> RenderableType:
    """The rows in their current state."""
    rule = Text("─" * _WIDTH, style="dim")
    return Group(_line(_HEADINGS, ("dim",) * len(_HEADINGS)), rule, *(part for row in rows for part in _parts(row)))


def _parts(row: Row) -> tuple[RenderableType, RenderableType]:
    cells = (
        row.plan,
        row.traffic,
        str(row.sent),
        str(row.admitted),
        str(row.refused),
        "" if row.promised_seconds is None else f"{'~' * row.estimated}{row.promised_seconds} s",
        "" if row.proven_seconds is None else _measured(row.proven_seconds),
    )
    numbers = _line(cells, ("bold", "bold", "", "green", "yellow", "cyan", "cyan"))
    return numbers, Padding(_verdict(row), (0, 0, 0, _WIDTHS[0] - 2), expand=False)


def _measured(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{math.ceil(seconds * 1000)} ms"


def _verdict(row: Row) -> Text:
    if row.kept is None:
        frame = _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
        return Text(f"{frame} {row.reason}", style="dim")
    if row.kept:
        return Text.assemble(("✓ ", "bold green"), row.reason)
    return Text.assemble(("✗ ", "bold red"), (row.reason, "red"))


def _line(cells: Sequence[str], styles: Sequence[str]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for index, (cell, width, style) in enumerate(zip(cells, _WIDTHS, styles, strict=True)):
        line.append(cell.ljust(width) if index < 2 else cell.rjust(width), style)
    return line
