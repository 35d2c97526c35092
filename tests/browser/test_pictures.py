"""The pictures of docs/images: what a terminal shows, and what the pages load."""

import re
import sys
from pathlib import Path

from tests.browser.pictures.demo import PANELS, queries
from tests.browser.pictures.terminal import Screen, as_page, running_in_terminal

LIVE = """
from rich.console import Console
from rich.live import Live

out = Console()
out.print("[bold]before[/bold]")
with Live("first", console=out, auto_refresh=False) as live:
    for row in ("second", "one\\n[green]two[/green]", "the end"):
        live.update(row, refresh=True)
out.print("after")
"""


def test_terminal(tmp_path: Path) -> None:
    """The screen shows the last state of a live table, between what was printed before and after it."""
    with running_in_terminal([sys.executable, "-c", LIVE], tmp_path) as terminal:
        screen = Screen()
        screen.feed(terminal.read_until("after", 20.0))
    shown = re.sub(r"<[^>]+>", "", as_page(screen.text()).partition("<pre>")[2]).split()

    assert shown == ["before", "the", "end", "after"]


def test_queries_of_the_graphs() -> None:
    """The graphs show queries of the dashboard, without the variables of Grafana."""
    assert len(queries()) == len(PANELS)
    assert [query for query in queries() if "$" in query or "awx_ratelimit_" not in query] == []
