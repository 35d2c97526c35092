"""One browser and one site for all tests; each test has its own account."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster
from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from tests.browser.chromium import chromium
from tests.browser.site import SESSION, Site
from tests.browser.site import site as running_site

#: No page promises a duration, so only a test that fails waits for so long. It ends before pytest's own time-out.
TIMEOUT_MS = 60_000
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="package", autouse=True)
def _calls_may_block(blockbuster: BlockBuster) -> None:
    """Allow blocking calls: Playwright runs its event loop in the thread of the tests and of their fixtures."""
    blockbuster.deactivate()


@pytest.fixture
def nothing_blocks_the_event_loop() -> None:
    """Leave blocking calls allowed."""


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


class Profile:
    """A page in its own browser profile, used by one test after another, and its complaints."""

    def __init__(self, browser: Browser, options: dict[str, Any], *, may_complain: bool) -> None:
        self._context = browser.new_context(**options)
        self.page = self._context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.complaints: list[str] = []
        if not may_complain:
            self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
            self.page.on("console", self._note)
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def begin(self, account: str, url: str) -> Page:
        """The page, logged in to an account, without other cookies."""
        self._context.clear_cookies()
        self._context.add_cookies([{"name": SESSION, "value": account, "url": url}])
        return self.page

    def end(self) -> list[str]:
        """Leave the page. Returns the errors, dialogs and policy violations since `begin`."""
        self.page.unroute_all()
        self.page.goto("about:blank")
        found, self.complaints[:] = self.complaints[:], []
        return found

    def _note(self, said: ConsoleMessage) -> None:
        if "Policy" in said.text:
            self.complaints.append(said.text)


@pytest.fixture(scope="package")
def profiles(browser: Browser) -> dict[str, Profile]:
    """The open profiles by their options. Opening one takes a second."""
    return {}


@pytest.fixture
def opened(browser: Browser, profiles: dict[str, Profile], site: Site, account: str) -> Iterator[Callable[..., Page]]:
    """Open a page that is logged in. The test fails for any error, dialog or policy violation on it."""
    used: list[Profile] = []

    def open_page(*, may_complain: bool = False, **options: Any) -> Page:
        options = {"base_url": site.url, "reduced_motion": "reduce", **options}
        name = repr((may_complain, options))
        profiles[name] = profiles.get(name) or Profile(browser, options, may_complain=may_complain)
        used.append(profiles[name])
        return used[-1].begin(account, options["base_url"])

    yield open_page
    assert [profile.end() for profile in used] == [[]] * len(used)


@pytest.fixture(params=[True, False], ids=["script", "plain"])
def page(request: pytest.FixtureRequest, opened: Callable[..., Page]) -> Page:
    """A page, with and without JavaScript."""
    return opened(java_script_enabled=request.param)


@pytest.fixture
def scripted(opened: Callable[..., Page]) -> Page:
    """A page with JavaScript, which may use the clipboard."""
    return opened(permissions=["clipboard-read", "clipboard-write"])
