"""The page for addresses that do not exist: readable under any path and at any depth, where nothing relative works."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser.chromium import chromium
from tests.docs_site.static_server import QuietHandler, serving


class Hosting(QuietHandler):
    """A server of static files that sends the 404.html of the site under /a/path/ for what does not exist."""

    def send_error(self, code: int, *_: Any) -> None:
        page = Path(self.directory, "a/path/404.html").read_bytes()
        self.send_response(code)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


@pytest.fixture
def origin(site: Path, tmp_path: Path) -> Iterator[str]:
    """A server that has the site under a path of two parts."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/path").symlink_to(site)
    with serving(tmp_path, Hosting) as origin:
        yield origin


def test_not_found(origin: str) -> None:
    """At any depth the page has its styles, and finds the start page of the site."""
    seen = {}
    with chromium() as browser:
        page = browser.new_page()
        for address in ("nothing", "gate/nothing/", "a/b/c/nothing.html"):
            response = page.goto(f"{origin}/a/path/{address}")
            page.get_by_role("link").wait_for()
            width = page.locator("main").evaluate("element => getComputedStyle(element).maxWidth")
            page.get_by_role("link").click()
            page.wait_for_load_state()
            seen[address] = (response.status if response else 0, width, page.url, page.locator("h1").inner_text()[:13])

    assert set(seen.values()) == {(404, "640px", f"{origin}/a/path/", "awx_ratelimit")}


def test_nothing_is_loaded(site: Path) -> None:
    """The page names no other file, which would be at an unknown path."""
    text = (site / "404.html").read_text()

    assert "<style>" in text
    assert [word for word in ("<link", " src=", "url(", "@import") if word in text] == []
