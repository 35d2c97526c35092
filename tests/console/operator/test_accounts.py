"""The list of accounts: what it shows, finds and orders."""

import re

import pytest
from tests.browser.site import Site
from tests.console.operator.conftest import OperatorClient


@pytest.fixture
def listed(client: OperatorClient, site: Site) -> OperatorClient:
    """A client of a service with accounts on two plans, with requests of today and of three days ago."""
    for account, plan, allowed, refused, hours_ago in (
        ("b-busy", "growth", 1_000, 10, 1),
        ("b-refused", None, 50, 50, 2),
        ("c-old", "starter", 5_000, 0, 72),
    ):
        site.account(account, plan=plan)
        site.record(site.key(account, "n"), hours_ago, allowed, refused)
    site.service.accounts.suspend("c-old")
    return client


def rows(page: str) -> list[str]:
    """The texts of the rows of a page."""
    found = page.partition("<tbody")[2].partition("</tbody>")[0].split("<tr ")[1:]
    return [" ".join(re.sub(r"<[^>]*>", " ", row.partition(">")[2]).split()) for row in found]


def ids(page: str) -> list[str]:
    """The ids of the accounts on a page, without the client's own."""
    return [row.split()[0] for row in rows(page) if not row.startswith("acct-")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["b-busy", "b-refused", "c-old"]),
        ("prefix=b-", ["b-busy", "b-refused"]),
        ("plan=growth", ["b-busy"]),
        ("status=suspended", ["c-old"]),
        ("status=active&prefix=c", []),
        ("order=requests", ["c-old", "b-busy", "b-refused"]),
        ("order=refusals", ["b-refused", "b-busy", "c-old"]),
        ("order=requests&span=24-hours", ["b-busy", "b-refused"]),
        ("page=2", []),
    ],
)
def test_list(listed: OperatorClient, query: str, expected: list[str]) -> None:
    """Accounts are found by the beginning of the id, by plan and by status, and ordered by id, requests or refusals."""
    assert ids(listed.get(f"/?{query}").text) == expected


def test_rows(listed: OperatorClient) -> None:
    """A row has the plan, the state, and the requests of the chosen time."""
    page = listed.get("/?span=48-hours").text
    busy, refused, old = (row for row in rows(page) if not row.startswith("acct-"))

    assert re.fullmatch(r"b-busy growth .* 1,000 10 under 1 %", busy)
    assert re.fullmatch(r"b-refused starter \(default\) .* 50 50 50 %", refused)
    assert re.fullmatch(r"c-old suspended starter .* 0 0", old)


def test_links_keep_the_rest(listed: OperatorClient) -> None:
    """The links to another order, time and page keep the search."""
    page = listed.get("/?prefix=b-&plan=growth&order=requests&span=48-hours").text
    links = re.findall(r'href="/operator/\?([^"]*)"', page)

    assert len(links) == 7
    assert [link for link in links[1:] if not link.startswith("prefix=b-&amp;plan=growth&amp;")] == []
    assert {link.partition("order=")[2] for link in links[1:]} == {
        "id&amp;span=48-hours", "requests&amp;span=48-hours", "refusals&amp;span=48-hours",
        "requests&amp;span=30-days", "requests&amp;span=24-hours",
    }  # fmt: skip


def test_search(listed: OperatorClient) -> None:
    """A search leads to the address of its result, which keeps the order and the time."""
    response = listed.submit("/", prefix=" b- ", plan="growth", status="", order="requests", span="48-hours")

    assert response.header("location") == "/operator/?prefix=b-&plan=growth&order=requests&span=48-hours"


@pytest.mark.parametrize(("path", "field"), [("/", "prefix"), ("/activity", "account")])
def test_pasted_key(listed: OperatorClient, site: Site, path: str, field: str) -> None:
    """An API key that is pasted into a search gets into no address, and is not shown again."""
    secret = site.service.create("b-busy", "n2").secret.reveal()
    response = listed.submit(path, **{field: secret})

    assert response.status == 400
    assert "contains an API key" in response.text.replace("Contains", "contains")
    assert secret not in str(response)
