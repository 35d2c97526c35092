"""Builds the documentation site from docs/.

python -m tools.docs_site build    write it into site/; a broken link, a missing anchor or an unlisted page is an error
python -m tools.docs_site check    the same, into a folder that is removed again
python -m tools.docs_site serve    show it at localhost:8000 or another address, and build it again when a page changes
"""

import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

from tools.docs_site.navigation import missing, tree
from tools.docs_site.pages import DOCS, ROOT, prepare
from tools.docs_site.reference import write_sections
from tools.docs_site.twins import write_llms_txt, write_twins

#: Zensical reads its configuration and pages here, and keeps its cache here. The site must be inside of it.
WORK = ROOT / ".site"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def build(site: Path) -> None:
    """Build the whole site. Exits with what is wrong if a link, an anchor or the navigation is broken."""
    markdown = prepared()
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=WORK,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        sys.exit(_COLOUR.sub("", built.stdout + built.stderr.partition("Traceback")[0]))
    write_twins(markdown, WORK / "site")
    write_llms_txt(WORK / "site", *described())
    if site != WORK / "site":
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(WORK / "site", site)


def prepared() -> dict[str, str]:
    """Write the pages and the configuration that Zensical reads; return the Markdown of each page."""
    pages = prepare(WORK / "next")
    if unlisted := missing(pages):
        sys.exit(f"docs/index.md does not list: {', '.join(unlisted)}")
    markdown = {page: (WORK / "next" / page).read_text() for page in pages}
    for page in (WORK / "next/reference").glob("*.md"):
        write_sections(page)
    _update(WORK / "pages", WORK / "next")
    text = (ROOT / "zensical.toml").read_text()
    (WORK / "zensical.toml").write_text(text.replace("nav = []", f"nav = {_toml(tree())}"))
    return markdown


def _update(target: Path, source: Path) -> None:
    """Make `target` equal to `source`. Zensical watches it, so files that are the same are left alone."""
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if not (source / path.relative_to(target)).exists():
            path.unlink()
    for path in [path for path in source.rglob("*") if path.is_file()]:
        place = target / path.relative_to(source)
        if not place.exists() or place.read_bytes() != path.read_bytes():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def described() -> tuple[str, str]:
    """Return the name of the site, and the sentence that describes it."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    return project["site_name"], project["site_description"]


def serve(address: str = "localhost:8000") -> None:
    """Show the site at `address`, and prepare its pages again when one of them has changed."""
    prepared()
    threading.Thread(target=_watch, daemon=True).start()
    subprocess.run([sys.executable, "-m", "zensical", "serve", "--dev-addr", address], cwd=WORK, check=False)


def _watch() -> None:
    seen = _newest()
    while True:
        time.sleep(0.5)
        newest = _newest()
        if newest == seen:
            continue
        seen = newest
        try:
            prepared()
        except (OSError, SystemExit) as error:
            # A page may be half written, and gets better with the next change.
            print(error, file=sys.stderr)


def _newest() -> float:
    return max(path.stat().st_mtime for path in DOCS.rglob("*"))


def _toml(value: Any) -> str:
    """Return a list, a table or a text in TOML, in one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def main(action: str = "", *addresses: str) -> None:
    """Do what the first argument says."""
    if action == "build":
        build(ROOT / "site")
        print("The site is in site/: open site/index.html through a web server, such as `make docs-serve`")
    elif action == "check":
        build(WORK / "site")
    elif action == "serve":
        serve(*addresses)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
