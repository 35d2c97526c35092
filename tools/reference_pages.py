"""Writes the ends of docs/reference/cli.md and rest.md from the command line and from the OpenAPI documents.

python tools/reference_pages.py            write the pages
python tools/reference_pages.py --check    write nothing; exit with status 1 if a page is out of date
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

# Another width, or an address of the documentation, would change the help. It is read when the modules are imported.
os.environ |= {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "AWX_DOCS_URL": ""}

from awx_ratelimit import PlanTable
from awx_ratelimit.cli.app import app
from awx_ratelimit.management import openapi, operator_openapi

FOLDER = Path(__file__).parents[1] / "docs/reference"
#: What stands before it is written by hand.
MARK = "<!-- written by tools/reference_pages.py -->\n"


def cli_page() -> str:
    """Return the page of the command line: the help of each command."""
    parts = []
    for words in _commands([]):
        title = " ".join(["awx-ratelimit", *words])
        parts.append(f"## {title}\n\n```text\n{_help(words)}\n```\n")
    return "\n".join(parts)


def rest_page() -> str:
    """Return the page of both REST APIs: each call with its fields and statuses."""
    customers = openapi.document("/api/v1")
    operators = operator_openapi.document(
        "/api/v1/operator", [plan.name for plan in PlanTable.default().plans], has_gate=True
    )
    parts = ["## Calls for customers\n", *_calls(customers), "## Calls for operators\n", *_calls(operators)]
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


def _calls(document: Mapping[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    for path, item in document["paths"].items():
        for method, call in item.items():
            if method != "parameters":
                yield _call(document["servers"][0]["url"] if "servers" in document else "", method, path, call, schemas)


def _call(base: str, method: str, path: str, call: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    lines = [f"### {method.upper()} {base}{path}\n", f"{call['summary']}.\n", "| | |", "| --- | --- |"]
    queries = [parameter["name"] for parameter in call.get("parameters", []) if parameter.get("in") == "query"]
    if queries:
        lines.append(f"| query | {', '.join(f'`{name}`?' for name in queries)} |")
    if "requestBody" in call:
        lines.append(f"| body | {_fields(call['requestBody'], schemas)} |")
    for status, response in sorted(call["responses"].items()):
        if status < "300":
            lines.append(f"| {status} | {_fields(response, schemas) or 'no body'} |")
    errors = [status for status in sorted(call["responses"]) if status >= "300"]
    lines.append(f"| errors | {', '.join(errors)} |\n")
    return "\n".join(lines)


def _fields(part: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    content = part.get("content", {}).get("application/json")
    if content is None:
        return ""
    schema = content["schema"]
    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    required = schema.get("required", [])
    return ", ".join(f"`{name}`{'' if name in required else '?'}" for name in schema.get("properties", {}))


PAGES = {"cli.md": cli_page, "rest.md": rest_page}


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
