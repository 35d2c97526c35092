"""Writes the code, the versions and the measured tables into the pages of docs/migration.

python tools/migration.py            run the scenarios of tests/migration, and write what they show
python tools/migration.py slowapi    only the page of slowapi
"""

import logging
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.migration.peers import PEERS, Peer, Row, row_of  # noqa: E402
from tests.migration.scenarios import SCENARIOS  # noqa: E402
from tools.page_parts import part_in, with_parts  # noqa: E402

INDEX = ROOT / "docs/migration/README.md"
_OVERVIEW = (
    "concurrent_burst",
    "another_client",
    "edge_of_the_window",
    "greedy_client",
    "retry_after",
    "refused_requests_and_the_app",
    "refused_requests_and_the_hour",
    "refused_cost",
    "parallel_guesses",
    "path_parameters",
    "included_router",
    "mounted_app",
    "unknown_path",
    "invented_keys",
    "invented_addresses",
    "outage",
)
_FILES = ("before", "after", "shadow")


def page_of(peer: Peer) -> Path:
    """Return the page of a library."""
    return ROOT / f"docs/migration/{peer.name.replace('_', '-')}.md"


def parts_of(peer: Peer, rows: Iterable[Row]) -> dict[str, str]:
    """Return the generated parts of a page by the names of their markers."""
    rows = [*rows]
    same = [f"| {row.title} | {row.after} |" for row in rows if row.before == row.after]
    different = [f"| {row.title} | {row.before} | {row.after} |" for row in rows if row.before != row.after]
    return {
        **{name: code(peer, name) for name in _FILES},
        "version": f"{peer.title} {version(peer.package)}",
        "same": _table(["Scenario", "Before and after"], same),
        "different": _table(["Scenario", peer.title, "awx_ratelimit"], different),
    }


def rows_in(peer: Peer) -> dict[str, Row]:
    """Return the rows of a page by their titles."""
    text = page_of(peer).read_text()
    same = [Row(title, both, both) for title, both in _lines(part_in(text, "same"))]
    different = [Row(*cells) for cells in _lines(part_in(text, "different"))]
    return {row.title: row for row in (*same, *different)}


def overview() -> str:
    """Return a table of all libraries, from their pages: the scenarios in which they differ most."""
    pages = [rows_in(peer) for peer in PEERS]
    lines = []
    for title in (SCENARIOS[name].title for name in _OVERVIEW):
        found = [page.get(title) for page in pages]
        after = dict.fromkeys(row.after for row in found if row is not None)
        cells = [title, *("-" if row is None else row.before for row in found), " or ".join(after)]
        lines.append(f"| {' | '.join(cells)} |")
    return _table(["Scenario", *(peer.title for peer in PEERS), "awx_ratelimit"], lines)


def code(peer: Peer, name: str) -> str:
    """Return a file of a library's example as a code block."""
    return f"```python\n{(ROOT / f'examples/migration/{peer.name}/{name}.py').read_text()}```"


def _lines(table: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def _table(heads: list[str], lines: list[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *lines])


def main() -> None:
    """Write the pages."""
    # The peers log every refusal.
    logging.disable()
    for peer in PEERS:
        if len(sys.argv) == 1 or peer.name in sys.argv[1:]:
            page = page_of(peer)
            rows = [row_of(peer, scenario) for scenario in peer.scenarios()]
            page.write_text(with_parts(page.read_text(), parts_of(peer, rows)))
    INDEX.write_text(with_parts(INDEX.read_text(), {"overview": overview()}))


if __name__ == "__main__":
    main()
