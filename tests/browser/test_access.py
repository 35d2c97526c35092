"""The pages are accessible: axe finds no serious violation, and everything fits on a phone."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from tests.browser.chromium import axe_violations
from tests.browser.site import Site
from tests.browser.test_flows import create

WIDE, PHONE = {"width": 1180, "height": 800}, {"width": 360, "height": 740}
PATHS = [
    "/",
    "/?show=old",
    "/new",
    "/keys/{id}",
    "/keys/{id}/rotate",
    "/keys/{id}/delete",
    "/activity",
    "/plans",
    "/no",
]


@pytest.fixture(params=[pytest.param("starter", marks=pytest.mark.full), "team"])
def key_id(request: pytest.FixtureRequest, site: Site, account: str) -> str:
    """A rotated key with a long name, in an account that also has full, old and unused keys.

    The keys of the plan "team" share limits with long texts.
    """
    site.service.accounts.set_plan(account, request.param)
    if request.param == "team":
        month = {"limit": 100_000_000, "timezone": "America/Argentina/Buenos_Aires"}
        site.service.accounts.set_overrides(account, {"account": {"per_month": month}})
    site.key(account, "legacy", days_old=140)
    site.key(account, "aging", days_old=80, used_days_ago=1)
    busy = site.key(account, "busy", used_days_ago=0)
    site.held += site.use(busy, request.param, requests=50, open=4)
    key = site.key(account, "prod-" + "long-name-" * 5, days_old=93, used_days_ago=0)
    return site.service.rotate(account, key.id, actor="ann").key.rotated_from or ""


def test_axe(opened: Callable[..., Page], key_id: str) -> None:
    """Axe finds no serious violation on any page, including the responses to forms."""
    page = opened(viewport=WIDE, reduced_motion="reduce", bypass_csp=True)
    found = {}
    for path in PATHS:
        page.goto(f"/console{path.format(id=key_id)}")
        found[path] = axe_violations(page)
    create(page)
    found["created"] = axe_violations(page)
    page.reload()
    found["already"] = axe_violations(page)
    page.goto("/console/new")
    page.get_by_label("Name").fill(" ")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found["wrong"] = axe_violations(page)

    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(("scheme", "size"), [("dark", WIDE), ("light", PHONE)], ids=["dark", "phone"])
def test_axe_dark_and_phone(opened: Callable[..., Page], key_id: str, scheme: str, size: dict[str, int]) -> None:
    """Axe finds no serious violation in the dark theme and the phone layout."""
    page = opened(color_scheme=scheme, viewport=size, reduced_motion="reduce", bypass_csp=True)
    found = []
    for path in ("/", "/keys/{id}", "/plans"):
        page.goto(f"/console{path.format(id=key_id)}")
        found += axe_violations(page)
    create(page)

    assert found + axe_violations(page) == []


def test_axe_empty(opened: Callable[..., Page]) -> None:
    """Axe finds no serious violation on the page of an account without keys."""
    page = opened(bypass_csp=True)
    page.goto("/console/")

    assert axe_violations(page) == []


def test_axe_control(opened: Callable[..., Page]) -> None:
    """Axe finds an image without text and a heading without contrast."""
    page = opened(bypass_csp=True)
    page.goto("/console/")
    page.evaluate("() => { document.querySelector('h1').style.color = '#eee'; document.body.append(new Image()); }")

    assert {name for name, _, _ in axe_violations(page)} >= {"image-alt", "color-contrast"}


def test_phone(opened: Callable[..., Page], key_id: str) -> None:
    """On a phone no page scrolls sideways, and every button is large enough for a finger."""
    page = opened(viewport=PHONE, has_touch=True, is_mobile=True)
    wide, small = [], []
    for path in PATHS:
        page.goto(f"/console{path.format(id=key_id)}")
        width = page.evaluate("document.documentElement.scrollWidth")
        heights = page.locator(".button:visible").evaluate_all("all => all.map((one) => one.clientHeight)")
        wide += [path] * (width > PHONE["width"])
        small += [(path, height) for height in heights if height < 34]

    assert wide == []
    assert small == []
