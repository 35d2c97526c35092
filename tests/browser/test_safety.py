"""The key is in one answer and nowhere else; other sites can neither send our forms nor frame our pages."""

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


def test_the_key_is_in_the_answer_to_the_form_alone(scripted: Page, site: Site, account: str) -> None:
    """Not in the address, history, storage, cookies or the entries of the page; nor in any other answer."""
    answers: list[tuple[str, str]] = []

    def note(answer: Response) -> None:
        answers.append((answer.request.method, _text(answer)))

    scripted.on("response", note)
    key = create(scripted)
    left = scripted.evaluate(LEFT_BY_A_PAGE)
    cookies = str(scripted.context.cookies())
    scripted.get_by_role("link", name="I have stored it").click()
    left += scripted.evaluate(LEFT_BY_A_PAGE)
    for path in ("/", "/activity", "/plans", "/new", "/usage"):
        scripted.goto(f"/console{path}")

    scripted.remove_listener("response", note)
    secret = key[4:38]
    assert len(secret) == 34
    assert [method for method, text in answers if secret in text] == ["POST"]
    assert secret not in left + cookies


@pytest.mark.parametrize("way", ["back", "forward"])
def test_going_back_does_not_show_the_key(page: Page, way: str) -> None:
    """From the next page back, and from the page before forward: it is not there any more."""
    key = create(page)
    if way == "back":
        page.goto("/console/activity")
        _go(page, "go_back")
    else:
        _go(page, "go_back")
        _go(page, "go_forward")

    expect(page.locator("html")).not_to_contain_text(key[4:38])


@pytest.mark.parametrize("elsewhere", ["http://evil.localhost/", "http://127.0.0.1:1/"], ids=["site", "port"])
def test_a_form_of_another_origin_does_nothing(opened: Callable[..., Page], site: Site, elsewhere: str) -> None:
    """Sent from another site or from a neighbour, by whoever is logged in, our own forms make and delete nothing."""
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


@pytest.mark.parametrize("has_cookie", [False, True], ids=["new", "known"])
@pytest.mark.parametrize("name", ["%A0__Host-awx-console", "%85__Host-awx-console", "=__Host-awx-console"])
def test_a_cookie_that_a_neighbour_has_set_does_nothing(
    opened: Callable[..., Page], site: Site, account: str, name: str, has_cookie: bool
) -> None:
    """A host of the same site sets one whose name is ours but for a byte: forms work as before."""
    port = site.url.rpartition(":")[2]
    page = opened(base_url=f"http://app.example.localhost:{port}")
    if has_cookie:
        page.goto("/console/")
    page.goto(f"http://evil.example.localhost:{port}/plant?{name}={'x' * 22}")
    create(page)

    assert site.service.list(account).total == 1
    # The control: it was set, and is sent to us; but for one without a name, which Chromium refuses by now.
    domains = [cookie["domain"] for cookie in page.context.cookies()]
    assert (".example.localhost" in domains) is (not name.startswith("="))


def test_no_page_can_be_framed(opened: Callable[..., Page], site: Site) -> None:
    """In a frame, even of its own site, there is nothing of the console."""
    page = opened(may_complain=True)
    _serve(page, f"{site.url}/frame", f'<iframe src="{site.url}/console/"></iframe>')
    with page.expect_console_message(lambda said: "frame-ancestors" in said.text):
        page.goto("/frame")

    assert "API keys" not in page.frames[1].content()


def test_what_would_be_injected_does_not_run(opened: Callable[..., Page], account: str, site: Site) -> None:
    """Even if a mark came into a page, its policy would run no script, no handler and no style of it."""
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


def test_logging_out_ends_an_open_page(opened: Callable[..., Page], site: Site, account: str) -> None:
    """Its bars stop: the browser is told to ask no more."""
    site.key(account, "prod")
    page = opened()
    page.goto("/console/")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.context.clear_cookies(name=SESSION)

    expect(page.get_by_text("Live", exact=True)).to_be_hidden()


def test_a_session_of_the_browser_keeps_no_key(scripted: Page) -> None:
    """Fields of forms are what browsers restore: the key is in none."""
    key = create(scripted)
    values = scripted.locator("input, textarea, select").evaluate_all("all => all.map((field) => field.value)")

    assert [value for value in values if key[4:20] in value] == []
    assert re.search(r"console/new$", scripted.url)
    assert shown_key(scripted) == key


@pytest.mark.parametrize("flags", ["", "u"])
def test_the_pattern_of_names_is_one_for_browsers(scripted: Page, flags: str) -> None:
    """A page that is made from the OpenAPI document may check names by its pattern."""
    is_name = scripted.evaluate_handle("([pattern, flags]) => new RegExp(pattern, flags)", [NAME_PATTERN, flags])
    names = ["prod", "\u540d\u524d \U0001f511", "a\u202eb", "a\u2028", "\ufeffa", ""]
    found = [name for name in names if is_name.evaluate("(is_name, name) => is_name.test(name)", name)]

    assert found == ["prod", "\u540d\u524d \U0001f511", "a\u2028"]


def _text(answer: Response) -> str:
    try:
        return str(answer.text())
    except Exception:
        # An answer without a body, or one that was left.
        return ""


def _serve(page: Page, url: str, body: str) -> None:
    """Have `url` be a page of somebody else, in the browser of `page`."""
    page.unroute_all()
    page.route(url, lambda route: route.fulfill(content_type="text/html", body=body))


def _go(page: Page, way: str) -> None:
    """Back or forward; a browser may refuse to show the answer to a form again."""
    with suppress(Error):
        getattr(page, way)(timeout=3_000)
