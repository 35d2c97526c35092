"""Everybody can use the pages: axe finds nothing serious, and on a phone nothing is cut off."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from tests.browser.chromium import found_by_axe
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


@pytest.fixture
def key_id(site: Site, account: str) -> str:
    """A key that has everything that can be shown of one; and beside it such as are full, old, unused and rotated."""
    site.key(account, "legacy", days_old=140)
    site.key(account, "aging", days_old=80, used_days_ago=1)
    busy = site.key(account, "busy", used_days_ago=0)
    site.held += site.use(busy, requests=50, open=4)
    key = site.key(account, "prod-" + "long-name-" * 5, days_old=93, used_days_ago=0)
    return site.service.rotate(account, key.id, actor="ann").key.rotated_from or ""


def test_axe_finds_nothing_serious(opened: Callable[..., Page], key_id: str) -> None:
    """On every page, nor on those that answer a form."""
    page = opened(viewport=WIDE, reduced_motion="reduce", bypass_csp=True)
    found = {}
    for path in PATHS:
        page.goto(f"/console{path.format(id=key_id)}")
        found[path] = found_by_axe(page)
    create(page)
    found["created"] = found_by_axe(page)
    page.reload()
    found["already"] = found_by_axe(page)
    page.goto("/console/new")
    page.get_by_label("Name").fill(" ")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found["wrong"] = found_by_axe(page)

    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(("scheme", "size"), [("dark", WIDE), ("light", PHONE)], ids=["dark", "phone"])
def test_axe_finds_nothing_in_the_dark_and_on_a_phone(
    opened: Callable[..., Page], key_id: str, scheme: str, size: dict[str, int]
) -> None:
    """The same pages in other colours, and laid out in another way: those that have everything there is."""
    page = opened(color_scheme=scheme, viewport=size, reduced_motion="reduce", bypass_csp=True)
    found = []
    for path in ("/", "/keys/{id}", "/plans"):
        page.goto(f"/console{path.format(id=key_id)}")
        found += found_by_axe(page)
    create(page)

    assert found + found_by_axe(page) == []


def test_axe_finds_nothing_on_the_first_page_of_an_account(opened: Callable[..., Page]) -> None:
    """Which is how everybody begins."""
    page = opened(bypass_csp=True)
    page.goto("/console/")

    assert found_by_axe(page) == []


def test_axe_would_find_something(opened: Callable[..., Page]) -> None:
    """A picture without words, and letters that cannot be read, are found."""
    page = opened(bypass_csp=True)
    page.goto("/console/")
    page.evaluate("() => { document.querySelector('h1').style.color = '#eee'; document.body.append(new Image()); }")

    assert {name for name, _, _ in found_by_axe(page)} >= {"image-alt", "color-contrast"}


def test_on_a_phone_nothing_is_wider_than_the_screen(opened: Callable[..., Page], key_id: str) -> None:
    """Nobody scrolls sideways, and what is pressed is large enough for a finger."""
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
