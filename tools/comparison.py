"""Writes the tables of docs/comparison.md and docs/comparison/, and the figures of docs/performance.md.

python tools/comparison.py          try every library, and write all tables
python tools/comparison.py speed    only the figures, from the last results of `make bench`
"""

import logging
import sys
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tools.comparison_figures import costs, speed  # noqa: E402
from tools.page_parts import anchor, with_parts  # noqa: E402

PAGE = ROOT / "docs/comparison.md"
PERFORMANCE = ROOT / "docs/performance.md"
DATA = ROOT / "tools/comparison.toml"


class Cell(NamedTuple):
    """What a library does, in a word and in a few, and what shows it."""

    verdict: str
    words: str
    evidence: str


class Row(NamedTuple):
    """A promise that users choose by."""

    name: str
    title: str
    about: str
    #: The name of its page, in docs/comparison/.
    page: str
    #: By the name of the library: what stands in the data, and is not tried.
    written: dict[str, dict[str, Any]]


@cache
def data() -> dict[str, Any]:
    """The data of the page."""
    return tomllib.loads(DATA.read_text())


def rows() -> list[Row]:
    """All rows."""
    return [_row(row, part["page"]) for part in data()["parts"] for row in part["rows"]]


def _row(row: dict[str, Any], page: str) -> Row:
    written = {name: cell for cell in row.get("cells", []) for name in cell["of"]}
    return Row(row["name"], row["title"], row["about"], page, written)


def cell_of(row: Row, library: Any) -> Cell:
    """The cell of a library, which is tried if the data does not have it. Raises LookupError without evidence."""
    from tests.comparison.rows import EXPERIMENTS  # `speed` needs no library

    if library.name in row.written:
        cell = row.written[library.name]
        return Cell(cell["verdict"], cell["words"], _evidence(cell, library))
    tried = EXPERIMENTS[row.name](library) if row.name in EXPERIMENTS else None
    if tried is None:
        raise LookupError(f"{row.name}: expected a cell of {library.name} in {DATA.name}, or an experiment")
    return Cell(tried.verdict, tried.words, "tried")


def _evidence(cell: dict[str, Any], library: Any) -> str:
    if "tests" in cell:
        return ", ".join(f"`pytest {each}`" for each in cell["tests"])
    if "file" in cell:
        return f"`{cell['file']}` of {library.version}"
    return f"[{cell['about']}]({cell['link']}), {library.version}, read {data()['read']}"


def lines_of(row: Row, libraries: Iterable[Any]) -> list[str]:
    """The lines of a row's table; libraries with equal cells share one."""
    cells: dict[Cell, list[str]] = {}
    for library in libraries:
        cells.setdefault(cell_of(row, library), []).append(library.title)
    return [
        f"| {', '.join(titles)} | {cell.verdict} | {cell.words} | {cell.evidence} |" for cell, titles in cells.items()
    ]


def section_of(row: Row, libraries: Iterable[Any]) -> str:
    """The section of a row."""
    from tests.comparison.rows import EXPERIMENTS

    tried = f" Tried with `pytest tests/comparison -k {row.name}`." if row.name in EXPERIMENTS else ""
    table = ["| library | | what it does | shown by |", "| --- | --- | --- | --- |", *lines_of(row, libraries)]
    return "\n".join([f"## {row.title}", f"{row.about}{tried}", "", *table])


def overview(libraries: list[Any]) -> str:
    """The table of all rows that ask for a promise, and all libraries."""
    from tests.comparison.shown import NOT_MEANT

    heads = [f"| | {' | '.join(library.title for library in libraries)} |", f"|{' --- |' * (len(libraries) + 1)}"]
    lines = []
    for row in rows():
        verdicts = [cell_of(row, library).verdict for library in libraries]
        if set(verdicts) != {NOT_MEANT}:
            lines.append(f"| [{row.title}](comparison/{row.page}.md#{anchor(row.title)}) | {' | '.join(verdicts)} |")
    return "\n".join(heads + lines)


def versions(libraries: Sequence[Any]) -> str:
    """The versions that are compared."""
    named = [f"[{each.title}]({each.url})" if each.url else each.title for each in libraries]
    return ", ".join(f"{title} {each.version}" for title, each in zip(named, libraries, strict=True))


def page_of(name: str) -> Path:
    """The page of some rows."""
    return PAGE.parent / f"comparison/{name}.md"


def main() -> None:
    """Write the pages."""
    _write(PERFORMANCE, {"costs": costs()})
    if sys.argv[1:] == ["speed"]:
        _write(PAGE, {"speed": speed()})
        return
    from tests.comparison.libraries import LIBRARIES

    # The libraries log every refusal.
    logging.disable()
    _write(PAGE, {"versions": versions(LIBRARIES), "overview": overview([*LIBRARIES]), "speed": speed()})
    for name, part in groupby(rows(), key=lambda row: row.page):
        _write(page_of(name), {"rows": "\n\n".join(section_of(row, LIBRARIES) for row in part)})


def _write(page: Path, parts: dict[str, str]) -> None:
    page.write_text(with_parts(page.read_text(), parts))


if __name__ == "__main__":
    main()
