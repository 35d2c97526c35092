"""Log lines, help texts and consoles lead to pages that exist."""

import ast
from collections.abc import Iterator

import pytest
from tests.docs.pages import ROOT
from tests.docs.test_links import anchors

from awx_ratelimit.runtime import documentation
from awx_ratelimit.runtime.documentation import VARIABLE, page, page_url


def _named() -> Iterator[tuple[str, str]]:
    """The page and the anchor in each call of `page` in the package. A name in place of an anchor is a code."""
    # Each worker does this, and to walk through every module would take it two seconds.
    sources = [source for path in (ROOT / "src").rglob("*.py") if "page(" in (source := path.read_text())]
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "page":
                texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                yield str(texts[0]), str(texts[1]) if len(texts) > 1 else ""


def test_path_in_the_repository() -> None:
    """Without the address of a site, a page is a path in the repository, and there is no URL to link to."""
    assert page("errors", "csrf_failed") == "docs/errors.md#csrf_failed"
    assert page("cors") == "docs/cors.md"
    assert page_url("cors") == ""


def test_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address of a site, a page is a URL there."""
    monkeypatch.setenv(VARIABLE, "https://docs.example.com/limits/")

    assert page("errors", "csrf_failed") == "https://docs.example.com/limits/errors/#csrf_failed"
    assert page_url("cors") == "https://docs.example.com/limits/cors/"


def test_url_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the project serves a site, pages are URLs there; the variable comes first. Consoles link only by it."""
    monkeypatch.setattr(documentation, "SITE", "https://docs.example.org")
    published = page("errors", "csrf_failed"), page_url("errors")
    monkeypatch.setenv(VARIABLE, "https://limits.example.com")

    assert published == ("https://docs.example.org/errors/#csrf_failed", "")
    assert page("errors") == page_url("errors") == "https://limits.example.com/errors/"


@pytest.mark.parametrize("address", ["javascript:alert(1)", "docs.example.com", "https://", 'https://a"b', ""])
def test_no_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A text that is not the address of a site is never a link."""
    monkeypatch.setenv(VARIABLE, address)

    assert page_url("cors") == ""
    assert page("cors") == "docs/cors.md"


def test_no_other_paths() -> None:
    """No text of the package names a page by its path, so that AWX_DOCS_URL turns all of them into links."""
    others = [path for path in (ROOT / "src").rglob("*.py") if path.name != "documentation.py"]
    trees = [ast.parse(source) for path in others if "docs/" in (source := path.read_text())]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]

    assert len(trees) > 10
    assert [text for text in texts if "docs/" in str(text)] == []


@pytest.mark.parametrize(("name", "anchor"), sorted(set(_named())))
def test_pages_exist(name: str, anchor: str) -> None:
    """A page that the package names exists, and so does the heading."""
    assert (ROOT / page(name)).exists()
    assert not anchor or anchor in anchors(page(name))
