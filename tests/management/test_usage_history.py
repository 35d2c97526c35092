"""`GET /usage/history`: what an account and its keys have used, as JSON and as CSV, and nothing of other accounts."""

import csv
import io
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import jsonschema_rs
import pytest
from tests.keys.conftest import START_MS
from tests.management.conftest import Client
from tests.management.test_openapi import schema_of

from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.storage import usage as statements
from awx_ratelimit.keys.usage_csv import busy_keys_csv
from awx_ratelimit.management.usage_history import TIME_PATTERN
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.testing import ManualClock

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MISSING = "key_0123456789abcdef"
#: 2025-06-01T10:00:00Z and the hours before it.
JUNE = "from=2025-06-01&to=2025-06-02"
Fill = Callable[..., str]


@pytest.fixture
def used(store: KeyStore, service: KeyService) -> Fill:
    """A function that creates a key and stores its usage, `hours_ago` before 10:00."""
    numbers = iter(range(1, 100))

    def fill(allowed: int = 1, account: str = "acme", name: str = "n", hours_ago: int = 0, **fields: Any) -> str:
        service.accounts.ensure(account)
        key = service.create(account, name).key.id
        begins_ms = START_MS - hours_ago * HOUR_MS
        counts = {"refused": 0, "peak": 0, "last_at_ms": begins_ms, "costs": {"requests": allowed}, "refusals": {}}
        usage = HourUsage(key, begins_ms, allowed, **{**counts, **fields})
        store.write(statements.add, "another", next(numbers), START_MS, [usage])
        return key

    return fill


def test_account(client: Client, used: Fill) -> None:
    """The usage of all keys is added up for each day; days without usage are there too."""
    used(3, refused=2, refusals={"minute": 2}, peak=4, costs={"requests": 3, "tokens": 900})
    used(4, hours_ago=1, peak=2)
    used(5, hours_ago=24)
    answer = client("GET", "/usage/history", query="from=2025-05-30&to=2025-06-02")

    assert answer.status == 200
    assert answer.headers[b"cache-control"] == b"no-store"
    empty = {"allowed": 0, "refused": 0, "costs": {}, "refusals": {}, "peak_concurrent": 0, "last_used_at": None}
    assert answer.json == {
        "by": "day",
        "data": [
            {"begins_at": "2025-05-30T00:00:00Z", **empty},
            {"begins_at": "2025-05-31T00:00:00Z", **empty, "allowed": 5, "costs": {"requests": 5},
             "last_used_at": "2025-05-31T10:00:00Z"},
            {"begins_at": "2025-06-01T00:00:00Z", "allowed": 7, "refused": 2, "costs": {"requests": 7, "tokens": 900},
             "refusals": {"minute": 2}, "peak_concurrent": 4, "last_used_at": "2025-06-01T10:00:00Z"},
        ],
    }  # fmt: skip
    jsonschema_rs.validate(schema_of("/usage/history", "get", 200), answer.json)


def test_key(client: Client, used: Fill) -> None:
    """One key has its own usage, by the hour."""
    key, _ = used(3, hours_ago=1), used(4, hours_ago=1)
    hours = client("GET", "/usage/history", query=f"key={key}&by=hour&{JUNE}").json["data"]

    assert len(hours) == 11
    assert [(hour["begins_at"], hour["allowed"]) for hour in hours if hour["allowed"]] == [("2025-06-01T09:00:00Z", 3)]


@pytest.mark.parametrize(("query", "number", "last"), [("", 30, "2025-06-01T00"), ("by=hour", 24, "2025-06-01T10")])
def test_default_range(client: Client, used: Fill, query: str, number: int, last: str) -> None:
    """By default there are 30 days or 24 hours, and the last one is the current one."""
    used(3)
    data = client("GET", "/usage/history", query=query).json["data"]

    assert len(data) == number
    assert data[-1]["begins_at"] == f"{last}:00:00Z"
    assert data[-1]["allowed"] == 3


