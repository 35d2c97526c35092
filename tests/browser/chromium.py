"""The system's Chromium, driven by Playwright, and axe, which finds accessibility problems."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

AXE = Path(__file__).parents[2] / ".node/node_modules/axe-core/axe.min.js"

#: Chromium loads two pages for the suggestions of each window's address bar, which takes longer than loading ours.
#: Chromium reads only the last list, so this one repeats the names in Playwright's list that matter to our tests.
_DISABLED_FEATURES = (
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup",
    "HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "PaintHolding", "ThirdPartyStoragePartitioning",
    "OptimizationHints", "NetworkTimeServiceQuerying", "MediaRouter", "AimEnabled", "DestroyProfileOnBrowserClose",
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser. Raises RuntimeError if Chromium is not installed."""
    # The shell takes half the processor time.
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        raise RuntimeError("Chromium is not installed; run `make chromium`")
    # Chromium has no sandbox for root.
    arguments = ["--disable-gpu", f"--disable-features={','.join(_DISABLED_FEATURES)}"]
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def axe_violations(page: Any) -> list[tuple[str, str, str]]:
    """The serious and critical violations that axe finds: rule, element and description."""
    if not AXE.exists():
        raise RuntimeError("axe-core is not installed; run `make axe-core`")
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
    return [
        (violation["id"], node["html"], node["failureSummary"])
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
