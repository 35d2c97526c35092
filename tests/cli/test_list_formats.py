"""Each command that prints a list prints the same as a table, as JSON and as CSV."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

from awx_ratelimit import STARTER, Limiter
from awx_ratelimit.backends.open import open_backend
from awx_ratelimit.keys import KeyService

LISTS = {
    "accounts": ("accounts", "list"),
    "audit trail": ("accounts", "audit"),
    "keys": ("keys", "list", "--account", "acme"),
    "old keys": ("keys", "stale", "--days", "0"),
    "unused keys": ("keys", "unused", "--days", "0"),
    "found keys": ("keys", "find", "KEY"),
}


def rows(text: str) -> list[dict[str, str]]:
    """The rows of CSV by their columns."""
    return list(csv.DictReader(io.StringIO(text)))


def cell(value: Any) -> str:
    """The cell for a value of JSON."""
    if value is None:
        return ""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else json.dumps(value)


@pytest.fixture
def key(service: KeyService) -> str:
    """The ID of a key of an account with limits of its own."""
    service.accounts.set_overrides("acme", {"per_minute": 600})
    return service.create("acme", "[red]n").key.id


@pytest.mark.parametrize("words", LISTS.values(), ids=LISTS)
def test_csv(run: Run, database: str, key: str, words: tuple[str, ...]) -> None:
    """CSV has a line for each object of the JSON list, with its fields as columns."""
    command = [key if word == "KEY" else word for word in (*words, "--database", database)]
    listed, printed = run(*command, "--json").json["data"], run(*command, "--csv")

    assert printed.status == 0
    assert len(listed) > 0
    assert rows(printed.out) == [{name: cell(value) for name, value in one.items()} for one in listed]
    assert list(rows(printed.out)[0]) == list(listed[0])


def test_csv_of_nothing(run: Run, database: str, service: KeyService) -> None:
    """CSV of an empty list has its columns."""
    ran = run("keys", "list", "--account", "acme", "--database", database, "--csv")

    assert ran.out.startswith("id,account_id,")
    assert len(ran.out.splitlines()) == 1


def test_csv_of_a_page(run: Run, database: str, service: KeyService) -> None:
    """Beside the CSV of one page, a line on stderr names the next one."""
    service.accounts.create("beta")
    ran = run("accounts", "list", "--page-size", "1", "--csv", "--database", database)

    assert [one["id"] for one in rows(ran.out)] == ["acme"]
    assert "1 of 2; the next are on --page 2\n" in ran.err


def test_csv_of_usage(run: Run, tmp_path: Path) -> None:
    """CSV of current usage has the fields of the limits in JSON."""
    url = f"host://{tmp_path}/limits"
    limiter = Limiter(open_backend(url))
    limiter.release(limiter.acquire("ada", STARTER))
    limiter.close()
    words = ("usage", "ada", "--backend", url)
    limits, printed = run(*words, "--json").json["limits"], rows(run(*words, "--csv").out)
    # Time goes on between the two.
    drifting = {"reset_after_ms", "used", "remaining"}

    assert [list(one) for one in printed] == [list(one) for one in limits]
    assert [{name: text for name, text in one.items() if name not in drifting} for one in printed] == [
        {name: cell(value) for name, value in one.items() if name not in drifting} for one in limits
    ]


def test_formulas(run: Run, database: str, service: KeyService) -> None:
    """A name that a spreadsheet would take for a formula becomes text."""
    service.create("acme", "=1+1")

    assert rows(run("keys", "list", "--account", "acme", "--database", database, "--csv").out)[0]["name"] == "'=1+1"


@pytest.mark.parametrize(
    "words",
    [*LISTS.values(), ("usage", "key_1"), ("usage", "account", "acme"), ("usage", "history", "--account", "acme")],
)
def test_two_formats(run: Run, service: KeyService, database: str, words: tuple[str, ...]) -> None:
    """CSV and JSON together are an error, in either order: no command chooses one."""
    for formats in (("--csv", "--json"), ("--json", "--csv")):
        ran = run(*words, "--database", database, *formats)

        assert (ran.status, ran.out) == (2, "")
        assert "expected one of --csv and --json, got both" in ran.err
