"""Writes the ends of docs/reference/cli.md and rest.md from the command line and from the OpenAPI documents.

python tools/reference_pages.py            write the pages
python tools/reference_pages.py --check    write nothing; exit with status 1 if a page is out of date
"""

import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

# Another width, or an address of the documentation, would change the help. It is read when the modules are imported.
os.environ |= {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "AWX_DOCS_URL": ""}

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.rest_reference import rest_reference  # noqa: E402

from awx_ratelimit.cli.app import app  # noqa: E402

FOLDER = ROOT / "docs/reference"
#: What stands before it is written by hand.
MARK = "<!-- written by tools/reference_pages.py -->\n"


def cli_page() -> str:
    """Return the page of the command line: the help of each command."""
    parts = []
    for words in _commands([]):
        title = " ".join(["awx-ratelimit", *words])
        parts.append(f"## {title}\n\n```text\n{_help(words)}\n```\n")
    return "\n".join(parts)


def _commands(words: list[str]) -> Iterator[list[str]]:
    """The words of each command below `words`, in the order of the help."""
    _, found, listed = _help(words).partition("\nCommands:\n")
    if not found and words:
        yield words
    for line in listed.splitlines():
        # Lines that continue a help text are indented further.
        if line.startswith("  ") and line[2:3].strip() and "Documentation:" not in line:
            yield from _commands([*words, line.split()[0]])


def _help(words: list[str]) -> str:
    said = StringIO()
    with redirect_stdout(said):
        app(args=[*words, "--help"], prog_name="awx-ratelimit", standalone_mode=False)
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


PAGES = {"cli.md": cli_page, "rest.md": rest_reference}


def main(arguments: list[str]) -> int:
    """Write the pages, or say which of them are out of date."""
    status = 0
    for name, page in PAGES.items():
        path = FOLDER / name
        text = f"{path.read_text().partition(MARK)[0]}{MARK}\n{page()}"
        if arguments != ["--check"]:
            path.write_text(text)
        elif path.read_text() != text:
            print(f"docs/reference/{name}: out of date; run tools/reference_pages.py")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
