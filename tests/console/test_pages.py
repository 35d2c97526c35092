"""The pages over both adapters: what they show, and that only the owner sees it."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.browser.site import Site
from tests.console.conftest import Client

from awx_ratelimit.errors import BackendUnavailable, KeyStoreUnavailable
from awx_ratelimit.keys import ApiKey

PAGES = [
    "/", "/new", "/activity", "/plans", "/usage", "/keys/{id}", "/keys/{id}/usage", "/keys/{id}/rotate",
    "/keys/{id}/delete",
]  # fmt: skip
HOSTILE_NAME = "<script>alert(1)</script>\"'&`{{7*7}}"
ESCAPED_NAME = "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;`{{7*7}}"


def names_on(page: str) -> list[str]:
    """The names of the keys in the table of a page."""
    return re.findall(r'class="name".*?<bdi>(.*?)</bdi>', page)


class TestKeys:
    """The table of keys."""

    def test_empty(self, client: Client) -> None:
        """The page of an account without keys has a curl command with this site's address."""
        assert "curl -X POST https://app.example.com/api/v1/api-keys" in client.get("/").text

    @pytest.mark.parametrize(
        "text", ["prod-ledger", "93 days old", "40 days ago", "rotate: 93 days old", "unused for 40 days"]
    )
    def test_row(self, client: Client, site: Site, text: str) -> None:
        """A row shows the name of the key, its masked form, its age, its last use and its flags."""
        key = site.key(client.account, "prod-ledger", days_old=93, used_days_ago=40)
        page = client.get("/").text

        assert text in page
        assert key.masked in page

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
    def test_flags(
        self, client: Client, site: Site, days_old: int, used_days_ago: int | None, flags: list[str]
    ) -> None:
        """A flag appears on its day and not before: amber from 75 days, red from 90, and unused from 30."""
        site.key(client.account, "n", days_old=days_old, used_days_ago=used_days_ago)

        assert re.findall(r'<li class="flag [a-z]+">([^<]*)</li>', client.get("/").text) == flags

    def test_usage(self, client: Client, site: Site) -> None:
        """Each limit of the plan has a bar with its usage and its capacity."""
        held = site.use(site.key(client.account, "n"), requests=7, open=2)
        page = client.get("/").text

        assert re.findall(r'max="(\d+)".*?value="(\d+)"', page) == [("60", "7"), ("10000", "7"), ("5", "2")]
        assert len(held) == 2

    @pytest.mark.parametrize(
        ("path", "names"), [("/", ["busy", "idle", "aged"]), ("/?show=old", ["aged"]), ("/?show=unused", ["idle"])]
    )
    def test_filters(self, client: Client, site: Site, path: str, names: list[str]) -> None:
        """Each filter shows its keys, and every page counts the keys of both filters."""
        site.key(client.account, "aged", days_old=100, used_days_ago=1)
        site.key(client.account, "idle", days_old=40)
        site.key(client.account, "busy", used_days_ago=0)
        page = client.get(path).text

        assert names_on(page) == names
        assert re.findall(r'class="count some">(\d+)<', page) == ["1", "1"]

    def test_pages(self, client: Client, site: Site) -> None:
        """A page has fifty keys, newest first, and every key is on one page."""
        site.service.accounts.set_max_keys(client.account, 200)
        created = [site.key(client.account, f"n{number}").name for number in range(103)]
        pages = [names_on(client.get(f"/?page={number}").text) for number in range(1, 5)]

        assert [len(names) for names in pages] == [50, 50, 3, 0]
        assert {name for names in pages for name in names} == set(created)

    def test_suspended_account(self, client: Client, site: Site) -> None:
        """The table says that the account is suspended."""
        site.key(client.account, "n")
        site.service.accounts.suspend(client.account)

        assert "This account is suspended" in client.get("/").text

    def test_unknown_plan(self, client: Client, site: Site) -> None:
        """If the plan of the account does not exist, the table has its keys without usage."""
        site.key(client.account, "prod-ledger")
        site.service.accounts.set_plan(client.account, "gone")
        response = client.get("/")

        assert response.status == 200
        assert "prod-ledger" in response.text
        assert "Usage is currently unavailable." in response.text

    def test_store_unavailable(self, client: Client, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the key store, the response is a 503 page that does not repeat the error."""

        def fail(*_: object, **__: object) -> None:
            raise KeyStoreUnavailable("the key store secret-host gives no answer")

        monkeypatch.setattr(site.store, "query", fail)
        response = client.get("/")

        assert response.status == 503
        assert response.heading == "Your keys cannot be loaded right now"
        assert "secret-host" not in response.text


class TestSharedUsage:
    """The limits that all keys of an account share."""

    @pytest.fixture
    def keys(self, client: Client, site: Site) -> list[ApiKey]:
        """Two keys of an account on the plan "team", that have made 12 requests."""
        site.clock.set(int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()) * 1_000)
        site.service.accounts.set_plan(client.account, "team")
        first = site.key(client.account, "first")
        site.clock.advance(1)
        keys = [first, site.key(client.account, "second")]
        site.held = [*site.use(keys[0], "team", requests=7, open=1), *site.use(keys[1], "team", requests=5, open=1)]
        return keys

    @pytest.mark.parametrize("path", ["/", "/keys/{id}"])
    def test_bars(self, client: Client, keys: list[ApiKey], path: str) -> None:
        """They stand above the bars of the keys, with what all keys have used, each with a name."""
        page = client.get(path.format(id=keys[0].id)).text
        bars = re.findall(r'max="(\d+)".*?value="(\d+)" aria-label="(.*?)"', page)
        own = [("60", "5", "second, this minute")] if path == "/" else []

        assert bars == [
            ("100", "12", "All keys together, this minute"),
            ("1000000", "12", "All keys together, this month"),
            ("90000", "0", "All keys together, tokens today"),
            ("8", "2", "All keys together, in flight"),
            *own,
            ("60", "7", "first, this minute"),
        ]

    def test_resets(self, client: Client, keys: list[ApiKey]) -> None:
        """Limits of the calendar say when they reset."""
        assert re.findall(r'class="bar-note">(.*?)<', client.get("/").text) == [
            "resets on 15 December (Europe/Berlin time)",
            "resets at midnight UTC",
        ]

    def test_live(self, client: Client, keys: list[ApiKey]) -> None:
        """The event of an open page has them too, with their notes."""
        data = json.loads(client.get(f"/live?key={keys[1].id}").text.split("data: ")[1])

        assert data["shared"] == {
            "account.minute": [12, "12 of 100"],
            "account.month": [12, "12 of 1,000,000", "resets on 15 December (Europe/Berlin time)"],
            "account.tokens-day": [0, "0 of 90,000", "resets at midnight UTC"],
            "account.concurrent": [2, "2 of 8"],
        }
        assert data["keys"][keys[1].id]["bars"] == {"minute": [5, "5 of 60"]}

    def test_words(self, client: Client, keys: list[ApiKey]) -> None:
        """The page says what each key may do, and what all keys together may."""
        page = client.get("/").text

        assert "60 requests per minute for each key, and 100 requests per minute, 1,000,000 requests per month" in page
        assert "90,000 tokens per day and 8 requests in flight for all keys together." in page

    def test_plan_without_them(self, client: Client, site: Site) -> None:
        """A page of an account whose keys share nothing does not mention them."""
        site.key(client.account, "n")

        assert "together" not in client.get("/").text

    def test_unknown_usage(self, client: Client, site: Site, keys: list[ApiKey], monkeypatch: Any) -> None:
        """While the backend is unavailable the page works, and says that the usage is unknown."""

        def fail(*_: object) -> None:
            raise BackendUnavailable("it is down")

        monkeypatch.setattr(site.limiter.backend, "peek_joint", fail)
        response = client.get("/")

        assert response.status == 200
        assert response.text.count("Usage is currently unavailable.") == 2


class TestLiveUsage:
    """The event stream of an open page."""

    def test_event(self, client: Client, site: Site) -> None:
        """The response is one event with the usage of each key, and the time until the next request."""
        key = site.key(client.account, "n")
        site.use(key, requests=7)
        response = client.get("/live")

        bars = '"bars":{"minute":[7,"7 of 60"],"day":[7,"7 of 10,000"],"concurrent":[0,"0 of 5"]}'
        event = f'data: {{"known":true,"keys":{{"{key.id}":{{"last_used":"never",{bars}}}}}}}\n\n'
        assert response.header("content-type") == "text/event-stream; charset=utf-8"
        assert re.sub(r"^retry: (1[89]|2[01])..\n", "", response.text) == event

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("key={new}", {"new"}),
            ("show=old", {"old"}),
            ("show=unused", set()),
            ("page=2", set()),
            ("key=key_x", set()),
        ],
    )
    def test_keys(self, client: Client, site: Site, query: str, names: set[str]) -> None:
        """The stream has only the keys that its page shows."""
        old = site.key(client.account, "old", days_old=100, used_days_ago=1)
        new = site.key(client.account, "new")
        text = client.get(f"/live?{query.format(new=new.id)}").text

        names_by_id = {old.id: "old", new.id: "new"}
        assert {names_by_id[key_id] for key_id in re.findall(r"key_[0-9A-Za-z]{16}", text)} == names


def test_plans(client: Client, site: Site) -> None:
    """The table has the limits of each plan and marks the account's own, with its overrides."""
    site.service.accounts.set_plan(client.account, "growth")
    site.service.accounts.set_overrides(client.account, {"per_minute": 450})
    rows = plan_rows(client.get("/plans").text)

    assert rows == {
        "Starter": ["60", "10,000", "unlimited", "5"],
        "Growth your plan": ["450", "100,000", "unlimited", "25"],
        "Team": ["60", "unlimited", "unlimited", "unlimited"],
        "Team all keys together plus 90,000 tokens per day": [
            "100", "no limit", "1,000,000 resets on the 15th (Europe/Berlin time)", "8",
        ],
        "Enterprise": ["Custom", "Custom", "Custom", "Custom"],
    }  # fmt: skip


def test_plans_of_an_account_with_overrides(client: Client, site: Site) -> None:
    """Overrides of what keys share are in the second row of the plan."""
    site.service.accounts.set_plan(client.account, "team")
    site.service.accounts.set_overrides(client.account, {"account": {"per_minute": 7, "per_week": 50}})
    page = client.get("/plans").text
    row = plan_rows(page)["Team all keys together plus 90,000 tokens per day"]

    assert row[:3] == ["7", "no limit", "50 resets on Mondays"]
    assert re.findall(r'<th scope="col">(.*?)</th>', page) == [
        "Plan", "Requests per minute", "Requests per day", "Requests per week", "Requests per month",
        "Requests in flight",
    ]  # fmt: skip


def plan_rows(page: str) -> dict[str, list[str]]:
    """The texts of the table of plans, by the heading of the row."""

    def text(cell: str) -> str:
        return " ".join(re.sub(r"<[^>]*>", " ", cell).split())

    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', page, re.DOTALL)
    return {text(heading): [text(cell) for cell in re.findall(r"<td>(.*?)</td>", cells)] for heading, cells in rows}


def test_activity(client: Client, site: Site) -> None:
    """Every change has an entry with its actor, newest first."""
    actor = f"ann@{client.account}.example"
    key = site.key(client.account, "first")
    site.service.rename(client.account, key.id, "second", actor=actor)
    site.service.rotate(client.account, key.id, actor=actor, grace_period_seconds=3600)
    site.service.revoke(client.account, key.id, actor=actor)
    page = client.get("/activity").text

    assert re.findall(r'<span class="what">([^<]*)', page) == [
        "Key deleted: ", "Key rotated: ", "Key created: ", "Key renamed: ", "Key created: ", "Account created",
    ]  # fmt: skip
    assert page.count(f"<bdi>{actor}</bdi>,") == 5


class TestEveryPage:
    """The promises that every page keeps."""

    @pytest.mark.parametrize("path", PAGES)
    def test_names_are_escaped(self, client: Client, site: Site, path: str) -> None:
        """A name that looks like markup is shown as text."""
        key = site.key(client.account, HOSTILE_NAME)
        page = client.get(path.format(id=key.id)).text

        assert "<script>alert" not in page
        assert (ESCAPED_NAME in page) == (path not in ("/new", "/plans", "/usage"))

    @pytest.mark.parametrize("path", PAGES)
    def test_no_inline_code(self, client: Client, site: Site, path: str) -> None:
        """A page has no inline script, style or event handler."""
        key = site.key(client.account, "n")
        page = client.get(path.format(id=key.id)).text

        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", page)

    @pytest.mark.parametrize("path", PAGES)
    def test_no_other_host(self, client: Client, site: Site, path: str) -> None:
        """A page loads and links nothing outside the console."""
        key = site.key(client.account, "n")
        page = client.get(path.format(id=key.id)).text

        urls = re.findall(r"""(?:src|href|action|data-live)=["']?([^"'\s>]+)""", page)
        assert [url for url in urls if not url.startswith(("/console/", "#"))] == []

    @pytest.mark.parametrize("path", [*PAGES, "/live", "/usage.csv", "/nothing"])
    def test_security_headers(self, client: Client, site: Site, path: str) -> None:
        """No response is cached or framed, and none may run code from elsewhere."""
        key = site.key(client.account, "n")
        response = client.get(path.format(id=key.id))
        policy = response.header("content-security-policy") or ""

        assert response.header("cache-control") == "no-store"
        assert response.header("x-frame-options") == "DENY"
        assert response.header("x-content-type-options") == "nosniff"
        assert [word for word in ("unsafe", "*", "http:", "https:", "data:") if word in policy] == []
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy

    @pytest.mark.parametrize("path", PAGES)
    def test_anonymous(self, client_of: Callable[[str], Client], site: Site, path: str) -> None:
        """Without a login the response is 403 and shows nothing."""
        key = site.key(site.account(), "prod")
        response = client_of("").get(path.format(id=key.id))

        assert response.status == 403
        assert response.heading == "You are not logged in"
        assert "prod" not in response.text

    @pytest.mark.parametrize("path", [path for path in PAGES if "{id}" in path])
    def test_foreign_key(self, client: Client, site: Site, path: str, client_of: Callable[[str], Client]) -> None:
        """The key of another account gets the same page as a key that does not exist."""
        key = site.key(client.account, "prod")
        stranger = client_of(site.account())
        foreign, *missing = (
            stranger.get(path.format(id=key_id)) for key_id in (key.id, "key_0000000000000000", "nonsense")
        )

        assert foreign.status == 404
        assert foreign.heading == "Key not found"
        assert {response.text for response in missing} == {foreign.text}


class TestAssets:
    """The style sheet, the script and the icon."""

    def test_cached(self, client: Client) -> None:
        """They need no login and may be cached forever."""
        names = re.findall(r'"/console(/static/[^"]+)"', client.get("/").text)

        assert len(names) == 3
        for name in names:
            response = client.send("GET", f"/console{name}", {"host": "app.example.com"})
            assert response.status == 200
            assert response.header("cache-control") == "public, max-age=31536000, immutable"

    @pytest.mark.parametrize("name", ["console.css", "app.py"])
    def test_other_names(self, client: Client, name: str) -> None:
        """Names without the digest, and other files of the package, do not exist."""
        assert client.send("GET", f"/console/static/{name}", {}).status == 404


def test_json_error(client: Client) -> None:
    """Clients that do not accept HTML get errors as JSON."""
    response = client.get("/nothing", accept="application/json")

    assert response.text == '{"code":"not_found","type":"not_found_error","message":"There is nothing here."}'


def test_method_not_allowed(client: Client) -> None:
    """The response is 405 and lists the allowed methods."""
    response = client.post("/plans", "")

    assert response.status == 405
    assert response.header("allow") == "GET, HEAD, OPTIONS"
