"""Links lead somewhere, and docs/index.md leads to every page."""

import re
from collections import Counter
from functools import cache

from tests.docs.pages import LINKED_PAGES, PAGES, ROOT, prose, text_of

_LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
_PICTURE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<file>[^)\s]+)\)")
#: A page with three pictures is ready within a second on a slow line.
_MAX_PICTURE_BYTES = 150 * 1024
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def links(page: str) -> list[str]:
    """The relative links of a page."""
    found = [first or second for first, second in _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@cache
def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    slugs, seen = set(), Counter[str]()
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        slugs.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return slugs


def test_links() -> None:
    """Every relative link of a page points at an existing file, and at an existing heading of it."""
    found = [(page, link) for page in LINKED_PAGES for link in links(page)]

    assert len(found) > len(LINKED_PAGES)
    assert [link for link in found if not _leads_somewhere(*link)] == []


def _leads_somewhere(page: str, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    return target.exists() and (not anchor or anchor in anchors(str(target.resolve().relative_to(ROOT))))


def test_pictures() -> None:
    """Every picture says in words what it shows, and has at most 150 KiB."""
    pictures = [(page, picture) for page in LINKED_PAGES for picture in _PICTURE.finditer(prose(page))]
    sizes = {((ROOT / page).parent / picture["file"]): picture for page, picture in pictures}

    assert len(pictures) > 10
    assert [picture[0] for _, picture in pictures if len(picture["text"].split()) < 3] == []
    assert [picture[0] for path, picture in sizes.items() if path.stat().st_size > _MAX_PICTURE_BYTES] == []


def test_every_page_is_listed() -> None:
    """docs/index.md, the navigation of the site, lists every page of docs/ once, and the README links to it."""
    listed = re.findall(r"^- \[[^\]]+\]\(([^)#]+)\): .", text_of("docs/index.md"), re.MULTILINE)
    pages = {page.removeprefix("docs/") for page in PAGES} - {"README.md", "index.md"}

    assert pages - set(listed) == set()
    assert [link for link, count in Counter(listed).items() if count > 1] == []
    assert "docs/index.md" in links("README.md")


def test_every_decision_is_listed() -> None:
    """The list of decisions has every decision."""
    pages = {path.name for path in (ROOT / "docs/decisions").glob("*.md")} - {"README.md"}

    assert pages - set(links("docs/decisions/README.md")) == set()


def test_length_of_the_readme() -> None:
    """The README has at most 150 lines."""
    assert len(text_of("README.md").splitlines()) <= 150
