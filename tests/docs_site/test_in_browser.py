"""The site in a browser: readable for everybody, on a phone, offline, and under any path."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.browser.chromium import axe_violations, chromium
from tests.docs_site.static_server import serving

pytestmark = pytest.mark.full
PAGES = [
    "",
    "tutorial/",
    "gate/",
    "errors/",
    "examples/",
    "reference/limiters/",
    "reference/rest/",
    "reference/cli/",
    "capacity/",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of the module."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site on a server that has it under a path."""
    root = tmp_path_factory.mktemp("served")
    (root / "docs").symlink_to(site)
    with serving(root) as origin:
        yield f"{origin}/docs/"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_access(browser: Browser, address: str, scheme: Any) -> None:
    """Axe finds nothing serious on any of the pages, in either scheme."""
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    found = {}
    for name in PAGES:
        page.goto(address + name, wait_until="networkidle")
        found[name] = axe_violations(page)
    context.close()

    assert found == {name: [] for name in PAGES}


def test_nothing_from_elsewhere(browser: Browser, address: str) -> None:
    """All requests of the pages go to the site, below its path, and succeed."""
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
    for name in PAGES:
        page.goto(address + name, wait_until="networkidle")
    context.close()

    assert len(asked) > len(PAGES)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert failed == []


def test_search(browser: Browser, address: str) -> None:
    """The search finds a name of the public API."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address, wait_until="networkidle")
    page.keyboard.press("Control+k")
    # Until its field has the focus, letters are shortcuts of the page.
    page.wait_for_function("document.activeElement?.shadowRoot?.activeElement?.tagName === 'INPUT'")
    page.keyboard.type("open_async_backend")
    page.locator("a[href*='reference/backends']:visible").first.wait_for()
    context.close()


def test_phone(browser: Browser, address: str) -> None:
    """No page is wider than a phone."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    widths = {}
    for name in PAGES:
        page.goto(address + name)
        widths[name] = page.evaluate("document.documentElement.scrollWidth")
    context.close()

    assert {name: width for name, width in widths.items() if width > 390} == {}
