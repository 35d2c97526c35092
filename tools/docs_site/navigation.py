"""The navigation of the site, which is the list of pages in docs/index.md.

A heading of the second level is a part, and of the third a group in it; each item of a list is a page:
``- [Title](page.md): what it is about``. Decisions have a list of their own.
"""

import re
from typing import NamedTuple

from tools.docs_site.pages import DOCS, PROJECT

#: Pages that a list of their own names.
LISTED_ELSEWHERE = "decisions/"
_LINE = re.compile(
    r"^(?P<marks>##+) (?P<heading>.+)$|^- \[(?P<title>[^\]]+)\]\((?P<link>[^)#]+)\)(?:: (?P<about>.*))?$"
)


class Entry(NamedTuple):
    """A page in the navigation, with its part and its group; `group` may be empty."""

    part: str
    group: str
    title: str
    page: str
    about: str


def entries() -> list[Entry]:
    """Return the pages that docs/index.md lists, in its order."""
    part = group = ""
    found = []
    for line in (DOCS / "index.md").read_text().splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        if match["marks"]:
            part, group = (match["heading"], "") if match["marks"] == "##" else (part, match["heading"])
        else:
            page = _page(match["link"])
            found.append(Entry(part, group, match["title"], page, match["about"] or ""))
    return found


def tree() -> list[dict[str, object]]:
    """Return the navigation as zensical.toml takes it. A part with one page is that page."""
    parts: dict[str, list[object]] = {}
    for entry in entries():
        items = parts.setdefault(entry.part, [])
        if entry.group:
            if not (items and isinstance(items[-1], dict) and entry.group in items[-1]):
                items.append({entry.group: []})
            items = items[-1][entry.group]  # type: ignore[index]
        items.append({entry.title: entry.page})
    return [{"Home": "index.md"}, *({part: _alone(items)} for part, items in parts.items())]


def missing(pages: list[str]) -> list[str]:
    """Return the pages that the navigation does not have."""
    listed = {entry.page for entry in entries()} | {"index.md"}
    return [page for page in pages if page not in listed and not page.startswith(LISTED_ELSEWHERE)]


def _alone(items: list[object]) -> object:
    only = items[0]
    return next(iter(only.values())) if len(items) == 1 and isinstance(only, dict) else items


def _page(link: str) -> str:
    outside = link.removeprefix("../")
    return PROJECT[outside] if outside != link else link