def test_pages(client: Client, used: Fill) -> None:
    """A page has its part of the range, and says how long the range is."""
    used(3)
    query = "from=2025-03-01&page_size=7&page_num="
    page, last, beyond = (client("GET", "/usage/history", query=query + number).json for number in ("13", "14", "1000"))

    assert [period["begins_at"] for period in (page["data"][0], *last["data"])] == [
        "2025-05-24T00:00:00Z",
        "2025-05-31T00:00:00Z",
        "2025-06-01T00:00:00Z",
    ]
    assert (len(page["data"]), page["total"], page["has_more"]) == (7, 93, True)
    assert (last["data"][1]["allowed"], last["has_more"]) == (3, False)
    assert beyond == {"by": "day", "data": [], "total": 93, "has_more": False}
    jsonschema_rs.validate(schema_of("/usage/history", "get", 200), page)


@pytest.mark.parametrize(("by", "number"), [("day", 3_650), ("hour", 864)])
def test_huge_range(client: Client, used: Fill, by: str, number: int) -> None:
    """A range has no more periods than can be stored, and the current one is the last."""
    used(3)
    data = client("GET", "/usage/history", query=f"from=1970-01-01&to=2999-12-31&by={by}").json["data"]

    assert len(data) == number
    assert data[-1]["allowed"] == 3


@pytest.mark.parametrize("query", ["from=2025-06-01&to=2025-05-01", "from=2025-05-01&to=2025-05-01", "from=2999-01-01"])
def test_empty_range(client: Client, used: Fill, query: str) -> None:
    """A range that ends before it begins is empty."""
    used(3)

    assert client("GET", "/usage/history", query=query).json == {"by": "day", "data": []}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2025-06-01T10:00:00", "from"),
        ("from=2025-02-30", "from"),
        ("from=2025-02-29", "from"),
        ("from=2100-02-29", "from"),
        ("from=2025-04-31", "from"),
        ("from=1970-00-00", "from"),
        ("from=2025-06-01T24:00:00Z", "from"),
        ("from=1969-12-31", "from"),
        ("to=9999-12-31", "to"),
        ("to=now", "to"),
        ("to=1748772000000", "to"),
        ("to=2025-06-01%0A", "to"),
        ("by=week", "by"),
        ("by=", "by"),
        ("format=xml", "format"),
        ("page_num=0", "page_num"),
        ("page_size=101", "page_size"),
        ("page_size=-1", "page_size"),
        ("account=other", "query"),
        ("account_id=other", "query"),
        ("by=day&by=hour", "query"),
        ("from=" + "1" * 2_000, "query"),
    ],
)
def test_invalid(client: Client, query: str, field: str) -> None:
    """An invalid or unknown field is a 400 that names it and does not quote it."""
    answer = client("GET", "/usage/history", query=query)

    assert answer.status == 400
    assert answer.code == "invalid_request"
    assert field in answer.json["message"]
    assert "other" not in answer.json["message"]


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return 1970 <= year <= 2999


def test_every_date() -> None:
    """The documented pattern matches exactly the dates from 1970 to 2999 that exist."""
    is_time = re.compile(TIME_PATTERN).fullmatch
    years = (1969, 1970, 1972, 2000, 2024, 2025, 2100, 2400, 2999, 3000)
    days = [(year, month, day) for year in years for month in range(14) for day in range(33)]
    wrong = [day for day in days if bool(is_time("{:04}-{:02}-{:02}".format(*day))) != _exists(*day)]

    assert wrong == []
    assert sum(_exists(*day) for day in days) == 8 * 365 + 4


def test_key_of_another_account(client: Client, used: Fill) -> None:
    """Keys of other accounts, unknown ids and malformed ones are the same 404."""
    theirs = used(5, account="other")
    answers = [
        client("GET", "/usage/history", query=f"key={key}") for key in (theirs, MISSING, "x", "", "key_%27%20OR%201=1")
    ]

    assert {answer.status for answer in answers} == {404}
    assert len({answer.body for answer in answers}) == 1
    assert answers[0].code == "api_key_not_found"


def test_usage_of_another_account(client: Client, client_of: Callable[[str], Client], used: Fill) -> None:
    """An account sees nothing of what others use; one without keys has used nothing."""
    used(5, account="other")

    assert {period["allowed"] for period in client("GET", "/usage/history").json["data"]} == {0}
    assert {period["allowed"] for period in client_of("new")("GET", "/usage/history").json["data"]} == {0}
    assert client_of("other")("GET", "/usage/history").json["data"][-1]["allowed"] == 5


