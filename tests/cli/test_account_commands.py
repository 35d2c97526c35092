"""``awx-ratelimit accounts``: what the operator of the service sees and changes from the command line."""

import getpass
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.storage import usage as statements
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.runtime.clock import WallClock

UNTIL = (datetime.now(UTC) + timedelta(days=9)).strftime("%Y-%m-%d")
HOUR_MS = 3_600_000
DOCS = Path(__file__).parents[2] / "docs" / "operators.md"


@pytest.fixture
def accounts(run: Run, store: KeyStore, service: KeyService, database: str) -> Run:
    """Run a command of ``accounts`` on the store, in which acme has used a key."""
    key, now_ms = service.create("acme", "[red]n").key.id, WallClock.now_ms()
    hour = HourUsage(key, now_ms - now_ms % HOUR_MS, 7, 2, 3, now_ms, {}, {"minute": 2}, {"day": 4})
    store.write(statements.add, "test", 1, now_ms, [hour])
    service.accounts.create("beta", plan="growth")
    return lambda command, *words: run("accounts", command, *words, "--database", database)


@pytest.fixture
def plans(tmp_path: Path) -> str:
    """The path of a plan table with the plans starter and growth."""
    path = tmp_path / "plans.toml"
    path.write_text("[plans.starter]\nper_minute = 60\n[plans.growth]\nper_minute = 300\n")
    return str(path)


