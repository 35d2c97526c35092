"""Chromium of the system, driven by Playwright; and axe, which finds what shuts people out."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

AXE = Path(__file__).parents[2] / ".node/node_modules/axe-core/axe.min.js"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Raises RuntimeError where there is none."""
    path = shutil.which("chromium")
    if path is None:
        raise RuntimeError("chromium is needed: make chromium, or install Debian's package of that name")
    # A sandbox is not to be had for root.
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def found_by_axe(page: Any) -> list[tuple[str, str, str]]:
    """What axe finds that is serious or critical: its name, the element, what is wrong."""
    if not AXE.exists():
        raise RuntimeError("axe-core is needed: make axe-core")
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
    return [
        (violation["id"], node["html"], node["failureSummary"])
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
