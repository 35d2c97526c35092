"""The operator's console in Chromium: tasks with and without JavaScript, accessibility, and phones."""

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from tests.browser.chromium import axe_violations
from tests.browser.site import OPERATOR_SESSION, Site
from tests.browser.test_access import PHONE, WIDE
from tests.console.operator.conftest import PAGES

NAME = "ann@ops.example"


@pytest.fixture
def account(site: Site) -> str:
    """An account with a long id, temporary and permanent limits, keys and usage."""
    account = site.account("acct-" + "long-id/" * 12 + str(site.service.accounts.list().total), plan="team")
    key = site.key(account, "prod-" + "long-name-" * 5, used_days_ago=0)
    site.held += site.use(key, "team", requests=50, open=4)
    site.record(key, 1, 10**9, 10**6, refusals={"account.minute": 10**6}, shadows={"hour": 10**6, "l" * 32: 7}, peak=3)
    site.service.accounts.set_overrides(account, {"per_day": 5_000, "account": {"per_month": 9_000_000}}, actor=NAME)
    return account


def entered(page: Page, site: Site) -> Page:
    """The page, logged in as an operator."""
    page.context.add_cookies([{"name": OPERATOR_SESSION, "value": NAME, "url": site.url}])
    return page


def url(path: str, account: str) -> str:
    """The address of a page, about the account if it is about one."""
    return f"/operator{path}?id={quote(account)}" if path.startswith("/account") else f"/operator{path}"


def test_acts(page: Page, site: Site, account: str) -> None:
    """An operator finds an account, doubles its limits for a time, changes its plan, suspends it and resumes it."""
    entered(page, site)
    page.goto("/operator/")
    page.get_by_label("Id begins with").fill(account[:8])
    page.keyboard.press("Enter")
    page.get_by_role("link", name=account).click()
    page.get_by_role("link", name="Temporary limits").click()
    page.get_by_label("End", exact=True).select_option("7-days")
    page.get_by_role("button", name="Set temporary limits").click()
    expect(page.get_by_text("All limits are multiplied by 2.")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Ends on \w+day \d+ \w+"))).to_be_visible()
    page.get_by_role("button", name="End now").click()
    expect(page.get_by_role("status").first).to_have_text("Temporary limits ended.")
    page.get_by_role("link", name="Change plan").click()
    page.get_by_label("Plan").select_option("growth")
    page.get_by_role("button", name="Change plan").click()
    expect(page.get_by_text("Plan growth")).to_be_visible()
    page.get_by_role("link", name="Suspend").click()
    page.get_by_role("textbox").fill("acct")
    page.get_by_role("button", name="Suspend account").click()
    expect(page.get_by_role("alert")).to_contain_text("Not the id of this account")
    page.get_by_role("textbox").fill(account)
    page.get_by_role("button", name="Suspend account").click()
    expect(page.get_by_role("alert")).to_contain_text("This account is suspended.")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status").first).to_contain_text("Account resumed.")

    events = site.service.events(account, page_size=6).items
    assert [event.action for event in events[:5]] == [
        "account.activated", "account.suspended", "account.plan_set", "account.override_ended", "account.override_set",
    ]  # fmt: skip
    assert {event.actor for event in events[:5]} == {f"operator:{NAME}"}


def test_limits_and_explain(page: Page, site: Site, account: str) -> None:
    """An operator mends a mistake in the permanent limits, and lets the gate explain a request of a key."""
    entered(page, site)
    page.goto(url("/account", account))
    page.get_by_role("link", name="Change permanent limits").click()
    page.get_by_label("Limits", exact=True).fill("per_minute = 3\nper_hour 4")
    page.get_by_role("button", name="Save limits").click()
    expect(page.get_by_role("alert")).to_contain_text("at line 2")
    expect(page.get_by_label("Limits", exact=True)).to_be_focused()
    page.get_by_label("Limits", exact=True).fill("per_minute = 3\nper_hour = 4")
    page.get_by_role("button", name="Save limits").click()
    page.get_by_role("link", name="Explain a request").click()
    page.get_by_label("Method").select_option("POST")
    page.get_by_label("Path").fill("/v1/transfers")
    page.get_by_role("button", name="Explain").click()

    expect(page.get_by_role("row", name=re.compile("Requests per hour 4 of 4 5 refuses"))).to_be_visible()


def test_find_a_key(page: Page, site: Site, account: str) -> None:
    """An operator finds the account of a key that a log shows."""
    key = site.service.list(account).items[0]
    entered(page, site)
    page.goto("/operator/")
    page.get_by_role("link", name="Find a key").click()
    page.get_by_label("Shown as").fill(key.masked)
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name=re.compile(f"{key.id} active"))).to_be_visible()
    page.get_by_role("link", name=account).click()

    expect(page.get_by_role("heading", level=1)).to_contain_text(account)


def test_live(opened: Callable[..., Page], site: Site, account: str) -> None:
    """The bars of an open page follow what the account uses."""
    page = entered(opened(), site)
    page.goto(url("/account", account))
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    site.use_account(account, 7)

    expect(page.get_by_role("meter", name="All keys together, this minute")).to_have_js_property("value", 57)


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        pytest.param("light", WIDE, marks=pytest.mark.full),
        ("dark", PHONE),
        pytest.param("dark", WIDE, marks=pytest.mark.full),
    ],
    ids=["wide", "phone", "dark"],
)
def test_access(opened: Callable[..., Page], site: Site, account: str, scheme: str, size: dict[str, int]) -> None:
    """Axe finds no serious violation on any page, none scrolls sideways, and no policy is violated."""
    options = {"color_scheme": scheme, "viewport": size, "bypass_csp": True}
    page = entered(opened(**options), site)
    found, wide = {}, []
    shown = site.service.list(account).items[0].masked
    for path in [*PAGES, "/no", "/?prefix=a%20b", f"/keys?shown={shown}", "/keys?shown=x"]:
        page.goto(url(path, account))
        found[path] = axe_violations(page)
        wide += [path] * (page.evaluate("document.documentElement.scrollWidth") > size["width"])
    page.goto(url("/account/temporary", account))
    page.get_by_label("Multiply").fill("x")
    page.get_by_role("button", name="Set temporary limits").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found["wrong"] = axe_violations(page)
    page.goto("/operator/explain")
    page.get_by_label("Path").fill("/v1/transfers?" + "x" * 300)
    page.get_by_label("Id of the key").fill(site.service.list(account).items[0].id)
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("table").first).to_be_visible()
    found["explained"] = axe_violations(page)
    wide += ["explained"] * (page.evaluate("document.documentElement.scrollWidth") > size["width"])

    assert {path: what for path, what in found.items() if what} == {}
    assert wide == []
