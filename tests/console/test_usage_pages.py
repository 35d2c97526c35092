"""The pages of the usage history, and the same as CSV."""

import csv
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.browser.site import Site
from tests.console.conftest import Client
from tests.console.test_pages import ESCAPED_NAME, HOSTILE_NAME
from tests.console.test_quota_notes import notes

from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.keys import ApiKey

HALF_PAST_TWO_MS = int(datetime(2026, 11, 29, 14, 30, tzinfo=UTC).timestamp()) * 1_000
ACCOUNT_AND_KEY = pytest.mark.parametrize("path", ["/usage", "/keys/{id}/usage"])


@pytest.fixture
def key(client: Client, site: Site) -> ApiKey:
    """A key of an account on the plan "team", that was used in this hour, the one before, and yesterday."""
    site.clock.set(HALF_PAST_TWO_MS)
    site.service.accounts.set_plan(client.account, "team")
    key = site.key(client.account, "prod")
    refusals = {"minute": 3, "account.minute": 2, "account.concurrent": 1, "old-limit": 1}
    site.record(key, 0, 1_000, 5, refusals=refusals, costs={"requests": 1_000, "tokens": 70_000}, peak=4)
    site.record(key, 1, 200)
    site.record(key, 24, 30)
    return key


def bars(page: str) -> list[str]:
    """The texts of the bars with a value."""
    found = re.findall(r"<g><title>(.*?)</title>", page)
    return [text for text in found if re.search(r": .*[1-9]", text)]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first heading is `heading`."""
    table = next(each for each in page.split("<table")[1:] if f'<th scope="col">{heading}</th>' in each)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[2:]]
    return [[re.sub(r"<[^>]*>", "", cell).strip() for cell in row] for row in cells]


class TestCharts:
    """What the pages show of the history."""

    @pytest.mark.parametrize(
        ("span", "number", "expected"),
        [
            ("", 30, ["28 Nov 2026: 30 allowed, 0 refused", "29 Nov 2026: 1,200 allowed, 5 refused"]),
            (
                "48-hours",
                48,
                [
                    "28 Nov, 14:00: 30 allowed, 0 refused",
                    "29 Nov, 13:00: 200 allowed, 0 refused",
                    "29 Nov, 14:00: 1,000 allowed, 5 refused",
                ],
            ),
            (
                "24-hours",
                24,
                [
                    "29 Nov, 13:00: 200 allowed, 0 refused",
                    "29 Nov, 14:00: 1,000 allowed, 5 refused",
                ],
            ),
            ("<script>", 30, ["28 Nov 2026: 30 allowed, 0 refused", "29 Nov 2026: 1,200 allowed, 5 refused"]),
        ],
    )
    @ACCOUNT_AND_KEY
    def test_spans(self, client: Client, key: ApiKey, path: str, span: str, number: int, expected: list[str]) -> None:
        """The chart has a bar for each day or hour of the chosen time; a time that does not exist is 30 days."""
        page = client.get(f"{path.format(id=key.id)}?span={span}").text
        requests, tokens = page.split('<figure class="chart"')[1:]

        assert bars(requests) == expected
        assert requests.count("<g>") == tokens.count("<g>") == number
        assert "script>" not in requests

    @ACCOUNT_AND_KEY
    def test_words(self, client: Client, key: ApiKey, path: str) -> None:
        """Each chart is an image with a title and a sentence, and its numbers are in a table."""
        page = client.get(path.format(id=key.id)).text
        texts = re.findall(r'role="img" aria-labelledby="(\S+) (\S+)".*?<title id="\1">(.*?)</.*?<desc id="\2">(.*?)</',
                           page, re.DOTALL)  # fmt: skip

        assert [text for _, _, *text in texts] == [
            [
                "Requests per day",
                "1,230 requests were allowed and 5 refused in the last 30 days."
                " The busiest day was 29 Nov 2026, with 1,205 requests.",
            ],
            [
                "Tokens per day",
                "Tokens: 70,000 in the last 30 days. The day with the most was 29 Nov 2026, with 70,000.",
            ],
        ]
        table = rows(page, "Day")
        assert len(table) == 30
        assert table[-2:] == [["28 Nov 2026", "30", "0", "0", "0"], ["29 Nov 2026", "1,200", "5", "70,000", "4"]]

    def test_totals(self, client: Client, key: ApiKey) -> None:
        """The page has the totals, the peak of concurrent requests and the last use."""
        page = client.get("/usage").text
        figures = re.findall(r'<dt>(.*?)</dt><dd><span class="figure">(.*?)</span>', page)

        assert figures == [
            ("Allowed", "1,230"),
            ("Refused", "5"),
            ("Tokens", "70,000"),
            ("Most in flight", "4"),
            ("Last request", "30 minutes ago"),
        ]
        assert "under 1 % of all requests" in page

    def test_cost_in_requests(self, client: Client, site: Site, key: ApiKey) -> None:
        """If some requests cost more than one, there is a chart of what they have cost."""
        site.record(key, 2, 1, costs={"requests": 50})

        assert re.findall(r"<h2 id=\"chart-.*?>(.*?)</h2>", client.get("/usage").text) == [
            "Requests per day",
            "Tokens per day",
            "Cost in requests per day",
        ]

    def test_refusals(self, client: Client, key: ApiKey) -> None:
        """Limits have words; those that the plan does not have any more keep their names."""
        assert rows(client.get("/usage").text, "Limit") == [
            ["Requests per minute", "3"],
            ["All keys together: requests per minute", "2"],
            ["All keys together: requests in flight", "1"],
            ["old-limit", "1"],
        ]

    def test_busiest(self, client: Client, site: Site, key: ApiKey) -> None:
        """The account's page links its busiest keys; a deleted one has no link."""
        gone = site.key(client.account, "gone")
        site.record(gone, 0, 5_000)
        site.service.revoke(client.account, gone.id)
        page = client.get("/usage?span=24-hours").text

        assert rows(page, "Key") == [["gone deleted", "5,000", "0"], ["prod", "1,200", "5"]]
        assert f'href="/console/keys/{key.id}/usage?span=24-hours"' in page
        assert gone.id not in page

    def test_many_measures(self, client: Client, site: Site, key: ApiKey) -> None:
        """A page has at most six charts, and says how many measures are only in the CSV file."""
        site.record(key, 0, 1, costs={"requests": 1, **{f"measure-{number}": number for number in range(1, 9)}})
        page = client.get("/usage").text

        assert page.count('<figure class="chart"') == 6
        assert "4 more measures: see the CSV file." in page

    def test_rotated_key(self, client: Client, site: Site, key: ApiKey) -> None:
        """A key shows its usage together with that of the key which it replaces."""
        created = site.service.rotate(client.account, key.id).key
        page = client.get(f"/keys/{created.id}/usage").text

        assert "together with the key that it replaces" in page
        assert '<span class="figure">1,230</span>' in page

    @pytest.mark.parametrize("path", ["/", "/keys/{id}"])
    def test_links(self, client: Client, key: ApiKey, path: str) -> None:
        """The table of keys and the page of a key link the usage of the key."""
        assert f'href="/console/keys/{key.id}/usage"' in client.get(path.format(id=key.id)).text


