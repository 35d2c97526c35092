"""The pages that readers see: their code blocks, headings and links."""

import re
import sys
import warnings
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, NamedTuple

from tests.route_names import no_other_routes

from awx_ratelimit import AsyncGate
from awx_ratelimit.adapters.asgi.middleware import RateLimitMiddleware

ROOT = Path(__file__).parents[2]
#: The pages for users. Decisions and notes for contributors have no code that users run.
PAGES = [
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "decisions"),
]
#: All pages with links.
LINKED_PAGES = [
    *(str(path.relative_to(ROOT)) for folder in ("", "benchmarks") for path in sorted((ROOT / folder).glob("*.md"))),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))),
]
#: A part that a tool writes, such as the files of examples/migration, which tests/migration runs.
_GENERATED = re.compile(r"^<!-- (\w+) -->$.*?^<!-- /\1 -->$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^( *)```([a-z]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A code block of a page."""

    page: str
    language: str
    text: str


def text_of(page: str) -> str:
    """The whole text of a page."""
    return (ROOT / page).read_text()


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return [block.text for block in all_blocks(page) if block.language == language]


def all_blocks(page: str) -> list[Block]:
    """All code blocks of a page, in their order."""
    return [Block(page, language, dedent(text)) for _, language, text in _BLOCK.findall(text_of(page))]


def written_blocks(page: str) -> list[str]:
    """The Python blocks of a page that were written by hand."""
    return [
        dedent(text) for _, language, text in _BLOCK.findall(_GENERATED.sub("", text_of(page))) if language == "python"
    ]


def prose(page: str) -> str:
    """A page without its code blocks."""
    return _BLOCK.sub("", text_of(page))


def run(page: str, **given: Any) -> dict[str, Any]:
    """Run the Python blocks of a page that were written by hand, with the names in `given`; return their names."""
    return run_text("".join(written_blocks(page)), **given)


def run_first(page: str) -> dict[str, Any]:
    """Run the first Python block of a page; return its names."""
    return run_text(blocks(page, "python")[0])


def run_text(text: str, **given: Any) -> dict[str, Any]:
    """Run a program with the names in `given`; return its names."""
    module = ModuleType("page_of_the_docs")
    # Litestar looks the module of a function up.
    sys.modules[module.__name__] = module
    names = vars(module)
    names.update(given)
    with no_other_routes():
        exec(compile(text, "a page", "exec", dont_inherit=True), names)
    return names


def import_pyramid() -> None:
    """Import Pyramid, which imports modules that are deprecated, before a page does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("pyramid.config")


def gate_of(app: Any) -> AsyncGate:
    """The gate of the middleware that was added to a Starlette or FastAPI app."""
    part = app.middleware_stack = app.build_middleware_stack()
    while not isinstance(part, RateLimitMiddleware):
        part = part.app
    return part.gate
