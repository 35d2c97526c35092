"""The pages over both adapters: what they say, and that they say it to whom it belongs."""

import re
from collections.abc import Callable

import pytest
from tests.browser.site import Site
from tests.console.conftest import Visitor

from awx_ratelimit.errors import KeyStoreUnavailable

PAGES = ["/", "/new", "/activity", "/plans", "/keys/{id}", "/keys/{id}/rotate", "/keys/{id}/delete"]
HOSTILE = "<script>alert(1)</script>\"'&`{{7*7}}"


def test_an_account_without_keys_is_told_how_to_make_one(visitor: Visitor) -> None:
    """The empty table has the curl line of the guide, with the address of this very site."""
    page = visitor.get("/").text

    assert "curl -X POST https://app.example.com/api/v1/api-keys" in page


def test_the_table_has_each_key_with_what_is_to_be_done(visitor: Visitor, site: Site) -> None:
    """A key shows its name, its masked form, its age, its last use and its flags, and never more of it."""
    key = site.key(visitor.account, "prod-ledger", days_old=93, used_days_ago=40)
    page = visitor.get("/").text

    shown = ["prod-ledger", key.masked, "93 days old", "40 days ago", "rotate: 93 days old", "unused for 40 days"]
    assert [text for text in shown if text not in page] == []


@pytest.mark.parametrize(
    ("days_old", "used_days_ago", "flags"),
    [
        (74, 1, []),
        (75, 1, ["rotate soon: 75 days old"]),
        (89, 1, ["rotate soon: 89 days old"]),
        (90, 1, ["rotate: 90 days old"]),
        (29, None, []),
        (30, None, ["never used"]),
        (40, 29, []),
        (40, 30, ["unused for 30 days"]),
    ],
)
def test_flags_begin_on_their_day(
    visitor: Visitor, site: Site, days_old: int, used_days_ago: int | None, flags: list[str]
) -> None:
    """Amber from 75 days, red from 90, and unused from 30: on that day and not before."""
    site.key(visitor.account, "n", days_old=days_old, used_days_ago=used_days_ago)

    assert re.findall(r'<li class="flag [a-z]+">([^<]*)</li>', visitor.get("/").text) == flags


def test_usage_is_shown_against_the_plan(visitor: Visitor, site: Site) -> None:
    """Each limit has a bar: what was used, of what the plan holds."""
    held = site.use(site.key(visitor.account, "n"), requests=7, open=2)
    page = visitor.get("/").text

    assert re.findall(r'max="(\d+)".*?value="(\d+)"', page) == [("60", "7"), ("10000", "7"), ("5", "2")]
    assert len(held) == 2


def test_an_open_page_is_told_how_its_keys_stand(visitor: Visitor, site: Site) -> None:
    """The event stream answers with one event and the time to ask again."""
    key = site.key(visitor.account, "n")
    site.use(key, requests=7)
    answer = visitor.get("/usage")

    bars = '"bars":{"minute":[7,"7 of 60"],"day":[7,"7 of 10,000"],"concurrent":[0,"0 of 5"]}'
    event = f'data: {{"known":true,"keys":{{"{key.id}":{{"last_used":"never",{bars}}}}}}}\n\n'
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert re.sub(r"^retry: (1[89]|2[01])..\n", "", answer.text) == event


def test_an_open_page_is_told_of_the_keys_that_it_shows(visitor: Visitor, site: Site) -> None:
    """The stream of a page of one key, of the old ones or of the unused has those keys alone."""
    old = site.key(visitor.account, "old", days_old=100, used_days_ago=1)
    new = site.key(visitor.account, "new")
    asked = [f"/usage?key={new.id}", "/usage?show=old", "/usage?show=unused", "/usage?page=2", "/usage?key=key_x"]

    found = [re.findall(r"key_[0-9A-Za-z]{16}", visitor.get(path).text) for path in asked]
    assert found == [[new.id], [old.id], [], [], []]