def lines(out: str) -> list[list[str]]:
    """The cells of each line of a table."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]


def test_documented(accounts: Run, plans: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the documentation works as it stands there; a time that has passed is replaced."""
    block = re.search(r"export AWX_DATABASE=keys.db\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None
    monkeypatch.chdir(Path(plans).parent)
    for line in block[1].splitlines():
        program, group, *words = shlex.split(line)
        ran = accounts(*(UNTIL if "2030-06-09" <= word < UNTIL else word for word in words))

        assert (program, group) == ("awx-ratelimit", "accounts")
        assert ran.status == 0, (line, ran.err)


def test_list(accounts: Run) -> None:
    """The list has a line for each account, in the order that is asked for, and JSON has its fields."""
    table = accounts("list")
    by_requests = accounts("list", "--order", "requests", "--json").json
    first = accounts("list", "--page-size", "1")

    assert lines(table.out) == [
        ["id", "plan", "status", "limits", "max keys", "allowed", "refused"],
        ["acme", "starter", "active", "-", "100", "7", "2"],
        ["beta", "growth", "active", "-", "100", "0", "0"],
    ]
    assert [(one["id"], one["allowed"], one["refused"]) for one in by_requests["data"]] == [("acme", 7, 2)]
    assert first.err == "1 of 2; the next are on --page 2\n"
    assert len(lines(accounts("list", "--prefix", "b").out)) == 2
    assert len(lines(accounts("list", "--plan", "growth", "--status", "suspended").out)) == 1


def test_show(accounts: Run, plans: str) -> None:
    """One account is shown with its keys, its use and, with a plan table, its limits as they are now."""
    accounts("override", "acme", "--times", "2", "--until", UNTIL)
    shown = accounts("show", "acme", "--plans", plans)
    document = accounts("show", "acme", "--json").json

    assert ["limits", f'{{"times": 2}} until {UNTIL}T00:00:00Z'] in lines(shown.out)
    assert ["would refuse", "day 4"] in lines(shown.out)
    assert "120 " in next(line for line in shown.out.splitlines() if line.startswith("limit minute"))
    assert "[red]n" in shown.out
    assert document["usage"] == {"allowed": 7, "refused": 2, "refusals": {"minute": 2}, "shadow_refusals": {"day": 4}}
    assert [key["name"] for key in document["keys"]] == ["[red]n"]


@pytest.mark.parametrize(
    ("words", "says", "changed"),
    [
        (("plan", "acme", "growth"), "acme is on the plan growth", {"plan": "growth"}),
        (("plan", "acme", "--default"), "acme is on the default plan", {"plan": None}),
        (("max-keys", "acme", "5"), "acme may have 5 keys", {"max_keys": 5}),
        (("override", "acme", '{"per_minute": 9}', "--until", UNTIL), f'acme has {{"per_minute": 9}} until {UNTIL}T',
         {"temporary_override": {"overrides": {"per_minute": 9}, "until": f"{UNTIL}T00:00:00Z"}}),
        (("override", "acme", "--times", "1.5", "--until", f"{UNTIL}T08:00:00Z"), f"until {UNTIL}T08:00:00Z",
         {"temporary_override": {"overrides": {"times": 1.5}, "until": f"{UNTIL}T08:00:00Z"}}),
        (("end-override", "acme"), "acme has no temporary limits", {"temporary_override": None}),
        (("suspend", "acme"), "acme is suspended", {"status": "suspended"}),
        (("resume", "acme"), "acme is active", {"status": "active"}),
    ],
)  # fmt: skip
def test_change(accounts: Run, words: tuple[str, ...], says: str, changed: dict[str, Any]) -> None:
    """A change prints one message, or the account as JSON; doing it again changes nothing."""
    ran = accounts(*words)
    again = accounts(*words, "--json")

    assert (ran.status, ran.out) == (0, "")
    assert says in ran.err
    assert {name: again.json[name] for name in changed} == changed


@pytest.mark.parametrize(("until", "hours"), [("+90m", 1.5), ("+2h", 2), ("+1d", 24), ("+2w", 336)])
def test_override_from_now(accounts: Run, until: str, hours: float) -> None:
    """The end of temporary limits may be given as a time from now."""
    before = datetime.now(UTC)
    changed = accounts("override", "acme", "--times", "2", "--until", until, "--json").json
    after = datetime.now(UTC)
    end = datetime.fromisoformat(changed["temporary_override"]["until"])

    # The end is printed without its fraction of a second.
    assert before - timedelta(seconds=1) <= end - timedelta(hours=hours) <= after


@pytest.mark.parametrize(
    ("overrides", "lost"),
    [
        ('{"account": {"per_month": 900}}', ["account.month no longer has anchor_day = 9, timezone = 'Europe/Paris':"]),
        ('{"per_minute": 600}', ["minute no longer has burst = 5:"]),
        ('{"per_minute": {"limit": 600, "burst": 5}, "concurrent": 3}', []),
        ('{"times": 2}', []),
        ('{"plan": "gone"}', []),
        ("null", []),
    ],
)
def test_lost_settings(
    run: Run, service: KeyService, database: str, tmp_path: Path, overrides: str, lost: list[str]
) -> None:
    """A note names the settings that a limit loses because an override replaces the whole of it."""
    (tmp_path / "plans.toml").write_text(
        "[plans.paris]\nper_minute = { limit = 60, burst = 5 }\n"
        "[plans.paris.account]\nper_month = { limit = 500, anchor_day = 9, timezone = 'Europe/Paris' }\n"
    )
    service.accounts.create("tours", plan="paris")
    where = ("--database", database, "--plans", str(tmp_path / "plans.toml"))
    commands: list[tuple[str, ...]] = [("keys", "set-overrides", overrides, "--account", "tours")]
    if overrides != "null":
        commands.insert(0, ("accounts", "override", "tours", overrides, "--until", UNTIL))

    for words in commands:
        said = run(*words, *where).err
        service.accounts.end_override("tours")

        assert [line.split("note: ")[1] for line in said.splitlines() if "note: " in line] == [
            f"{start} an override replaces the whole limit. To keep that, repeat it in the override, or write "
            '{"times": 2} to multiply all limits. See docs/plans.md#an-override-replaces-the-whole-limit'
            for start in lost
        ]


def test_lost_plan(run: Run, service: KeyService, database: str, plans: str) -> None:
    """Nothing is compared with a plan that is no longer in the table."""
    service.accounts.create("tours", plan="gone")
    words = ("set-overrides", '{"plan": "starter"}', "--account", "tours", "--database", database, "--plans", plans)

    assert "note:" not in run("keys", *words).err


def test_unchecked_plan(accounts: Run, plans: str) -> None:
    """Without a plan table, a line says that the plan that an account gets was not checked."""
    override = ("override", "acme", '{"plan": "gold"}', "--until", UNTIL)
    unchecked = [accounts(*words).err for words in (("plan", "acme", "gold"), override)]
    checked = [
        accounts(*words).err for words in (("plan", "acme", "growth", "--plans", plans), ("plan", "acme", "--default"))
    ]

    assert [
        said.count("note: the plan 'gold' was not checked, because no plan table was given.") for said in unchecked
    ] == [1, 1]
    assert [said.count("note:") for said in checked] == [0, 0]


def test_audit(accounts: Run) -> None:
    """The audit trail is newest first, names the user or --actor, and can be filtered."""
    accounts("suspend", "acme")
    accounts("plan", "beta", "starter", "--actor", "ada")
    events = accounts("audit", "--json").json["data"]
    before = accounts("audit", "--account", "acme", "--before", str(events[1]["number"]), "--json").json["data"]

    assert [(one["account_id"], one["action"], one["actor"]) for one in events[:2]] == [
        ("beta", "account.plan_set", "ada"),
        ("acme", "account.suspended", f"cli:{getpass.getuser()}"),
    ]
    assert [one["action"] for one in before] == ["key.created", "account.created"]
    assert [row[3] for row in lines(accounts("audit", "--action", "account.plan_set").out)] == [
        "action",
        "account.plan_set",
    ]


def test_shadow_refusals(accounts: Run) -> None:
    """What limits in shadow would have refused is printed by limit and by account."""
    assert lines(accounts("shadow-refusals").out) == [
        ["limit", "would refuse"],
        ["day", "4"],
        ["account", "would refuse", "by limit"],
        ["acme", "4", "day 4"],
    ]
    assert accounts("shadow-refusals", "--by", "hour", "--json").json == {
        "limits": {"day": 4},
        "accounts": [{"id": "acme", "number": 4, "limits": {"day": 4}}],
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plan", "acme"), "plan: expected a plan or --default, got neither"),
        (("plan", "acme", "growth", "--default"), "plan: expected a plan or --default, got both"),
        (("plan", "acme", "gold", "--plans", "PLANS"), "there is no plan 'gold'; allowed are starter, growth"),
        (("override", "acme", "--until", UNTIL), "limits: expected limits or --times, got neither"),
        (("override", "acme", "{}", "--times", "2", "--until", UNTIL), "expected limits or --times, got both"),
        (("override", "acme", "{", "--until", UNTIL), "overrides: not valid JSON"),
        (("override", "acme", "--times", "2"), "Missing option '--until'"),
        (
            ("override", "acme", "--times", "2", "--until", "monday"),
            "Invalid value for '--until': expected a date such as 2030-06-09, a time such as 2030-06-09T08:00:00Z, "
            "or a time from now such as +2h, +1d or -7d (w, d, h, m), got 'monday'",
        ),
        (("override", "acme", "--times", "2", "--until", "2h"), "a time from now such as +2h, +1d"),
        (("override", "acme", "--times", "2", "--until", "+999999w"), "a time from now such as +2h, +1d"),
        (("override", "acme", "--times", "2", "--until", "-1d"), "until: has passed"),
        (("override", "acme", "--times", "2", "--until", "2025-01-01"), "until: has passed"),
        (("override", "acme", "--times", "nan", "--until", UNTIL), "overrides: "),
        (("override", "acme", "--times", "0", "--until", UNTIL), "expected a number above 0"),
        (("suspend", "nobody"), "there is no account 'nobody'; list the accounts with: awx-ratelimit accounts list"),
        (("show", "nobody"), "there is no account 'nobody'; list the accounts with: awx-ratelimit accounts list"),
        (("list", "--order", "plan"), "Invalid value for '--order'"),
        (("list", "--from", "2025-02-02", "--to", "2025-01-01"), "--from: not before --to"),
        (("audit", "--action", "x"), "action: not a valid value; expected key.created"),
        (("suspend", "acme", "--actor", ""), "actor: has 0 characters"),
    ],
)
def test_mistakes(accounts: Run, plans: str, service: KeyService, words: tuple[str, ...], says: str) -> None:
    """A mistake is one line on stderr that says what to do, and changes nothing."""
    ran = accounts(*(plans if word == "PLANS" else word for word in words))

    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert service.events("acme").total == 2
