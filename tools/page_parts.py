"""The generated parts of a page: what stands between ``<!-- name -->`` and ``<!-- /name -->``."""

import re
from functools import partial


def part_in(text: str, name: str) -> str:
    """Return what a page has between two markers. Raises ValueError if it does not have both."""
    found = _between(name).search(text)
    if found is None:
        raise ValueError(f"expected the markers <!-- {name} --> and <!-- /{name} -->")
    return found[0].strip("\n")


def with_parts(text: str, parts: dict[str, str]) -> str:
    """Return a page with new parts. Raises ValueError if it does not have all of them."""
    for name, part in parts.items():
        part_in(text, name)
        lines = f"\n{part}\n" if "\n" in part else part
        # A function, because a text would be read as a template.
        text = _between(name).sub(partial(_return, lines), text)
    return text


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _return(text: str, _: object) -> str:
    return text


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->).*?(?=<!-- /{name} -->)", re.DOTALL)
