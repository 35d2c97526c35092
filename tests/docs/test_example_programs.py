"""Readers of the site alone can get every program that a page names."""

import ast
import re

import pytest
from tests.docs.pages import PAGES, ROOT, blocks, prose, text_of
from tests.docs.test_links import links

PAGE = "docs/examples.md"
_ROW = re.compile(
    r"^\| \[[^\]]+\]\(\.\./(?P<file>examples/\S+)\) \| .*? \| (?:`(?P<address>:[^`]+)` \| )?`(?P<command>[^`]+)` \|$",
    re.MULTILINE,
)
ROWS = [(match["file"], match["address"] or "", match["command"]) for match in _ROW.finditer(text_of(PAGE))]
#: A program that a page names without a link to it. Links of the list of programs itself are tested below.
_UNLINKED = re.compile(r"(?<!\[)`examples/[\w/.]*`")


def test_every_program_is_listed() -> None:
    """The page links to every program, except those of the demo and of the migration pages, which it names together."""
    programs = {
        f"../{path.relative_to(ROOT)}"
        for path in (ROOT / "examples").rglob("*.py")
        if not path.name.startswith("demo_") and "migration" not in path.parts
    }

    assert programs - set(links(PAGE)) == set()


@pytest.mark.parametrize(("file", "address", "command"), ROWS)
def test_start(file: str, address: str, command: str) -> None:
    """A program is started, and called, as its own docstring says."""
    docstring = ast.get_docstring(ast.parse(text_of(file))) or ""

    assert command in docstring
    assert address in docstring


def test_named_programs() -> None:
    """A page that names a program links to it."""
    assert {page: names for page in PAGES if page != PAGE and (names := _UNLINKED.findall(prose(page)))} == {}


def test_started_programs() -> None:
    """A page that starts a program links to it or to the list of programs."""
    starting = [
        page for page in PAGES if page != PAGE and re.search(r"\bexamples[./]\w+", "\n".join(blocks(page, "sh")))
    ]
    found = {
        page: [link for link in links(page) if link.startswith("../examples/") or "examples.md" in link]
        for page in starting
    }

    assert starting
    assert [page for page in starting if not found[page]] == []
