"""Screenshots of the operator's console: ``python -m tests.browser.operator_screenshots docs/console``."""

import sys
from datetime import datetime, timedelta
from math import pi, sin
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, Page
from tests.browser.chromium import chromium
from tests.browser.site import DAY_MS, OPERATOR_SESSION, Site, site

from awx_ratelimit.keys import ApiKey

WIDE, TALL, FORM = {"width": 1180, "height": 860}, {"width": 1180, "height": 1560}, {"width": 1180, "height": 900}
PHONE = {"width": 390, "height": 1180}
#: The account of the pages about one account.
CHOSEN = "acct_northwind"
#: Id, plan, requests of the busiest hour, share of them that is refused.
ACCOUNTS = [
    ("acct_aurora", "growth", 5_200, 0.002),
    ("acct_birch-and-co", "starter", 260, 0.31),
    ("acct_cobalt", "team", 1_900, 0.0),
    ("acct_delta-labs", "starter", 40, 0.0),
    ("acct_ember", "starter", 610, 0.12),
    (CHOSEN, "growth", 3_400, 0.045),
    ("acct_orchard", None, 12, 0.0),
    ("acct_quarry", "growth", 2_300, 0.011),
]


def take(browser: Browser, folder: Path) -> None:
    """Take all of them, on a site of their own."""
    with TemporaryDirectory(prefix="awx-shots-") as place, site(Path(place)) as shown:
        _fill(shown)
        _shot(browser, shown, "/?order=requests", folder / "operator-accounts.png")
        _shot(browser, shown, "/?order=requests", folder / "operator-accounts-phone.png", size=PHONE)
        account = f"/account?id={CHOSEN}"
        _shot(browser, shown, account, folder / "operator-account.png", size=TALL)
        _shot(browser, shown, account, folder / "operator-account-dark.png", size=TALL, scheme="dark")
        _shot(browser, shown, account, folder / "operator-account-phone.png", size=PHONE)
        _shot(browser, shown, f"/account/temporary?id={CHOSEN}", folder / "operator-temporary.png", size=FORM)
        _shot(browser, shown, "/shadow", folder / "operator-shadow.png")
        _shot(browser, shown, "/activity", folder / "operator-activity.png")
        page = _opened(browser, shown, FORM, "light")
        page.goto(f"{shown.url}/operator/explain?key_id={shown.service.list(CHOSEN).items[0].id}")
        page.get_by_label("Method").select_option("POST")
        page.get_by_label("Path").fill("/v1/transfers")
        page.get_by_role("button", name="Explain").click()
        _save(page, folder / "operator-explain.png")
        page.context.close()


def _fill(shown: Site) -> None:
    random, now_ms = Random(5), shown.clock.now_ms()
    for number, (account, plan, busiest, refused) in enumerate(ACCOUNTS):
        shown.clock.set(now_ms - (200 - 9 * number) * DAY_MS)
        shown.account(account, plan=plan)
        shown.clock.set(now_ms)
        names = {"prod-api": 1.0, "prod-worker": 0.4} if busiest > 300 else {"prod": 1.0}
        for name, share in names.items():
            key = shown.key(account, name, days_old=60, used_days_ago=0.01)
            _record(shown, key, busiest * share, refused, random)
    _act(shown)


def _act(shown: Site) -> None:
    accounts, now_ms = shown.service.accounts, shown.clock.now_ms()
    shown.clock.set(now_ms - 2 * DAY_MS)
    accounts.suspend("acct_birch-and-co", actor="operator:ann@ops.example")
    accounts.set_overrides(
        CHOSEN, {"per_day": 150_000, "account": {"per_month": 5_000_000}}, actor="operator:bo@ops.example"
    )
    shown.clock.set(now_ms)
    now = shown.service.usage.history(CHOSEN, by="hour").items[-1].begins_at
    midnight = (now + timedelta(days=3)).replace(hour=0)
    accounts.override(CHOSEN, {"times": 2}, until=midnight, actor="operator:ann@ops.example")
    api, worker = shown.service.list(CHOSEN).items
    plan = shown.plan(CHOSEN)
    for key, requests in ((api, 412), (worker, 95)):
        for _ in range(requests):
            shown.limiter.release(shown.limiter.acquire(key.family_id, plan))
    assert plan.account is not None
    shown.limiter.acquire(CHOSEN, plan.account, 1_940_000, scope="account")


def _record(shown: Site, key: ApiKey, busiest: float, refused_share: float, random: Random) -> None:
    now = shown.service.usage.history(key.account_id, by="hour").items[-1].begins_at
    for hours_ago in range(30 * 24):
        wanted = int(_demand(now - timedelta(hours=hours_ago)) * busiest * random.uniform(0.8, 1.2))
        refused = int(wanted * refused_share * random.choice((0, 0.5, 2)))
        shadows = {"hour": wanted // 60, "account.day": wanted // 900} if refused_share else {}
        shown.record(
            key,
            hours_ago,
            wanted - refused,
            refused,
            refusals={"minute": refused - refused // 4, "concurrent": refused // 4},
            shadows={name: number for name, number in shadows.items() if number},
            peak=min(25, 1 + wanted // 300),
        )


def _demand(at: datetime) -> float:
    """Busy by day, quiet at night and on weekends."""
    daylight = max(0.05, sin((at.hour - 6) / 16 * pi)) if at.hour >= 6 else 0.05
    return daylight * (0.35 if at.isoweekday() > 5 else 1.0)


def _opened(browser: Browser, shown: Site, size: Any, scheme: Any) -> Page:
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    context.add_cookies([{"name": OPERATOR_SESSION, "value": "ann@ops.example", "url": shown.url}])
    return context.new_page()


def _save(page: Page, file: Path) -> None:
    page.locator("body").evaluate("() => document.fonts.ready")
    page.screenshot(path=file)


def _shot(browser: Browser, shown: Site, path: str, file: Path, *, size: Any = None, scheme: str = "light") -> None:
    page = _opened(browser, shown, size or WIDE, scheme)
    page.goto(f"{shown.url}/operator{path}")
    _save(page, file)
    page.context.close()


if __name__ == "__main__":
    with chromium() as opened:
        take(opened, Path(sys.argv[1]))
