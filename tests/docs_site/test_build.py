"""`make docs` builds a whole site of static files, and refuses one with a fault."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlparse
from zipfile import ZipFile

import pytest
from tests.docs_site.conftest import ROOT, build


class Addresses(HTMLParser):
    """The links of a page, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or given.get("name") or "")
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        elif tag in ("link", "script", "img"):
            self.loaded.append(given.get("href") or given.get("src") or "")


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Addresses]:
    """The pages of the site, by their path in it."""
    parsed = {}
    for path in site.rglob("*.html"):
        parser = Addresses()
        parser.feed(path.read_text())
        parsed[str(path.relative_to(site))] = parser
    return parsed


def markdown_links(text: str) -> list[str]:
    """The relative links of a page in Markdown, without their anchors."""
    prose = re.sub(r"^ *```.*?^ *```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)#\s]+)", prose) if not re.match(r"[a-z]+:", link)]


def test_pages(pages: dict[str, Addresses]) -> None:
    """Every page of docs/ is a page of the site."""
    sources = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    expected = {
        str(
            source.parent / "index.html"
            if source.name in ("index.md", "README.md")
            else source.with_suffix("") / "index.html"
        )
        for source in sources
    }

    assert expected - set(pages) == set()


def test_links(site: Path, pages: dict[str, Addresses]) -> None:
    """Every link within the site leads to a file, and to an anchor that the page has."""
    broken = []
    for page, parsed in pages.items():
        for link in parsed.links if page != "404.html" else []:
            target = urlparse(urljoin(f"http://site/{page}", link))
            if target.netloc != "site":
                continue
            path = target.path.lstrip("/") + ("index.html" if target.path.endswith("/") else "")
            anchors = pages[path].ids if path in pages else set()
            if not (site / path).is_file() or (target.fragment and target.fragment not in anchors):
                broken.append((page, link))

    assert broken == []


def test_lists(site: Path) -> None:
    """No list and no table is shown as text, even without an empty line before it."""
    code = re.compile(r"<(pre|script|style)\b.*?</\1>", re.DOTALL)
    found = {
        str(path.relative_to(site)): lines
        for path in site.rglob("*.html")
        if (lines := re.findall(r"^(?:- |\d+\. |\|).{0,60}", code.sub("", path.read_text()), re.MULTILINE))
    }

    assert found == {}


def test_no_private_members(pages: dict[str, Addresses]) -> None:
    """The reference shows the members that users may call, and no others."""
    ids = {anchor for page, parsed in pages.items() if page.startswith("reference/") for anchor in parsed.ids}

    assert "awx_ratelimit.Limiter.acquire" in ids
    assert {anchor for anchor in ids if anchor.startswith("awx_ratelimit.") and "._" in anchor} == set()


def test_coroutines(site: Path) -> None:
    """The reference shows which methods to await, also in Markdown."""
    page = re.sub(r"<[^>]+>", "", (site / "reference/limiters/index.html").read_text())
    twin = (site / "reference/limiters/index.md").read_text()

    for text in (page.replace("&gt;", ">"), twin):
        assert re.findall(r"^(?:async def )?health\(.*$", text, re.MULTILINE) == [
            "health() -> Mapping[str, Any]",
            "async def health() -> Mapping[str, Any]",
        ]
        assert len(re.findall(r"^async def (?:acquire|release|peek|settle|aclose)\(", text, re.MULTILINE)) == 5


def test_attributes(site: Path, pages: dict[str, Addresses]) -> None:
    """The reference shows an attribute with its class and the comment above it, also in Markdown."""
    shown = "usage: UsageReports\n```\n\nWhat accounts and keys have used, if a `UsageHistory` records it."

    assert "awx_ratelimit.keys.KeyService.usage" in pages["reference/keys/index.html"].ids
    assert shown in (site / "reference/keys/index.md").read_text()


def test_pages_in_docstrings(pages: dict[str, Addresses]) -> None:
    """A page that a docstring names is a link in the reference."""
    assert "../../queues/" in pages["reference/limiters/index.html"].links


def test_nothing_is_loaded_from_elsewhere(pages: dict[str, Addresses]) -> None:
    """A page loads files of the site alone, by relative addresses, so that it works offline and under any path."""
    loaded = {address for page, parsed in pages.items() if page != "404.html" for address in parsed.loaded}

    assert {
        address for address in loaded if re.match(r"[a-z]+:|/", address) and not address.startswith("data:")
    } == set()


def test_examples(site: Path, copy: Path) -> None:
    """The site has every example program: each that a page links to as a text, and all of them in one archive."""
    with ZipFile(site / "source/examples.zip") as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    programs = {str(path.relative_to(copy)): path.read_bytes() for path in (copy / "examples").rglob("*.py")}
    linked = sorted(path.name for path in (site / "source/examples").glob("*.txt"))

    assert {name: packed.get(name) for name in programs} == programs
    assert {Path(name).suffix for name in packed} <= {".py", ".toml"}
    assert "fastapi_app.py.txt" in linked
    assert (site / "source/examples/fastapi_app.py.txt").read_bytes() == programs["examples/fastapi_app.py"]


def test_twins(site: Path, pages: dict[str, Addresses]) -> None:
    """Each page has its Markdown beside it, whose links lead to Markdown and to files of the site."""
    folders = {page.removesuffix("index.html") for page in pages} - {"404.html"}
    links = [(folder, link) for folder in folders for link in markdown_links((site / folder / "index.md").read_text())]

    assert len(links) > 300
    assert [(folder, link) for folder, link in links if not (site / folder / link).is_file()] == []


def test_twins_have_no_markers(site: Path) -> None:
    """The Markdown of a page has none of the comments between which tools write."""
    assert [str(path) for path in site.rglob("*.md") if "<!--" in path.read_text()] == []


def test_twins_are_named(pages: dict[str, Addresses]) -> None:
    """Each page names its Markdown, for programs that look for it."""
    unnamed = [page for page, parsed in pages.items() if "index.md" not in parsed.loaded]

    assert unnamed == ["404.html"]


def test_llms_txt(site: Path) -> None:
    """llms.txt names the project, says what it is, and lists the Markdown of every page of the navigation."""
    lines = (site / "llms.txt").read_text().splitlines()
    listed = re.findall(r"^- \[.+\]\((.+)\): .", "\n".join(lines), re.MULTILINE)

    assert lines[0] == "# awx_ratelimit"
    assert lines[2].startswith("> ")
    assert len(listed) > 40
    assert [link for link in listed if not (site / link).is_file()] == []


@pytest.mark.parametrize(
    ("page", "text", "said"),
    [
        ("plans.md", "[gone](nowhere.md)", "nowhere.md, which does not exist"),
        # It builds every page again.
        pytest.param("plans.md", "[gone](gate.md#no-such-heading)", "no-such-heading", marks=pytest.mark.full),
        ("unlisted.md", "# Unlisted", "docs/index.md does not list: unlisted.md"),
    ],
    ids=["link", "anchor", "navigation"],
)
def test_faults(copy: Path, page: str, text: str, said: str) -> None:
    """A broken link, a missing anchor and an unlisted page fail the build, which says where."""
    path = copy / "docs" / page
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{text}\n")
    built = build(copy)
    path.unlink() if before is None else path.write_text(before)

    assert built.returncode != 0
    assert said in built.stdout + built.stderr
