"""Where the pages of the documentation are, for log lines, help texts and the consoles.

A page is a URL on the site of the project. Until that has an address, it is a path in the repository, such as
``docs/errors.md#csrf_failed``. `make docs` builds the site of static files. Where somebody else serves it, the variable
AWX_DOCS_URL names its address.
"""

import os
import re
from typing import Final

VARIABLE: Final = "AWX_DOCS_URL"
#: The address of the site that the project serves: the same as ``Documentation`` in ``[project.urls]``. The first
#: release gives it one.
SITE: Final = ""
_is_address = re.compile(r"https?://[^\s\"'<>]+").fullmatch


def page(name: str, anchor: str = "") -> str:
    """Where the page `name` is, such as ``errors`` or ``reference/keys``, and `anchor` on it."""
    place = page_url(name) or _page_at(SITE, name) or f"docs/{name}.md"
    return f"{place}#{anchor}" if anchor else place


def page_url(name: str) -> str:
    """The URL of the page `name`, or an empty text if AWX_DOCS_URL is not the address of a site.

    For the consoles: their readers are customers, and only the operator decides where links lead them.
    """
    return _page_at(os.environ.get(VARIABLE, ""), name)


def _page_at(address: str, name: str) -> str:
    return f"{address.rstrip('/')}/{name}/" if _is_address(address) else ""
