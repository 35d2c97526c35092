"""Writes the code, the versions and the measured tables into the pages of docs/migration.

python tools/migration.py            run the scenarios of tests/migration, and write what they show
python tools/migration.py slowapi    only the page of slowapi
"""

import logging
import re
import sys
from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.migration.peers import PEERS, Peer, Row, row_of  # noqa: E402

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


def code(peer: Peer, name: str) -> str:
    """Return a file of a library's example as a code block."""
    return f"```python\n{(ROOT / f'examples/migration/{peer.name}/{name}.py').read_text()}```"


def part_in(text: str, name: str) -> str:
    """Return what a page has between two markers. Raises ValueError if it does not have both."""
    found = _between(name).search(text)
    if found is None:
        raise ValueError(f"expected the markers <!-- {name} --> and <!-- /{name} -->")
    return found[0].strip("\n")


def with_parts(text: str, parts: dict[str, str]) -> str:
    """Return a page with new parts. Raises ValueError if it does not have all of them."""
    for name, part in parts.items():
        part_in(text, name)
        lines = f"\n{part}\n" if "\n" in part else part
        # A function, because a text would be read as a template.
        text = _between(name).sub(partial(_return, lines), text)
    return text


def _return(text: str, _: object) -> str:
    return text


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->).*?(?=<!-- /{name} -->)", re.DOTALL)


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


if __name__ == "__main__":
    main()
