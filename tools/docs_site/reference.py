"""The pages of docs/reference/ as mkdocstrings takes them.

Such a page has a section for each public name: a heading, an example that a test runs, and a line ``::: module.Name``.
In the site, the heading is that of mkdocstrings, and the example stands between the promise and the members.
"""

import json
import re
from pathlib import Path

_SECTION = re.compile(
    r"^## (?P<title>[^\n]+)\n\n```python\n(?P<example>.*?)```\n\n^::: (?P<name>[\w.]+)\n(?P<options>(?:    [^\n]*\n)*)",
    re.MULTILINE | re.DOTALL,
)


def write_sections(page: Path) -> None:
    """Rewrite a prepared page for mkdocstrings."""
    page.write_text(_SECTION.sub(_section, page.read_text()))


def _section(match: re.Match[str]) -> str:
    options = match["options"] or "    options:\n"
    if "members: false" in options:
        # Else mkdocstrings shows all inherited members, private ones too.
        options += "      inherited_members: false\n"
    # A JSON text is one of YAML too, in one line: an empty line would end the directive.
    heading, example = json.dumps(match["title"]), json.dumps(match["example"])
    titles = f"      heading: {heading}\n      toc_label: {heading}\n"
    return f"::: {match['name']}\n{options}{titles}      extra: {{example: {example}}}\n"
