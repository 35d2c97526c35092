"""The pages are accessible: axe finds no serious violation, and everything fits on a phone."""

from collections.abc import Callable
from itertools import combinations

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
    "/usage",
    "/keys/{id}",
    "/keys/{id}/usage?span=48-hours",
    "/keys/{id}/rotate",
    "/keys/{id}/delete",
    "/activity",
    "/plans",
    "/no",
]
#: The left, upper, right and lower edge of each visible element.
BOXES = """all => all.map((one) => one.getBoundingClientRect()).filter((box) => box.width)
    .map((box) => [box.left, box.top, box.right, box.bottom])"""


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
    site.record(key, 1, 10**12, 3, costs={"tokens": 2**53}, refusals={"account.minute": 10**12, "l" * 32: 1}, peak=3)
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


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        ("dark", PHONE),
        pytest.param("dark", WIDE, marks=pytest.mark.full),
        pytest.param("light", PHONE, marks=pytest.mark.full),
    ],
    ids=["both", "dark", "phone"],
)
def test_axe_dark_and_phone(opened: Callable[..., Page], key_id: str, scheme: str, size: dict[str, int]) -> None:
    """Axe finds no serious violation in the dark theme and the phone layout."""
    page = opened(color_scheme=scheme, viewport=size, reduced_motion="reduce", bypass_csp=True)
    found = []
    for path in ("/", "/usage", "/keys/{id}", "/plans"):
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


@pytest.mark.parametrize("size", [pytest.param(WIDE, marks=pytest.mark.full), PHONE], ids=["wide", "phone"])
def test_chart_labels(opened: Callable[..., Page], site: Site, account: str, size: dict[str, int]) -> None:
    """The texts of a chart do not overlap, whatever its numbers and its time, and its bars can be seen."""
    key = site.key(account, "n")
    site.record(key, 0, 10**15)
    site.record(key, 1, 1)
    page = opened(viewport=size)
    for span in ("30-days", "48-hours", "24-hours"):
        page.goto(f"/console/usage?span={span}")
        boxes = page.locator(".plot text").evaluate_all(BOXES)
        bars = page.locator(".plot .part-allowed").evaluate_all(BOXES)

        assert len(boxes) >= 7
        assert [pair for pair in combinations(boxes, 2) if overlap(*pair)] == []
        assert all(left >= 0 and right <= size["width"] for left, _, right, _ in boxes)
        assert min(right - left for left, _, right, _ in bars) >= 2


def overlap(one: list[float], other: list[float]) -> bool:
    """Whether two boxes overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
