"""Copies docs/ for the site, with every page and file outside of it that a page links to.

Pages are plain Markdown, whose links a forge follows through the repository. The site has its own places for what is
not in docs/: pages such as CONTRIBUTING.md are in `project/`, and source files, as text, in `source/`. A link to a
folder leads to an archive of its sources.
"""

import re
import shutil
from collections.abc import Callable
from os.path import normpath, relpath
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Pages outside of docs/, and where the site has them.
PROJECT = {
    "README.md": "project/readme.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "benchmarks/results/measured.md": "project/figures.md",
}
#: What an archive of a folder has: no databases and no compiled modules.
_SOURCES = {".py", ".toml", ".html", ".css", ".txt"}
#: Code, which has no links: blocks, and spans in a line.
_CODE = r"^ *```.*?^ *```$|`[^`\n]*`"
_FENCE = re.compile(r" *```")
#: The first line of a list or a table, and a line after which neither goes on: text, or the end of a block of code.
_BEGINS = re.compile(r"(?:> )?(?:- |\d+\. |\|)")
_ENDS = re.compile(r"(?!(?:> )?(?:- |\d+\. |\||#|<!--| |$)|>$)")
_LINK = re.compile(rf"(?P<code>{_CODE})|(?P<before>\]\(|src=\")(?P<link>[^)\"\s#]+)", re.MULTILINE | re.DOTALL)


def prepare(target: Path) -> list[str]:
    """Make `target` the folder of the site's pages, and return the pages in it, relative to it."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(DOCS, target)
    for name, place in PROJECT.items():
        (target / place).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, target / place)
    pages = sorted(str(path.relative_to(target)) for path in target.rglob("*.md"))
    for page in pages:
        path = target / page
        text = with_empty_lines(path.read_text())
        path.write_text(with_links(text, lambda link, page=page: _placed(link, page, target)))
    return pages


def with_empty_lines(text: str) -> str:
    """Return a page with an empty line before each list and table.

    Forges need none, as CommonMark says. The site's parser takes a list without one for more text of the paragraph.
    """
    lines: list[str] = []
    is_code = False
    for line in text.splitlines():
        if not is_code and lines and _BEGINS.match(line) and _ENDS.match(lines[-1]):
            lines.append(">" if line.startswith(">") else "")
        is_code ^= _FENCE.match(line) is not None
        lines.append(line)
    return "\n".join(lines) + "\n"


def with_links(text: str, link: Callable[[str], str]) -> str:
    """Return a page with each of its relative links, without its anchor, replaced by `link` of it."""

    def replaced(match: re.Match[str]) -> str:
        if match["code"] is not None or re.match(r"[a-z]+:", match["link"]):
            return match[0]
        return match["before"] + link(match["link"])

    return _LINK.sub(replaced, text)


def source_of(page: str) -> str:
    """Return the path in the repository of a page of the site."""
    return next((name for name, place in PROJECT.items() if place == page), f"docs/{page}")


def _placed(link: str, page: str, target: Path) -> str:
    """Return a link of the repository as one of the site, and copy the file that it leads to if it is outside."""
    found = normpath(PurePosixPath(source_of(page)).parent / link)
    if not (ROOT / found).exists():
        raise FileNotFoundError(f"{source_of(page)}: a link leads to {found}, which does not exist")
    return relpath(_place(found, target), PurePosixPath(page).parent)


def _place(found: str, target: Path) -> str:
    if found in PROJECT:
        return PROJECT[found]
    if found.startswith("docs/"):
        return found.removeprefix("docs/")
    # Browsers show text, and download most sources.
    place = f"source/{found}.{'zip' if (ROOT / found).is_dir() else 'txt'}"
    (target / place).parent.mkdir(parents=True, exist_ok=True)
    if place.endswith(".zip"):
        _archive(found, target / place)
    else:
        shutil.copy(ROOT / found, target / place)
    return place


def _archive(folder: str, place: Path) -> None:
    """Write the sources in a folder, by their paths in the repository. Equal sources make equal archives."""
    with ZipFile(place, "w", ZIP_DEFLATED) as archive:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in _SOURCES:
                archive.writestr(ZipInfo(str(path.relative_to(ROOT))), path.read_bytes(), ZIP_DEFLATED)
