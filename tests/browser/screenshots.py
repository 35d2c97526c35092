"""Screenshots for docs/console.md and docs/operators.md: ``python -m tests.browser.screenshots docs/console``."""

import sys
from datetime import datetime, timedelta
from math import pi, sin
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, Page
from tests.browser.chromium import chromium
from tests.browser.operator_screenshots import take as take_operator
from tests.browser.site import DAY_MS, SESSION, Site, site

from awx_ratelimit.keys import ApiKey

WIDE = {"width": 1180, "height": 800}
TALL = {"width": 1180, "height": 1180}
PHONE, LONG_PHONE = {"width": 390, "height": 844}, {"width": 390, "height": 1450}


def main(folder: Path) -> None:
    """Take all screenshots."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="awx-shots-") as place, site(Path(place)) as shown, chromium() as browser:
        account = _account(shown)
        _shot(browser, shown, "new-account", "/", folder / "empty.png")
        page = _opened(browser, shown, account, WIDE, "light")
        _take(page, shown, "/", folder / "keys.png")
        _take(page, shown, "/activity", folder / "activity.png")
        _take(page, shown, "/plans", folder / "plans.png")
        _shot(browser, shown, account, "/", folder / "keys-dark.png", scheme="dark")
        _shot(browser, shown, account, "/", folder / "keys-phone.png", size=PHONE)
        _forms(page, shown, folder)
        _shot(browser, shown, _team(shown), "/", folder / "shared.png")
        team = _team_with_history(shown)
        _shot(browser, shown, team, "/usage", folder / "usage.png", size=TALL)
        _shot(browser, shown, team, "/usage", folder / "usage-dark.png", size=TALL, scheme="dark")
        _shot(browser, shown, team, "/usage?span=48-hours", folder / "usage-phone.png", size=LONG_PHONE)
        take_operator(browser, folder)


def _account(shown: Site) -> str:
    now_ms = shown.clock.now_ms()
    shown.clock.set(now_ms - 141 * DAY_MS)
    account = shown.account("acme")
    shown.clock.set(now_ms)
    shown.key(account, "legacy-importer", days_old=140, used_days_ago=61)
    shown.key(account, "prod-ledger-sync", days_old=93, used_days_ago=0.1)
    shown.key(account, "staging-ci", days_old=78, used_days_ago=2)
    backend = shown.key(account, "prod-payment-service", days_old=21, used_days_ago=0)
    worker = shown.key(account, "prod-invoice-worker", days_old=3, used_days_ago=0)
    # A decision that is garbage-collected would release its slot.
    shown.held = [*shown.use(worker, requests=56, open=5), *shown.use(backend, requests=23, open=2)]
    return account


def _team(shown: Site) -> str:
    """An account whose keys share limits."""
    account = shown.account("acme-team", plan="team")
    backend = shown.key(account, "prod-payment-service", days_old=21, used_days_ago=0)
    worker = shown.key(account, "prod-invoice-worker", days_old=3, used_days_ago=0)
    shown.held += [*shown.use(worker, "team", requests=41, open=3), *shown.use(backend, "team", requests=45, open=2)]
    return account


def _team_with_history(shown: Site) -> str:
    """An account with thirty days of usage, which has nearly used its quota."""
    account = shown.account("acme-history", plan="team", overrides={"account": {"per_minute": 1_000_000}})
    names = {"prod-payment-service": 1.0, "prod-invoice-worker": 0.45, "staging-ci": 0.08}
    keys = [(shown.key(account, name, days_old=60), share) for name, share in names.items()]
    shown.use_account(account, requests=832_000)
    random = Random(7)
    now = shown.service.usage.history(account, by="hour").items[-1].begins_at
    for hours_ago in range(30 * 24):
        at = now - timedelta(hours=hours_ago)
        for key, share in keys:
            _record_hour(shown, key, hours_ago, int(_demand(at, hours_ago) * share * random.uniform(0.8, 1.2)), random)
    return account


def _demand(at: datetime, hours_ago: int) -> float:
    """Busy by day, quiet at night and on weekends, and one day with far too many requests."""
    daylight = max(0.05, sin((at.hour - 6) / 16 * pi)) if at.hour >= 6 else 0.05
    weekday = 0.35 if at.isoweekday() > 5 else 1.0
    return 2_000 * daylight * weekday * (2.2 if 168 <= hours_ago < 192 else 1.0)


def _record_hour(shown: Site, key: ApiKey, hours_ago: int, wanted: int, random: Random) -> None:
    refused = max(0, wanted - 1_700) + int(wanted * random.choice((0, 0, 0.03)))
    allowed, shared = wanted - refused, refused // 3
    shown.record(
        key,
        hours_ago,
        allowed,
        refused,
        costs={"requests": allowed, "tokens": allowed * random.randint(700, 1_100)},
        refusals={"minute": refused - shared, "account.minute": shared},
        peak=min(8, 1 + wanted // 300),
    )


def _forms(page: Page, shown: Site, folder: Path) -> None:
    page.goto(f"{shown.url}/console/new")
    page.get_by_label("Name").fill("prod-payment-service")
    page.screenshot(path=folder / "create.png")
    page.get_by_role("button", name="Create key").click()
    page.screenshot(path=folder / "created.png")
    page.goto(f"{shown.url}/console/")
    page.get_by_role("link", name="Rotate prod-ledger-sync").click()
    page.screenshot(path=folder / "rotate.png", full_page=True)
    page.get_by_role("button", name="Create the new key").click()
    page.get_by_role("link", name="I have stored it").click()
    page.screenshot(path=folder / "rotation.png", full_page=True)
    page.goto(f"{shown.url}/console/")
    page.get_by_role("link", name="Delete staging-ci").click()
    page.get_by_role("textbox").fill("staging-")
    page.screenshot(path=folder / "delete.png")


def _opened(browser: Browser, shown: Site, account: str, size: Any, scheme: Any) -> Page:
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    context.add_cookies([{"name": SESSION, "value": account, "url": shown.url}])
    return context.new_page()


def _take(page: Page, shown: Site, path: str, file: Path) -> None:
    page.goto(f"{shown.url}/console{path}")
    page.locator("body").evaluate("() => document.fonts.ready")
    page.screenshot(path=file)


def _shot(
    browser: Browser, shown: Site, account: str, path: str, file: Path, *, size: Any = None, scheme: str = "light"
) -> None:
    page = _opened(browser, shown, account, size or WIDE, scheme)
    _take(page, shown, path, file)
    page.context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
