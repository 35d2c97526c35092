"""A new key is in one response and nowhere else; other sites can neither submit our forms nor frame our pages."""

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from playwright.sync_api import Error, Page, Response, expect
from tests.browser.site import SESSION, Site
from tests.browser.test_flows import create, shown_key

from awx_ratelimit.keys.validation import NAME_PATTERN

LEFT_BY_A_PAGE = """async () => JSON.stringify([
    location.href, document.referrer, history.state, document.cookie, {...localStorage}, {...sessionStorage},
    await indexedDB.databases(), await (globalThis.caches ? caches.keys() : []), performance.getEntries(),
])"""


def test_key_in_one_response(scripted: Page, site: Site, account: str) -> None:
    """The key is only in the response to the form: not in the URL, history, storage, cookies or any other response."""
    answers: list[tuple[str, str]] = []

    def note(answer: Response) -> None:
        answers.append((answer.request.method, _text(answer)))

    scripted.on("response", note)
    key = create(scripted)
    left = scripted.evaluate(LEFT_BY_A_PAGE)
    cookies = str(scripted.context.cookies())
    scripted.get_by_role("link", name="I have stored it").click()
    left += scripted.evaluate(LEFT_BY_A_PAGE)
    for path in ("/", "/usage", "/activity", "/plans", "/new", "/live"):
        scripted.goto(f"/console{path}")

    scripted.remove_listener("response", note)
    secret = key[4:38]
    assert len(secret) == 34
    assert [method for method, text in answers if secret in text] == ["POST"]
    assert secret not in left + cookies


@pytest.mark.parametrize("way", ["back", "forward"])
def test_back_and_forward(page: Page, way: str) -> None:
    """Going back or forward to the page does not show the key again."""
    key = create(page)
    if way == "back":
        page.goto("/console/activity")
        _go(page, "go_back")
    else:
        _go(page, "go_back")
        _go(page, "go_forward")

    expect(page.locator("html")).not_to_contain_text(key[4:38])


@pytest.mark.parametrize("elsewhere", ["http://evil.localhost/", "http://127.0.0.1:1/"], ids=["site", "port"])
def test_form_of_other_origin(opened: Callable[..., Page], site: Site, elsewhere: str) -> None:
    """A form that another site or port submits for a logged-in user creates and deletes nothing."""
    page = opened()
    page.goto("/console/")
    account = str(next(c["value"] for c in page.context.cookies() if c["name"] == SESSION))
    key = site.key(account, "prod")
    headings = []
    for path, name in (("/new", "evil"), (f"/keys/{key.id}/delete", "prod")):
        page.goto(f"/console{path}")
        token = page.locator("input[name=form]").get_attribute("value")
        _serve(
            page,
            elsewhere,
            f'<form method="post" action="{site.url}/console{path}"><input name="form" value="{token}">'
            f'<input name="name" value="{name}"><button>Send</button></form>',
        )
        page.goto(elsewhere)
        page.get_by_role("button").click()
        headings.append(page.get_by_role("heading", level=1).inner_text())

    assert headings == ["This form was not accepted"] * 2
    assert [made.name for made in site.service.list(account).items] == ["prod"]


@pytest.mark.parametrize(
    ("name", "has_cookie"),
    [
        ("%A0__Host-awx-console", False),
        pytest.param("%A0__Host-awx-console", True, marks=pytest.mark.full),
        pytest.param("%85__Host-awx-console", False, marks=pytest.mark.full),
        ("%85__Host-awx-console", True),
        ("=__Host-awx-console", False),
        pytest.param("=__Host-awx-console", True, marks=pytest.mark.full),
    ],
)
def test_planted_cookie(opened: Callable[..., Page], site: Site, account: str, name: str, has_cookie: bool) -> None:
    """A cookie from a neighbouring host, whose name differs from ours by one byte, does not break forms."""
    port = site.url.rpartition(":")[2]
    page = opened(base_url=f"http://app.example.localhost:{port}")
    if has_cookie:
        page.goto("/console/")
    page.goto(f"http://evil.example.localhost:{port}/plant?{name}={'x' * 22}")
    create(page)

    assert site.service.list(account).total == 1
    # The control: the cookie was set. Chromium refuses only the one without a name.
    domains = [cookie["domain"] for cookie in page.context.cookies()]
    assert (".example.localhost" in domains) is (not name.startswith("="))


def test_frame(opened: Callable[..., Page], site: Site) -> None:
    """The console does not load in a frame, not even on its own site."""
    page = opened(may_complain=True)
    _serve(page, f"{site.url}/frame", f'<iframe src="{site.url}/console/"></iframe>')
    with page.expect_console_message(lambda said: "frame-ancestors" in said.text):
        page.goto("/frame")

    assert "API keys" not in page.frames[1].content()


def test_injected_markup(opened: Callable[..., Page], account: str, site: Site) -> None:
    """If markup were injected into a page, its policy would block every script, image and style."""
    site.key(account, "prod")
    page = opened(may_complain=True)
    page.goto("/console/")
    directives, ran = page.evaluate(
        """() => new Promise((resolve) => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', (event) => seen.push(event.effectiveDirective));
            const script = document.createElement('script');
            try { script.textContent = 'globalThis.ran = 1'; } catch { seen.push('trusted'); }
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'https://evil.example/x.png';
            document.body.append(image);
            const box = document.createElement('p');
            box.setAttribute('style', 'color: red');
            document.body.append(box);
            setTimeout(() => resolve([[...new Set(seen)].sort(), globalThis.ran ?? 0]), 200);
        })"""
    )

    assert ran == 0
    assert {"img-src", "style-src-attr", "trusted"} <= set(directives)


def test_logout(opened: Callable[..., Page], site: Site, account: str) -> None:
    """After a logout, an open page stops updating."""
    site.key(account, "prod")
    page = opened()
    page.goto("/console/")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.context.clear_cookies(name=SESSION)

    expect(page.get_by_text("Live", exact=True)).to_be_hidden()


def test_session_restore(scripted: Page) -> None:
    """The key is in no form field, which a browser could restore."""
    key = create(scripted)
    values = scripted.locator("input, textarea, select").evaluate_all("all => all.map((field) => field.value)")

    assert [value for value in values if key[4:20] in value] == []
    assert re.search(r"console/new$", scripted.url)
    assert shown_key(scripted) == key


@pytest.mark.parametrize("flags", ["", "u"])
def test_name_pattern(scripted: Page, flags: str) -> None:
    """The pattern for names in the OpenAPI document works in browsers."""
    is_name = scripted.evaluate_handle("([pattern, flags]) => new RegExp(pattern, flags)", [NAME_PATTERN, flags])
    names = ["prod", "\u540d\u524d \U0001f511", "a\u202eb", "a\u2028", "\ufeffa", ""]
    found = [name for name in names if is_name.evaluate("(is_name, name) => is_name.test(name)", name)]

    assert found == ["prod", "\u540d\u524d \U0001f511", "a\u2028"]


def _text(answer: Response) -> str:
    try:
        return str(answer.text())
    except Exception:
        # A response without a body, or of a page that was left.
        return ""


def _serve(page: Page, url: str, body: str) -> None:
    """Serve `body` at `url`, as another site would."""
    page.unroute_all()
    page.route(url, lambda route: route.fulfill(content_type="text/html", body=body))


def _go(page: Page, way: str) -> None:
    """Go back or forward. A browser may refuse to show the response to a form again."""
    with suppress(Error):
        getattr(page, way)(timeout=3_000)
