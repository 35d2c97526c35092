"""Tasks that users do with the console, in Chromium, with and without JavaScript."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from tests.browser.site import Site, wsgi

KEY = re.compile(r"awx_[0-9A-Za-z]{38}")
HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>{{7*7}}"


def shown_key(page: Page) -> str:
    """The key on a page, or an empty string."""
    # A click waits for the beginning of the next page, and the key may be in a part that has not arrived.
    page.wait_for_load_state()
    found = KEY.search(page.content())
    return found[0] if found else ""


def create(page: Page, name: str = "prod-payment-service") -> str:
    """Create a key, starting at the table, and return it."""
    page.goto("/console/")
    page.get_by_role("link", name="Create", exact=False).first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create key").click()
    return shown_key(page)


def test_create(page: Page, site: Site, account: str) -> None:
    """A new key is shown on one page only; the table has it masked."""
    key = create(page)
    page.get_by_role("link", name="I have stored it").click()
    page.goto("/console/")

    expect(page.get_by_role("row", name="prod-payment-service")).to_contain_text(f"awx_...{key[-4:]}")
    assert len(key) == 42
    assert shown_key(page) == ""


def test_reload(page: Page, site: Site, account: str) -> None:
    """Reloading the page of a new key says 'Already created' and creates no second key."""
    key = create(page)
    page.reload()

    expect(page.get_by_role("heading", level=1)).to_have_text("Already created")
    assert key[:8] not in page.content()
    assert site.service.list(account).total == 1


def test_rotate(page: Page, site: Site, account: str) -> None:
    """A user rotates a key, sees the new key once, and deletes the old key by typing its name."""
    old = site.key(account, "prod-ledger", days_old=93, used_days_ago=0)
    page.goto("/console/")
    page.get_by_role("link", name="Rotate prod-ledger").click()
    page.get_by_label("Keep the old key valid for").select_option("604800")
    page.get_by_role("button", name="Create the new key").click()
    key = shown_key(page)
    page.get_by_role("link", name="I have stored it").click()
    expect(page.locator(".steps li.done")).to_have_count(1)
    page.goto(f"/console/keys/{old.id}")
    expect(page.get_by_text("The old key expires in 7 days.")).to_be_visible()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("textbox").fill("prod-ledger")
    page.get_by_role("button", name="Delete key").click()

    expect(page.get_by_role("status").first).to_contain_text("Key deleted.")
    assert [made.masked for made in site.service.list(account).items] == [f"awx_...{key[-4:]}"]


def test_delete_with_other_name(page: Page, site: Site, account: str) -> None:
    """The wrong name is reported at its field, which has the focus, and the key stays."""
    key = site.key(account, "prod-ledger")
    page.goto(f"/console/keys/{key.id}/delete")
    page.get_by_role("textbox").fill("prod")
    page.get_by_role("button", name="Delete key").click()

    expect(page.get_by_role("alert")).to_contain_text("Not the name of this key")
    expect(page.get_by_role("textbox")).to_be_focused()
    assert site.service.get(account, key.id) == key


def test_rename(page: Page, site: Site, account: str) -> None:
    """A user renames a key on its page, and the activity has an entry."""
    key = site.key(account, "prod")
    page.goto(f"/console/keys/{key.id}")
    page.get_by_label("New name").fill("staging")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("staging")
    page.get_by_role("link", name="Activity").click()

    expect(page.get_by_role("listitem").first).to_contain_text("Key renamed: staging")


def test_hostile_name(page: Page, site: Site, account: str) -> None:
    """Markup in a name is shown as text on every page: nothing runs and nothing is loaded."""
    key = site.key(account, HOSTILE[:64])
    marks = []
    for path in ("/", f"/keys/{key.id}", f"/keys/{key.id}/rotate", f"/keys/{key.id}/delete", "/activity"):
        page.goto(f"/console{path}")
        expect(page.get_by_text(HOSTILE[:64]).first).to_be_visible()
        marks.append(page.locator("img, script:not([src])").count())

    assert marks == [0] * 5


def test_hostile_name_in_forms(page: Page, site: Site, account: str) -> None:
    """A key with markup in its name can be created and deleted."""
    name = HOSTILE[:64]
    create(page, name)
    key = site.service.list(account).items[0]
    page.goto(f"/console/keys/{key.id}/delete")
    page.get_by_role("textbox").fill(name)
    page.get_by_role("button", name="Delete key").click()

    expect(page.get_by_role("status").first).to_contain_text("Key deleted.")
    assert key.name == name
    assert site.service.list(account).total == 0


def test_keyboard(page: Page, site: Site, account: str) -> None:
    """The form works with the keyboard: the first field has the focus, Tab follows the order, and Enter submits."""
    page.goto("/console/new")
    page.keyboard.type("prod")
    seen = []
    for _ in range(3):
        page.keyboard.press("Tab")
        seen.append(page.locator(":focus").get_attribute("name") or page.locator(":focus").inner_text())
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")

    assert seen == ["expires_in_days", "Create key", "Cancel"]
    expect(page.get_by_role("heading", name="Store this key now")).to_be_visible()


def test_usage(page: Page, site: Site, account: str) -> None:
    """A key's usage can be opened, changed to hours and read as a table with the keyboard alone."""
    site.record(site.key(account, "prod"), 0, 1_234, 5)
    page.goto("/console/")
    page.get_by_role("link", name="Usage of prod").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Usage of prod")
    page.get_by_role("link", name="24 hours").press("Enter")
    expect(page.get_by_role("link", name="24 hours")).to_have_attribute("aria-current", "true")
    page.get_by_text("The numbers as a table").press("Enter")

    expect(page.get_by_role("img", name=re.compile("^Requests per hour 1,234 requests were allowed"))).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="1,234")).to_be_visible()
    expect(page.get_by_role("table", name="Usage per hour in the last 24 hours").get_by_role("row")).to_have_count(25)