class TestNothing:
    """Without usage there is no chart."""

    @ACCOUNT_AND_KEY
    def test_not_recorded(self, client: Client, site: Site, path: str) -> None:
        """If no history is recorded at all, the page says how to switch it on."""
        page = client.get(path.format(id=site.key(client.account, "n").id)).text

        assert "AsyncLimiter(backend, listeners=[UsageHistory(store)])" in page
        assert 'role="img"' not in page

    @ACCOUNT_AND_KEY
    def test_not_used(self, client: Client, client_of: Callable[[str], Client], site: Site, path: str) -> None:
        """If the history of others is recorded, the page says that there were no requests."""
        site.record(site.key(site.account(), "other"), 0, 1)
        page = client.get(f"{path.format(id=site.key(client.account, 'n').id)}?span=48-hours").text

        assert "No requests in the last 48 hours." in page
        assert "UsageHistory" not in page
        assert 'role="img"' not in page

    def test_no_account(self, client_of: Callable[[str], Client]) -> None:
        """An owner who has no key yet can open the page."""
        assert client_of("nobody-yet").get("/usage").status == 200


@pytest.mark.parametrize(("used", "path"), [(83, "/usage"), (83, "/keys/{id}/usage")])
def test_quota(client: Client, site: Site, key: ApiKey, used: int, path: str) -> None:
    """The pages warn of quotas, too."""
    site.service.accounts.set_overrides(client.account, {"account": {"per_month": 100}})
    site.use_account(client.account, used)

    assert [kind for kind, _ in notes(client.get(path.format(id=key.id)).text)] == ["amber"]


