"""One browser and one site for all; each test has an account and a profile of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from tests.browser.chromium import chromium
from tests.browser.site import SESSION, Site
from tests.browser.site import site as running_site


@pytest.fixture
def nothing_blocks_the_event_loop() -> None:
    """Playwright's own loop runs in the thread of the tests, which may block here as they like."""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site under a real server."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def account(site: Site) -> str:
    """An account without keys."""
    return site.account()


@pytest.fixture
def opened(browser: Browser, site: Site, account: str) -> Iterator[Callable[..., Page]]:
    """Opens a page in a profile of its own, logged in; fails for anything that such a page complains of."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(*, may_complain: bool = False, **options: Any) -> Page:
        context = browser.new_context(**{"base_url": site.url, "reduced_motion": "reduce", **options})
        context.add_cookies([{"name": SESSION, "value": account, "url": site.url}])
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5_000)
        if not may_complain:
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda said: complaints.append(said.text) if "Policy" in said.text else None)
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(params=[True, False], ids=["script", "plain"])
def page(request: pytest.FixtureRequest, opened: Callable[..., Page]) -> Page:
    """A page, with and without JavaScript."""
    return opened(java_script_enabled=request.param)


@pytest.fixture
def scripted(opened: Callable[..., Page]) -> Page:
    """A page with JavaScript, which may use the clipboard."""
    return opened(permissions=["clipboard-read", "clipboard-write"])