def test_skip_link(page: Page) -> None:
    """The first Tab stop skips the navigation."""
    page.goto("/console/activity")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.locator("main")).to_be_focused()


def test_live_bars(scripted: Page, site: Site, account: str) -> None:
    """The bars of an open page follow the usage of the key."""
    key = site.key(account, "prod")
    scripted.goto("/console/")
    expect(scripted.get_by_text("Live", exact=True)).to_be_visible()
    site.use(key, requests=55)

    bar = scripted.get_by_role("meter", name="prod, this minute")
    expect(bar).to_have_js_property("value", 55)
    expect(scripted.locator(".bar-text").first).to_have_text("55 of 60")


@pytest.mark.parametrize("path", ["/", pytest.param("/keys/{id}", marks=pytest.mark.full)])
def test_live_shared_bars(scripted: Page, site: Site, account: str, path: str) -> None:
    """The bars of what all keys share follow the usage of every key, above the bars of each key."""
    site.service.accounts.set_plan(account, "team")
    shown, other = site.key(account, "shown"), site.key(account, "other")
    scripted.goto(f"/console{path.format(id=shown.id)}")
    expect(scripted.get_by_text("Live", exact=True)).to_be_visible()
    site.use(other, "team", requests=55)

    shared = scripted.get_by_role("meter", name="All keys together, this minute")
    own = scripted.get_by_role("meter", name="shown, this minute")
    expect(shared).to_have_js_property("value", 55)
    expect(own).to_have_js_property("value", 0)
    expect(scripted.locator(".bar-text").first).to_have_text("55 of 100")
    expect(scripted.locator(".bar-note").last).to_have_text("resets at midnight UTC")
    boxes = [meter.bounding_box() for meter in (shared, own)]
    assert boxes[0]["y"] < boxes[1]["y"]  # type: ignore[index]  # both are visible


def test_bars_without_javascript(opened: Callable[..., Page], site: Site, account: str) -> None:
    """Without JavaScript the page has the same bars, and no 'Live' label."""
    site.use(site.key(account, "prod"), requests=55)
    page = opened(java_script_enabled=False)
    page.goto("/console/")

    expect(page.locator(".bar-text").first).to_have_text("55 of 60")
    expect(page.get_by_text("Live", exact=True)).to_be_hidden()


def test_copy_buttons(scripted: Page, site: Site) -> None:
    """Each copy button copies its exact text and announces it to screen readers."""
    key = create(scripted)
    copied = []
    for what in ("the key", "the .env line", "the curl command"):
        scripted.bring_to_front()
        scripted.get_by_role("button", name=f"Copy {what}").click()
        expect(scripted.locator("#said")).to_have_text("Copied to the clipboard.")
        # No page of the console may read the clipboard.
        other = scripted.context.new_page()
        other.goto("/other")
        copied.append(other.evaluate("navigator.clipboard.readText()"))
        other.close()

    curl = f"curl -i {site.url}/v1/agents -H 'X-API-Key: {key}'"
    assert copied == [key, f"AWX_API_KEY={key}", curl]


def test_wsgi(opened: Callable[..., Page], site: Site, account: str) -> None:
    """On a WSGI server, a key is created and shown once, and its bars are live."""
    with wsgi(site) as url:
        page = opened(base_url=url)
        create(page)
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("Already created")
        page.goto("/console/")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        page.goto("about:blank")

    assert site.service.list(account).total == 1
