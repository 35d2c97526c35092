"""The Markdown of each page beside its HTML, and llms.txt, which lists these pages for programs that read them."""

import inspect
import re
from importlib import import_module
from os.path import relpath
from pathlib import Path, PurePosixPath
from typing import Any

from tools.docs_site.navigation import entries
from tools.docs_site.pages import with_links

#: A line by which mkdocstrings inserts the reference of a name.
_DIRECTIVE = re.compile(r"^::: (?P<name>[\w.]+)(?:\n    .*)*$", re.MULTILINE)


def twin_of(page: str) -> str:
    """Return the place of a page's Markdown in the site: beside its index.html."""
    path = PurePosixPath(page)
    folder = path.parent if path.name in ("index.md", "README.md") else path.with_suffix("")
    return str(folder / "index.md")


def write_twins(pages: Path, names: list[str], site: Path) -> None:
    """Write the Markdown of each page, with links to the Markdown of other pages and with the reference of names."""
    for page in names:
        text = _DIRECTIVE.sub(lambda match: reference(match["name"]), (pages / page).read_text())
        (site / twin_of(page)).write_text(with_links(text, lambda link, page=page: _twin_link(link, page)))


def write_llms_txt(site: Path, name: str, description: str) -> None:
    """Write llms.txt: the name, one sentence, and each page of the navigation with what it is about."""
    lines, heading = [f"# {name}", "", f"> {description}", ""], ""
    for entry in entries():
        if entry.part != heading:
            heading = entry.part
            lines += ["" if lines[-1] else None, f"## {heading}", ""]
        lines.append(f"- [{entry.title}]({twin_of(entry.page)})" + (f": {entry.about}" if entry.about else ""))
    (site / "llms.txt").write_text("\n".join(line for line in lines if line is not None) + "\n")


def reference(name: str) -> str:
    """Return the reference of a public name in Markdown: its signature, its promise, and those of its members."""
    found = _object(name)
    parts = [_entry(name.rpartition(".")[2], found)]
    if inspect.isclass(found) and not issubclass(found, Exception):
        parts += [_entry(f"{found.__name__}.{key}", member) for key, member in _members(found)]
    return "\n\n".join(parts)


def _object(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def _members(found: type) -> list[tuple[str, Any]]:
    members = inspect.getmembers(found, lambda member: inspect.isroutine(member) or isinstance(member, property))
    return [(key, member) for key, member in members if not key.startswith("_") and inspect.getdoc(member)]


def _entry(title: str, found: Any) -> str:
    signature = _signature(title, found)
    return f"### {title}\n\n{signature}{inspect.getdoc(found) or ''}".rstrip()


def _signature(title: str, found: Any) -> str:
    try:
        text = str(inspect.signature(found)) if callable(found) else ""
    except ValueError:
        text = ""
    return f"```python\n{title}{text}\n```\n\n" if text else ""


def _twin_link(link: str, page: str) -> str:
    here = PurePosixPath(twin_of(page)).parent
    target = str(PurePosixPath(page).parent / link)
    target = relpath(target, ".")
    return relpath(twin_of(target) if target.endswith(".md") else target, here)