def test_lists_of_what_is_to_be_done_have_those_keys_alone(visitor: Visitor, site: Site) -> None:
    """'To rotate' and 'unused' count their keys on every page, and show them."""
    site.key(visitor.account, "aged", days_old=100, used_days_ago=1)
    site.key(visitor.account, "idle", days_old=40)
    site.key(visitor.account, "busy", used_days_ago=0)
    pages = [visitor.get(path).text for path in ("/", "/?show=old", "/?show=unused")]

    names = [re.findall(r'class="name".*?<bdi>(.*?)</bdi>', page) for page in pages]
    counts = [re.findall(r'class="count some">(\d+)<', page) for page in pages]
    assert names == [["busy", "idle", "aged"], ["aged"], ["idle"]]
    assert counts == [["1", "1"]] * 3


def test_many_keys_are_shown_page_by_page(visitor: Visitor, site: Site) -> None:
    """Fifty to a page, newest first; every key is on one of them."""
    for number in range(103):
        site.service.accounts.set_max_keys(visitor.account, 200)
        site.key(visitor.account, f"n{number}")
    pages = [visitor.get(f"/?page={number}").text for number in range(1, 5)]

    names = [re.findall(r'class="name".*?<bdi>(.*?)</bdi>', page) for page in pages]
    assert [len(found) for found in names] == [50, 50, 3, 0]
    assert len({name for found in names for name in found}) == 103


def test_the_plans_are_those_of_the_table(visitor: Visitor, site: Site) -> None:
    """Each plan has its numbers, and the account's own is marked, with numbers of its own where it has them."""
    site.service.accounts.set_plan(visitor.account, "growth")
    site.service.accounts.set_overrides(visitor.account, {"per_minute": 450})
    page = visitor.get("/plans").text

    rows = re.findall(r'<th scope="row">(\w+)(.*?)</th>\s*<td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>', page)
    assert [(name, "your plan" in more, *numbers) for name, more, *numbers in rows] == [
        ("Starter", False, "60", "10,000", "5"),
        ("Growth", True, "450", "100,000", "25"),
        ("Enterprise", False, "custom", "custom", "custom"),
    ]


def test_activity_says_what_was_done_and_by_whom(visitor: Visitor, site: Site) -> None:
    """Every act has its line, newest first, with who did it."""
    key = site.key(visitor.account, "first")
    actor = f"ann@{visitor.account}.example"
    site.service.rename(visitor.account, key.id, "second", actor=actor)
    site.service.rotate(visitor.account, key.id, actor=actor, grace_period_seconds=3600)
    site.service.revoke(visitor.account, key.id, actor=actor)
    page = visitor.get("/activity").text

    lines = re.findall(r'<span class="what">([^<]*)', page)
    done = ["Key deleted: ", "Key rotated: ", "Key created: ", "Key renamed: ", "Key created: ", "Account created"]
    assert lines == done
    assert page.count(f"<bdi>{actor}</bdi>,") == 5


@pytest.mark.parametrize("path", PAGES)
def test_names_are_text_and_nothing_else(visitor: Visitor, site: Site, path: str) -> None:
    """A name that is made of marks is shown as its letters on every page, and is no mark of it."""
    key = site.key(visitor.account, HOSTILE)
    page = visitor.get(path.format(id=key.id)).text

    assert "<script>alert" not in page
    assert ("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;`{{7*7}}" in page) == (path not in ("/new", "/plans"))


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_loaded_from_elsewhere_or_stands_in_the_page(visitor: Visitor, site: Site, path: str) -> None:
    """A page has no script, style or handler in itself, and names no other host."""
    key = site.key(visitor.account, "n")
    page = visitor.get(path.format(id=key.id)).text
    loaded = re.findall(r"""(?:src|href|action|data-live)=["']?([^"'\s>]+)""", page)

    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", page)
    assert [url for url in loaded if not url.startswith(("/console/", "#"))] == []


@pytest.mark.parametrize("path", [*PAGES, "/usage", "/nothing"])
def test_every_page_is_kept_to_itself(visitor: Visitor, site: Site, path: str) -> None:
    """No page is stored or framed, nor does it run what is not a file of this site."""
    key = site.key(visitor.account, "n")
    answer = visitor.get(path.format(id=key.id))
    policy = answer.header("content-security-policy") or ""

    said = [answer.header(name) for name in ("cache-control", "x-frame-options", "x-content-type-options")]
    assert said == ["no-store", "DENY", "nosniff"]
    assert [word for word in ("unsafe", "*", "http:", "https:", "data:") if word in policy] == []
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy


