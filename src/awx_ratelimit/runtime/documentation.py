"""Where the pages of the documentation are, for log lines, help texts and the consoles.

The project has no site of its own yet, so a page is a path in the repository, such as ``docs/errors.md#csrf_failed``.
`make docs` builds a site of static files. Where somebody serves it, the variable AWX_DOCS_URL names its address, and a
page is a URL.
"""

import os
import re
from typing import Final

VARIABLE: Final = "AWX_DOCS_URL"
_is_address = re.compile(r"https?://[^\s\"'<>]+").fullmatch


def page(name: str, anchor: str = "") -> str:
    """Where the page `name` is, such as ``errors`` or ``reference/keys``, and `anchor` on it."""
    place = page_url(name) or f"docs/{name}.md"
    return f"{place}#{anchor}" if anchor else place


def page_url(name: str) -> str:
    """The URL of the page `name`, or an empty text if AWX_DOCS_URL is not the address of a site."""
    address = os.environ.get(VARIABLE, "")
    return f"{address.rstrip('/')}/{name}/" if _is_address(address) else ""
