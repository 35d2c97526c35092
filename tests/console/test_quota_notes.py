"""The notes on quotas that are nearly or fully used."""

import html
import re
from datetime import UTC, datetime

import pytest
from tests.browser.site import Site
from tests.console.conftest import Client

from awx_ratelimit.keys import ApiKey

NOON_MS = int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp() * 1_000)


def notes(page: str) -> list[tuple[str, str]]:
    """The kind and the text of each note."""
    found = re.findall(r'<p class="note (amber|bad)" role="status">(.*?)</p>', page)
    return [(kind, html.unescape(re.sub(r"<[^>]*>", "", text))) for kind, text in found]


def key_with(site: Site, account: str, name: str, used: int) -> ApiKey:
    """A key that has used so many of the ten requests a day of its account."""
    key = site.key(account, name)
    site.clock.advance(1)
    if used:
        site.limiter.acquire(key.family_id, site.plan(account), cost=used)
    return key


@pytest.fixture
def account(client: Client, site: Site) -> str:
    """An account whose keys have ten requests a day each."""
    site.clock.set(NOON_MS)
    site.service.accounts.set_overrides(client.account, {"per_minute": 1_000, "per_day": 10})
    return client.account


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (7, []),
        (8, [("amber", "The key prod has used 80 % of its 10 requests per day.")]),
        (
            10,
            [
                (
                    "bad",
                    "The key prod has used 100 % of its 10 requests per day. Requests are refused until some of it"
                    " refills.",
                )
            ],
        ),
    ],
)
@pytest.mark.parametrize("path", ["/", "/keys/{id}"])
def test_key(client: Client, site: Site, account: str, path: str, used: int, expected: list[tuple[str, str]]) -> None:
    """The table and the page of a key warn at 80 % of its quota, and say at 100 % that requests are refused."""
    key = key_with(site, account, "prod", used)

    assert notes(client.get(path.format(id=key.id)).text) == expected


def test_shadow(client: Client, site: Site, account: str) -> None:
    """A quota in shadow refuses nothing, and so no page warns of it."""
    site.service.accounts.set_overrides(account, {"per_day": 10, "shadow": True})
    key_with(site, account, "prod", 10)

    assert notes(client.get("/").text) == []


def test_many_keys(client: Client, site: Site, account: str) -> None:
    """The table names the three fullest keys and counts the others."""
    for used in (9, 8, 10, 0, 9, 8):
        key_with(site, account, f"used-{used}", used)
    shown = notes(client.get("/").text)

    assert [re.findall(r"used-\d+|^\d+", text) for _, text in shown] == [["used-10"], ["used-9"], ["used-9"], ["2"]]
    assert shown[-1][1] == "2 more keys on this page have used at least 80 % of a quota."


def test_rotated_key(client: Client, site: Site, account: str) -> None:
    """A rotated key and its successor share a quota and have one note."""
    key = key_with(site, account, "prod", 9)
    site.service.rotate(account, key.id)

    assert [text for _, text in notes(client.get("/").text)] == [
        "The key prod has used 90 % of its 10 requests per day."
    ]


@pytest.mark.parametrize(
    ("used", "kind", "expected"),
    [
        (83, "amber", "Your account has used 83 % of its requests this month (resets on 1 December)."),
        (
            100,
            "bad",
            "Your account has used 100 % of its requests this month (resets on 1 December). Requests are refused"
            " until then.",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/", "/keys/{id}"])
def test_account(client: Client, site: Site, account: str, path: str, used: int, kind: str, expected: str) -> None:
    """Both pages warn of a quota that all keys of the account share, and not of its limits of less than a day."""
    site.service.accounts.set_overrides(account, {"account": {"per_minute": 100, "per_month": 100}})
    key = site.key(account, "prod")
    site.use_account(account, used)

    assert notes(client.get(path.format(id=key.id)).text) == [(kind, expected)]
