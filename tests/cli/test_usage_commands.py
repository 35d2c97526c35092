"""``awx-ratelimit usage history`` and ``usage keys``: what an account and its keys have used."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.cli.conftest import Result, Run

from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.storage import usage as statements
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.runtime.clock import WallClock, rfc3339

HOUR_MS = 3_600_000


@pytest.fixture
def usage(run: Run, database: str) -> Run:
    """Run a command of ``usage`` on the key store."""
    return lambda command, *words: run("usage", command, "--database", database, *words)


@pytest.fixture
def used(store: KeyStore) -> Callable[[str, str], str]:
    """A function that creates a key of an account with 7 allowed and 2 refused requests in this hour."""
    service, numbers = KeyService(store), iter(range(1, 10))

    def fill(account: str, name: str) -> str:
        service.accounts.ensure(account)
        key, now_ms = service.create(account, name).key.id, WallClock.now_ms()
        hour = HourUsage(key, now_ms - now_ms % HOUR_MS, 7, 2, 3, now_ms, {"requests": 7, "tokens": 90}, {"minute": 2})
        store.write(statements.add, "another", next(numbers), now_ms, [hour])
        return key

    return fill


def _last_line(ran: Result) -> str:
    return ran.out.rstrip().splitlines()[-1]


@pytest.mark.parametrize("by", ["hour", "day"])
def test_table(usage: Run, used: Callable[[str, str], str], by: str) -> None:
    """The table has a line for each period, and the current one is the last."""
    used("acme", "n")
    used("acme", "m")
    used("other", "n")
    ran = usage("history", "--account", "acme", "--by", by)
    cells = [cell.strip() for cell in _last_line(ran).split("  ") if cell.strip()]

    assert ran.status == 0
    assert len(ran.out.splitlines()) == (25 if by == "hour" else 31)
    assert cells[1:] == ["14", "4", "requests 14, tokens 180", "minute 4", "3"]


def test_json(usage: Run, used: Callable[[str, str], str]) -> None:
    """The JSON document is that of the REST API; with --key it has the usage of one key."""
    key, _ = used("acme", "n"), used("acme", "m")
    document = usage("history", "--account", "acme", "--key", key, "--json").json
    last = document["data"][-1]

    assert document["by"] == "day"
    assert last.pop("last_used_at") is not None
    assert last == {
        "begins_at": rfc3339(datetime.now(UTC).replace(hour=0, minute=0, second=0)),
        "allowed": 7,
        "refused": 2,
        "costs": {"requests": 7, "tokens": 90},
        "refusals": {"minute": 2},
        "peak_concurrent": 3,
    }


def test_csv(usage: Run, used: Callable[[str, str], str]) -> None:
    """CSV has the columns of the REST API."""
    used("acme", "n")
    rows = list(csv.DictReader(io.StringIO(usage("history", "--account", "acme", "--csv").out)))

    assert len(rows) == 30
    assert (rows[-1]["allowed"], rows[-1]["cost.tokens"], rows[-1]["refused.minute"]) == ("7", "90", "2")
    assert (rows[0]["allowed"], rows[0]["cost.tokens"]) == ("0", "0")


def test_range(usage: Run, used: Callable[[str, str], str]) -> None:
    """--from and --to choose the periods."""
    used("acme", "n")
    today = datetime.now(UTC).date()
    words = ("--from", f"{today}T00:00:00Z", "--to", f"{today}T02:00:00Z", "--by", "hour", "--json")
    hours = [period["begins_at"] for period in usage("history", "--account", "acme", *words).json["data"]]

    assert hours[0] == f"{today}T00:00:00Z"
    assert len(hours) <= 2


def test_range_from_now(usage: Run, used: Callable[[str, str], str]) -> None:
    """The range may begin and end at times from now."""
    used("acme", "n")
    words = ("--from", "-3h", "--to", "-1h", "--by", "hour", "--json")
    before = datetime.now(UTC)
    hours = [period["begins_at"] for period in usage("history", "--account", "acme", *words).json["data"]]
    first = [rfc3339((at - timedelta(hours=3)).replace(minute=0, second=0)) for at in (before, datetime.now(UTC))]

    assert len(hours) == 3
    assert hours[0] in first


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--account", "acne"), "account: there is no account 'acne'; list the accounts with: awx-ratelimit accounts"),
        (("--account", "acme", "--key", "key_0123456789abcdef"), "the account 'acme' has no key 'key_0123456789"),
        (("--account", "acme", "--from", "2025-06-02", "--to", "2025-06-01"),
         "--from: not before --to; expected an earlier time"),
        (("--account", "acme", "--from", "June"), "Invalid value for '--from'"),
        (("--account", "acme", "--by", "week"), "Invalid value for '--by'"),
    ],
)  # fmt: skip
def test_errors(usage: Run, used: Callable[[str, str], str], words: tuple[str, ...], error: str) -> None:
    """A mistake is one line that says what to do."""
    used("acme", "n")
    ran = usage("history", *words)

    assert ran.status == 2
    assert error in ran.err
    assert len(ran.err.splitlines()) == 1


def test_keys(usage: Run, used: Callable[[str, str], str]) -> None:
    """``usage keys`` prints the busiest keys, and no name becomes a formula or a command of a CI system."""
    used("acme", "=1+1")
    used("acme", "::error::x")
    table = usage("keys", "--account", "acme").out
    rows = list(csv.DictReader(io.StringIO(usage("keys", "--account", "acme", "--csv").out)))
    document = usage("keys", "--account", "acme", "--number", "1", "--json").json

    assert table.splitlines()[0].split()[:3] == ["id", "name", "key"]
    assert {row["name"] for row in rows} == {"'=1+1", "::error::x"}
    assert [row["allowed"] for row in rows] == ["7", "7"]
    assert len(document["data"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("usage", "history", "--account", "acme"),
        ("usage", "keys", "--account", "acme", "--json"),
        ("usage", "export", "--since", "2025-06-01"),
        ("accounts", "list"),
        ("accounts", "show", "acme"),
        ("accounts", "shadow-refusals"),
    ],
    ids=" ".join,
)
def test_not_recorded(
    run: Run, service: KeyService, used: Callable[[str, str], str], database: str, words: tuple[str, ...]
) -> None:
    """If no usage was ever recorded, a line says how to record it."""
    before = run(*words, "--database", database)
    used("acme", "n")
    after = run(*words, "--database", database)

    note = "note: nothing has recorded usage in this store yet. To record it, write listeners=[UsageHistory(store)] in "
    assert (before.status, after.status) == (0, 0)
    assert note in before.err
    assert "See docs/usage-history.md#switch-it-on" in before.err
    assert "note:" not in after.err


def test_subject_named_like_a_command(run: Run) -> None:
    """``usage SUBJECT`` still prints what a subject uses now, with its options in any order."""
    answers = [
        run("usage", *words, "--backend", "redis://127.0.0.1:1")
        for words in (["key_1"], ["--plan", "starter", "key_1"], ["subject", "history"])
    ]

    assert {answer.status for answer in answers} == {2}
    assert [answer.err for answer in answers] == [answers[0].err] * 3
    assert "the backend does not answer" in answers[0].err


def test_name_of_a_command_alone(run: Run) -> None:
    """The name of a command without its arguments is an error that also says how to name a subject like that."""
    ran = run("usage", "history")

    assert ran.status == 2
    assert ran.err == (
        "error: usage history: expected arguments; see: awx-ratelimit usage history --help. "
        "For a subject named 'history', write: awx-ratelimit usage subject history\n"
    )


@pytest.mark.parametrize(
    ("words", "name", "option"),
    [
        (("--json", "account", "acme"), "account", "--json"),
        (("--from", "2025-06-01", "history", "--account", "acme"), "history", "--from"),
        (("--backend", "redis://127.0.0.1:1", "keys"), "keys", "--backend"),
    ],
)
def test_options_before_a_command(run: Run, words: tuple[str, ...], name: str, option: str) -> None:
    """Options before the name of a command are one error that says what to write."""
    ran = run("usage", *words)

    assert ran.status == 2
    assert ran.err == (
        f"error: usage: expected {name} before its options, got {option} first; write: awx-ratelimit usage {name} ... "
        f"{option}. For a subject named {name!r}, write: awx-ratelimit usage subject {name}\n"
    )


def test_command_name_as_a_value(run: Run) -> None:
    """The value of an option may be the name of a command."""
    ran = run("usage", "--plan", "account", "key_1", "--backend", "redis://127.0.0.1:1")

    assert "there is no plan 'account'" in ran.err


def test_export(usage: Run, store: KeyStore) -> None:
    """``usage export`` prints CloudEvents in lines or as an array, and where to continue."""
    service = KeyService(store)
    hour_ms = WallClock.now_ms() // HOUR_MS * HOUR_MS - 3 * HOUR_MS
    since, end = (rfc3339(datetime.fromtimestamp((hour_ms + ms) / 1_000, UTC)) for ms in (0, 2 * HOUR_MS))
    for number, account in enumerate(("acme", "other")):
        service.accounts.create(account)
        key = service.create(account, "n").key.id
        used = HourUsage(key, hour_ms, 7, 0, 0, hour_ms, {"requests": 7}, {})
        store.write(statements.add, "another", number, hour_ms, [used])
    lines = usage("export", "--since", since, "--source", "urn:a##b")
    array = usage("export", "--since", since, "--source", "urn:a##b", "--batch")
    one = usage("export", "--since", since, "--account", "acme")
    none = usage("export", "--since", end, "--batch")
    events = [json.loads(line) for line in lines.out.splitlines()]

    assert [(event["subject"], event["time"], event["data"]["value"]) for event in events] == [
        ("acme", since, 7),
        ("other", since, 7),
    ]
    # Two of them could be a command of a CI system.
    assert "##" not in lines.out
    assert events[0]["source"] == "urn:a##b"
    assert lines.err in {f"next: --since {end}\n", f"next: --since {rfc3339(_later(end))}\n"}
    assert array.json == events
    assert len(one.out.splitlines()) == 1
    assert none.json == []


def _later(time: str) -> datetime:
    """An hour later: the hour may end while the test runs."""
    return datetime.fromisoformat(time) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--since", "June"), "Invalid value for '--since'"),
        (("--since", "2999-01-01"), "since: in the future; expected a time that has passed"),
        (
            ("--since", "2025-06-01", "--account", "acne"),
            "account: there is no account 'acne'; list the accounts with: awx-ratelimit accounts list",
        ),
        (("--since", "2025-06-01", "--source", "our api"), "source: not valid; expected a URI"),
    ],
)
def test_export_errors(usage: Run, used: Callable[[str, str], str], words: tuple[str, ...], error: str) -> None:
    """A mistake is one line that says what to do, and nothing is exported."""
    used("acme", "n")
    ran = usage("export", *words)

    assert (ran.status, ran.out) == (2, "")
    assert error in ran.err