@ACCOUNT_AND_KEY
def test_backend_unavailable(client: Client, site: Site, key: ApiKey, path: str, monkeypatch: Any) -> None:
    """The history can be seen while the limits cannot."""

    def fail(*_: object) -> None:
        raise BackendUnavailable("it is down")

    monkeypatch.setattr(site.limiter.backend, "peek_joint", fail)

    assert len(bars(client.get(path.format(id=key.id)).text)) == 3


class TestCsv:
    """The same as CSV."""

    @pytest.mark.parametrize("path", ["/usage.csv", "/keys/{id}/usage.csv"])
    def test_file(self, client: Client, key: ApiKey, path: str) -> None:
        """The file has a line for each period of the chosen time, and cannot be cached."""
        response = client.get(f"{path.format(id=key.id)}?span=24-hours")
        lines = list(csv.DictReader(io.StringIO(response.text)))

        assert response.header("content-type") == "text/csv; charset=utf-8"
        assert response.header("content-disposition") == 'attachment; filename="usage-24-hours.csv"'
        assert response.header("cache-control") == "no-store"
        assert len(lines) == 24
        assert (lines[-1]["begins_at"], lines[-1]["allowed"]) == ("2026-11-29T14:00:00Z", "1000")
        assert (lines[-1]["cost.tokens"], lines[-1]["refused.account.minute"]) == ("70000", "2")

    @ACCOUNT_AND_KEY
    def test_link(self, client: Client, key: ApiKey, path: str) -> None:
        """The page links the file of the time that it shows."""
        path = path.format(id=key.id)

        assert f'href="/console{path}.csv?span=48-hours"' in client.get(f"{path}?span=48-hours").text


class TestAttacks:
    """Names of others, markup, and other methods."""

    @pytest.mark.parametrize("path", ["/usage", "/usage.csv"])
    def test_other_account(self, client_of: Callable[[str], Client], site: Site, key: ApiKey, path: str) -> None:
        """The key of another account gets the same page as one that is revoked or does not exist."""
        stranger = client_of(site.account())
        gone = site.key(stranger.account, "gone")
        site.record(gone, 0, 1)
        site.service.revoke(stranger.account, gone.id)
        ids = [key.id, gone.id, "key_0000000000000000", "nonsense"]
        responses = [stranger.get(f"/keys/{key_id}{path}") for key_id in ids]

        assert {response.status for response in responses} == {404}
        assert len({response.text for response in responses}) == 1
        assert "prod" not in stranger.get("/usage").text

    def test_names_are_escaped(self, client: Client, site: Site) -> None:
        """Names of keys, measures and limits that look like markup are shown as text."""
        site.clock.set(HALF_PAST_TWO_MS)
        key = site.key(client.account, HOSTILE_NAME)
        site.record(key, 0, 1, 1, costs={"requests": 1, HOSTILE_NAME: 1}, refusals={HOSTILE_NAME: 1})
        page = client.get("/usage").text

        assert "<script>alert" not in page
        # The key and the limit; the total, the heading, title, sentence and bar of the chart, and the table.
        assert page.count(ESCAPED_NAME) >= 8

    @ACCOUNT_AND_KEY
    def test_head(self, client: Client, key: ApiKey, path: str) -> None:
        """HEAD has the headers of GET and no body."""
        path = f"/console{path.format(id=key.id)}"
        sent = {"host": "app.example.com", "cookie": f"session={client.account}", "accept": "text/html"}
        got, head = (client.send(method, path, sent) for method in ("GET", "HEAD"))

        assert (head.status, head.text) == (200, "")
        assert head.header("content-length") == got.header("content-length")
        assert head.header("cache-control") == "no-store"

    @pytest.mark.parametrize("query", ["span=" + "9" * 50_000, "span=24-hours&" * 200, "%zz&span=%00", "from=1&to=x"])
    def test_queries(self, client: Client, key: ApiKey, query: str) -> None:
        """Any query is answered with the last 30 days, or with one of the other times."""
        response = client.get(f"/usage?{query}")

        assert response.status == 200
        assert len(bars(response.text)) == 3
