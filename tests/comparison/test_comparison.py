"""docs/comparison.md and docs/comparison/ say what the libraries do, and name what shows it."""

import json
import re
import shlex
from importlib.metadata import version

import pytest
from benchmarks.counts import BY_HAND, IN_SERVERS, RESULTS, is_control
from tests.comparison.libraries import LIBRARIES, PEERS, Library, folder_of
from tests.comparison.rows import EXPERIMENTS
from tests.docs.pages import ROOT
from tools.comparison import PAGE, PERFORMANCE, Row, cell_of, data, page_of, rows, section_of, versions
from tools.comparison_figures import costs, speed
from tools.page_parts import part_in

_REMEDY = "write the page with: make comparison"
_ROWS = rows()
_CELLS = [pytest.param(row, each, id=f"{row.name}-{each.name}") for row in _ROWS for each in LIBRARIES]
_WRITTEN = [
    pytest.param(cell, library, id=f"{row.name}-{library.name}")
    for row in _ROWS
    for library in LIBRARIES
    if (cell := row.written.get(library.name))
]
_OF_EACH = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
_OF_EACH_PEER = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)


def cells_of_page(row: Row) -> dict[str, list[str]]:
    """The cells of a row's table on the page, by the titles of the libraries."""
    section = part_in(page_of(row.page).read_text(), "rows").split(f"## {row.title}\n")[1].split("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {title: cells for titles, *cells in lines[2:] for title in titles.split(", ")}


@pytest.mark.parametrize(("row", "library"), _CELLS)
def test_cell(row: Row, library: Library) -> None:
    """A cell of the page says what the library does, and shows it."""
    cell = cell_of(row, library)
    column = [each.title for each in LIBRARIES].index(library.title)
    overview = [line for line in part_in(PAGE.read_text(), "overview").splitlines() if f"[{row.title}]" in line]

    assert cells_of_page(row).get(library.title) == [*cell], _REMEDY
    assert [line.strip("| ").split(" | ")[column + 1] for line in overview] in ([cell.verdict], []), _REMEDY
    assert overview or cell.verdict == "–", _REMEDY
    assert cell.verdict in ("yes", "partly", "no", "–")


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    """The page has the title, the question and every library of a row."""
    head = section_of(row, ()).splitlines()[:2]

    assert "\n".join(head) in page_of(row.page).read_text(), _REMEDY
    assert cells_of_page(row).keys() == {each.title for each in LIBRARIES}, _REMEDY
    assert row.written.keys() <= {each.name for each in LIBRARIES}


def test_no_other_rows() -> None:
    """The pages have no row that is not in the data, and every experiment has a row."""
    pages = dict.fromkeys(row.page for row in _ROWS)
    titles = [title for page in pages for title in re.findall(r"^## (.*)$", page_of(page).read_text(), re.MULTILINE)]

    assert titles == [row.title for row in _ROWS], _REMEDY
    assert EXPERIMENTS.keys() <= {row.name for row in _ROWS}


@pytest.mark.parametrize(("cell", "library"), _WRITTEN)
def test_evidence(cell: dict[str, object], library: Library) -> None:
    """A cell that is not tried has evidence: tests that exist, a text in the installed library, or a link."""
    kinds = {"tests", "file", "link"} & cell.keys()

    assert len(kinds) == 1
    for command in cell.get("tests", ()):  # type: ignore[attr-defined]
        _check_tests(command)
    if "file" in cell:
        assert str(cell["says"]) in (folder_of(library).parent / str(cell["file"])).read_text()
    if "link" in cell:
        assert str(cell["link"]).startswith("https://")
        assert cell["about"]


def _check_tests(command: str) -> None:
    path, *options = shlex.split(command)
    assert (ROOT / path).exists(), command
    if options:
        assert options[0] == "-k", command
        searched = [ROOT / path, ROOT / "tests/migration", ROOT / "src/awx_ratelimit/testing"]
        files = [file for each in searched for file in ([each] if each.is_file() else each.rglob("*.py"))]
        assert options[1] in EXPERIMENTS or any(options[1] in file.read_text() for file in files), command


@_OF_EACH_PEER
def test_versions(peer: Library) -> None:
    """The links were read in the versions that are installed."""
    assert data()["versions"][peer.name] == peer.version, "read the links of the library again"


def test_versions_of_the_page() -> None:
    """The page names the versions that are compared."""
    assert part_in(PAGE.read_text(), "versions") == versions(LIBRARIES), _REMEDY


@_OF_EACH_PEER
def test_installed(peer: Library) -> None:
    """Every other library is installed in the version that constraints.txt names."""
    constraints = (ROOT / "constraints.txt").read_text().lower().splitlines()

    assert f"{peer.package.lower()}=={version(peer.package)}" in constraints


def test_speed() -> None:
    """Both pages have the figures of the last run."""
    remedy = "write the pages with: python tools/comparison.py speed"

    assert part_in(PAGE.read_text(), "speed") == speed(), remedy
    assert part_in(PERFORMANCE.read_text(), "costs") == costs(), remedy


@pytest.mark.parametrize("framework", BY_HAND)
def test_counted_beside_ours(framework: str) -> None:
    """Where another library is counted, this one is counted on the same app."""
    counted = [
        name
        for name in json.loads(RESULTS.read_text())["counts"][IN_SERVERS]
        if name.startswith(f"{framework} +") and not is_control(name)
    ]

    assert [name for name in counted if " + awx_ratelimit, " in name] != []
    assert [name for name in counted if " + awx_ratelimit, " not in name] != []
