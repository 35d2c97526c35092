"""Writes the table "works with" of README.md from the rows that tests/works_with tests.

python tools/works_with.py            write the table, with the versions that are installed
python tools/works_with.py --check    write nothing; exit with status 1 if the names in it are out of date
"""

import re
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.works_with.rows import FRAMEWORKS, OWN_INTERFACES, ROUTE_LIMITS, SERVERS, Framework, Kind, Server  # noqa: E402

README = ROOT / "README.md"
MARKED = re.compile(r"(?<=<!-- works-with -->\n).*?(?=<!-- /works-with -->)", re.DOTALL)
_NOTE = "\\* The app cannot know that its client has hung up: its slot is released when the body ends."
_VERSION = re.compile(r" \d+(\.\d+)*(?=[ ,|*])")


def table() -> str:
    """Return the table as Markdown, with the versions that are installed."""
    lines = {
        "ASGI frameworks": _frameworks("ASGI"),
        "WSGI frameworks": _frameworks("WSGI"),
        "ASGI servers": _servers("ASGI"),
        "WSGI servers": _servers("WSGI"),
        "Other interfaces": [_named(name, package) for name, package, _ in OWN_INTERFACES],
        "Limits of single routes": [name for name, _ in ROUTE_LIMITS],
    }
    shown = "".join(f"| {kind} | {', '.join(names)} |\n" for kind, names in lines.items())
    return f"| Kind | Tested with |\n| --- | --- |\n{shown}\n{_NOTE}\n"


def without_versions(text: str) -> str:
    """Return a table without its versions."""
    return _VERSION.sub("", text)


def _frameworks(kind: Kind) -> list[str]:
    return [_framework(framework) for framework in FRAMEWORKS if framework.kind == kind]


def _framework(framework: Framework) -> str:
    return _named(framework.name, framework.package) + ("" if framework.hears_hang_ups else "\\*")


def _servers(kind: Kind) -> list[str]:
    modes: dict[str, list[Server]] = {}
    for server in SERVERS:
        if server.kind == kind:
            modes.setdefault(server.name, []).append(server)
    return [_server(name, servers) for name, servers in modes.items()]


def _server(name: str, servers: list[Server]) -> str:
    shown = [server.mode for server in servers if server.mode]
    return _named(name, servers[0].package) + (f" ({', '.join(shown)})" if shown else "")


def _named(name: str, package: str) -> str:
    return f"{name} {'.'.join(version(package).split('.')[:2])}" if package else name


def main() -> int:
    """Write the table, or check it."""
    text = README.read_text()
    found = MARKED.search(text)
    if found is None:
        print("README.md has no markers for the table: <!-- works-with --> and <!-- /works-with -->", file=sys.stderr)
        return 1
    if "--check" not in sys.argv:
        README.write_text(MARKED.sub(lambda _: table(), text))
        return 0
    if without_versions(found[0]) != without_versions(table()):
        print("The table of README.md is out of date; write it with: python tools/works_with.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