def test_revoked_key(client: Client, used: Fill, service: KeyService) -> None:
    """The history of a key can still be read when it is revoked."""
    key = used(5)
    service.revoke("acme", key)

    assert client("GET", "/usage/history", query=f"key={key}").json["data"][-1]["allowed"] == 5


def test_needs_a_token(client: Client) -> None:
    """Without an access token, and with an API key, there is no history."""
    client.headers = []
    anonymous = client("GET", "/usage/history")
    client.headers = [(b"x-api-key", b"awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I")]
    with_key = client("GET", "/usage/history")

    assert anonymous.status == 401
    assert (with_key.status, with_key.code) == (403, "access_token_required")


def test_limited(client: Client) -> None:
    """Calls are limited with the other calls of the account."""
    answers = [client("GET", "/usage/history", query="page_size=1") for _ in range(121)]

    assert [answer.status for answer in answers].count(429) == 1
    assert b"ratelimit" in answers[0].headers


@pytest.mark.parametrize(
    ("query", "accept", "is_csv"),
    [
        ("format=csv", [], True),
        ("", [b"text/csv"], True),
        ("", [b"text/csv, application/json;q=0.5"], True),
        ("", [b"application/json, text/csv;q=0.5"], False),
        ("", [b"*/*"], False),
        ("format=json", [b"text/csv"], False),
        ("format=csv", [b"application/json"], True),
    ],
)
def test_format(client: Client, query: str, accept: list[bytes], is_csv: bool) -> None:
    """The query chooses the format, and without it the Accept header."""
    answer = client("GET", "/usage/history", query=query, headers=[(b"accept", value) for value in accept])

    assert answer.headers[b"content-type"] == (b"text/csv; charset=utf-8" if is_csv else b"application/json")
    assert (b"content-disposition" in answer.headers) is is_csv


def test_csv(client: Client, used: Fill) -> None:
    """CSV has a line for each period, and a column for each measure and limit."""
    used(3, refused=2, refusals={"account.minute": 2}, costs={"requests": 3, "tokens": 900}, peak=1)
    answer = client("GET", "/usage/history", query="format=csv&from=2025-05-31&to=2025-06-02")

    assert answer.headers[b"content-disposition"] == b'attachment; filename="usage-by-day.csv"'
    assert answer.body.decode().split("\r\n") == [
        "begins_at,allowed,refused,peak_concurrent,last_used_at,cost.requests,cost.tokens,refused.account.minute",
        "2025-05-31T00:00:00Z,0,0,0,,0,0,0",
        "2025-06-01T00:00:00Z,3,2,1,2025-06-01T10:00:00Z,3,900,2",
        "",
    ]


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A1", "+1", "-1+1", "@SUM(A1)", "\uff1d1+1", 'a",=1+1,"', "日本"])
def test_names_in_csv(service: KeyService, used: Fill, name: str) -> None:
    """No name of a key becomes a formula or another cell in a spreadsheet."""
    used(3, name=name)
    text = busy_keys_csv(service.usage.busiest("acme"))
    columns, row = csv.reader(io.StringIO(text))
    shown = dict(zip(columns, row, strict=True))["name"]

    assert shown.removeprefix("'") == name
    assert shown[0] not in "=+-@\uff1d"


def test_busiest(service: KeyService, used: Fill) -> None:
    """The keys with the most requests come first, under the name of their newest successor."""
    least, most = used(1, name="least"), used(5, name="most", refused=1)
    used(100, account="other")
    successor = service.rotate("acme", most).key
    service.rename("acme", successor.id, "renamed")
    keys = service.usage.busiest("acme")

    assert [(key.key_id, key.name, key.allowed, key.refused) for key in keys] == [
        (successor.id, "renamed", 5, 1),
        (least, "least", 1, 0),
    ]
    assert [key.key_id for key in service.usage.busiest("acme", number=1)] == [successor.id]


def test_refusals(service: KeyService, used: Fill, clock: ManualClock) -> None:
    """Refusals are added up by limit, most first, of the account and of one key."""
    key = used(refused=3, refusals={"minute": 2, "account.day": 3})
    used(refused=4, refusals={"minute": 4}, hours_ago=48)

    assert list(service.usage.refusals("acme").items()) == [("minute", 6), ("account.day", 3)]
    assert service.usage.refusals("acme", key_id=key) == {"account.day": 3, "minute": 2}
