"""The Markdown of each page beside its HTML, and llms.txt, which lists these pages for programs that read them."""

import re
from collections.abc import Callable
from os.path import relpath
from pathlib import Path, PurePosixPath
from typing import Any

import griffe
from tools.docs_site.navigation import entries
from tools.docs_site.pages import ROOT, with_links

#: Where mkdocstrings inserts the reference of a name.
_DIRECTIVE = re.compile(r"^::: awx_ratelimit\.(?P<name>[\w.]+)(?P<options>(?:\n    .*)*)$", re.MULTILINE)
#: Where tools write a generated part of a page, on a line of its own or within one.
_MARKER = re.compile(r"^<!-- .*? -->\n|<!-- .*? -->", re.MULTILINE)
_MEMBERS = re.compile(r"members: \[(.*)\]")


def twin_of(page: str) -> str:
    """Return the place of a page's Markdown in the site: beside its index.html."""
    path = PurePosixPath(page)
    folder = path.parent if path.name in ("index.md", "README.md") else path.with_suffix("")
    return str(folder / "index.md")


def write_twins(pages: dict[str, str], site: Path) -> None:
    """Write the Markdown of each page, with links to the Markdown of other pages and with the reference of names."""
    reference = _reference()
    for page, markdown in pages.items():
        text = _DIRECTIVE.sub(reference, markdown)
        text = _MARKER.sub("", text)
        (site / twin_of(page)).write_text(with_links(text, lambda link, page=page: _twin_link(link, page)))


def write_llms_txt(site: Path, name: str, description: str) -> None:
    """Write llms.txt: the name, one sentence, and each page of the navigation with what it is about."""
    lines, part = [f"# {name}", "", f"> {description}"], ""
    for entry in entries():
        if entry.part != part:
            part = entry.part
            lines += ["", f"## {part}", ""]
        lines.append(f"- [{entry.title}]({twin_of(entry.page)}): {entry.about}")
    (site / "llms.txt").write_text("\n".join(lines) + "\n")


def _reference() -> Callable[[re.Match[str]], str]:
    """Return the function that writes the reference of a name: its signature, its promise, and those of its members."""
    extensions = griffe.load_extensions(str(ROOT / "tools/docs_site/reference_objects.py"))
    package: Any = griffe.GriffeLoader(search_paths=[str(ROOT / "src")], extensions=extensions).load("awx_ratelimit")

    def written(match: re.Match[str]) -> str:
        found, shown = package[match["name"]], _MEMBERS.search(match["options"])
        names = shown[1].split(", ") if shown else None
        parts = [_signature(found) + _promise(found)]
        if found.is_class and "members: false" not in match["options"]:
            members = [
                member for key, member in found.all_members.items() if (key in names if names else key[0] != "_")
            ]
            parts += [
                f"### {member.name}\n\n{_signature(member)}{_promise(member)}" for member in members if _promise(member)
            ]
        return "\n\n".join(parts)

    return written


def _signature(found: Any) -> str:
    if found.is_attribute:
        return f"```python\n{found.name}: {found.annotation or found.value}\n```\n\n"
    called = found.all_members.get("__init__") if found.is_class else found
    if not hasattr(called, "parameters"):
        return ""
    text = called.signature(return_type=not found.is_class).replace("__init__", found.name)
    if "async" in called.labels:
        text = f"async def {text}"
    return f"```python\n{text}\n```\n\n"


def _promise(found: Any) -> str:
    return found.docstring.value if found.docstring else ""


def _twin_link(link: str, page: str) -> str:
    target = relpath(PurePosixPath(page).parent / link, ".")
    return relpath(twin_of(target) if target.endswith(".md") else target, PurePosixPath(twin_of(page)).parent)