def test_files_have_names_that_change_with_them(visitor: Visitor) -> None:
    """Style, script and icon may be kept for ever, need no login, and are there under no other name."""
    names = re.findall(r'"/console(/static/[^"]+)"', visitor.get("/").text)
    files = [visitor.ask("GET", f"/console{name}", {"host": "app.example.com"}) for name in names]
    others = [visitor.ask("GET", f"/console/static/{name}", {}).status for name in ("console.css", "pages.py")]

    assert [(file.status, file.header("cache-control")) for file in files] == [
        (200, "public, max-age=31536000, immutable")
    ] * 3
    assert others == [404, 404]


@pytest.mark.parametrize("path", PAGES)
def test_nobody_sees_nothing(visitor_of: Callable[[str], Visitor], site: Site, path: str) -> None:
    """Who is not logged in sees no page, whatever it is."""
    key = site.key(site.account(), "prod")
    answer = visitor_of("").get(path.format(id=key.id))

    assert answer.status == 403
    assert answer.heading == "You are not logged in"
    assert "prod" not in answer.text


def test_a_page_left_open_asks_no_more_after_logging_out(visitor_of: Callable[[str], Visitor]) -> None:
    """204 is what tells a browser to let an event stream be."""
    answer = visitor_of("").get("/usage")

    assert answer.status == 204
    assert answer.text == ""


@pytest.mark.parametrize("path", [path for path in PAGES if "{id}" in path])
def test_keys_of_others_are_not_there(
    visitor: Visitor, site: Site, path: str, visitor_of: Callable[[str], Visitor]
) -> None:
    """Another account's key is the same page as no key at all."""
    key = site.key(visitor.account, "prod")
    stranger = visitor_of(site.account())
    answers = [stranger.get(path.format(id=key_id)) for key_id in (key.id, "key_0000000000000000", "nonsense")]

    assert {(answer.status, answer.heading) for answer in answers} == {(404, "There is no such key")}
    assert len({answer.text for answer in answers}) == 1


def test_a_program_is_told_in_the_envelope(visitor: Visitor) -> None:
    """Who asks for no page gets errors in JSON."""
    answer = visitor.get("/nothing", accept="application/json")

    assert answer.text == '{"code":"not_found","type":"not_found_error","message":"There is nothing here."}'


def test_a_method_that_is_not_there_is_refused(visitor: Visitor) -> None:
    """405, with what is allowed."""
    answer = visitor.post("/plans", "")

    assert answer.status == 405
    assert answer.header("allow") == "GET, HEAD, OPTIONS"


def test_a_suspended_account_is_told(visitor: Visitor, site: Site) -> None:
    """None of its keys is accepted, and its table says so."""
    site.key(visitor.account, "n")
    site.service.accounts.suspend(visitor.account)

    assert "This account is suspended" in visitor.get("/").text


def test_an_account_whose_plan_is_gone_sees_its_keys(visitor: Visitor, site: Site) -> None:
    """Without a plan there are no bars; the keys are there, and can be deleted."""
    site.key(visitor.account, "prod-ledger")
    site.service.accounts.set_plan(visitor.account, "gone")
    answer = visitor.get("/")

    assert answer.status == 200
    assert "prod-ledger" in answer.text
    assert "Not known at the moment" in answer.text


def test_a_store_without_an_answer_is_a_page(visitor: Visitor, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is gone is a 503 that says so, without what it said."""

    def down(*_: object, **__: object) -> None:
        raise KeyStoreUnavailable("the key store secret-host gives no answer")

    monkeypatch.setattr(site.store, "ask", down)
    monkeypatch.setattr(site.store, "account", down)
    answer = visitor.get("/")

    assert answer.status == 503
    assert answer.heading == "The keys cannot be reached at the moment"
    assert "secret-host" not in answer.text
