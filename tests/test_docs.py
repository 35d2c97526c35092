"""What the pages in docs/ show, works."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from awx_ratelimit.cli.app import app
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.testing import ManualClock

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "api-keys.md").read_text()
DAY_MS = 86_400_000
COMMANDS = re.findall(r"awx-ratelimit (?:keys|scan)[^\n`&]*", PAGE)
LOAD = re.findall(r"^awx-ratelimit .*", (ROOT / "docs" / "load-testing.md").read_text(), re.MULTILINE)


def test_the_nightly_job_rotates_what_is_due_and_nothing_twice() -> None:
    """Run on two nights it gives each old key one successor, and leaves a younger key alone."""
    store, clock, stored = KeyStore.open("sqlite://"), ManualClock(start_ms=DAY_MS), []
    keys = KeyService(store, clock=clock)
    keys.accounts.create("acct_acme")
    keys.create("acct_acme", "old")
    clock.advance(90 * DAY_MS)
    keys.create("acct_acme", "young")
    (job,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for _ in range(2):
        exec(compile(job, "api-keys.md", "exec"), {"keys": keys, "put": lambda name, key: stored.append((name, key))})
    kept = {(key.name, key.status) for key in keys.list("acct_acme").items}
    store.close()

    assert ([name for name, _ in stored], stored[0][1][:4]) == (["old"], "awx_")
    assert kept == {("old", "rotated"), ("old", "active"), ("young", "active")}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_one(command: str) -> None:
    """Each line has a command, its arguments and options as they are."""
    words = shlex.split(command.replace("{id}", "key_1"))[1:]
    if words == ["keys", "revoke"]:
        words += ["key_1", "--account", "a"]
    group = get_command(app)
    with group.make_context("awx-ratelimit", [], resilient_parsing=True) as context:
        name, found, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
        if name == "keys":
            name, found, rest = found.resolve_command(context, rest)
        if name != "scan":
            rest += ["--database", "sqlite://"]

        assert found.make_context(name, rest, parent=context).params


@pytest.mark.parametrize("command", LOAD)
def test_each_command_of_the_load_tester_is_one(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line has a command, its arguments and options as they are."""
    monkeypatch.setenv("AWX_BACKEND", "redis://localhost:6379")
    group = get_command(app)
    with group.make_context("awx-ratelimit", [], resilient_parsing=True) as context:
        name, found, rest = group.resolve_command(context, shlex.split(command)[1:])  # type: ignore[attr-defined]
        if name == "plans":
            name, found, rest = found.resolve_command(context, rest)

        assert found.make_context(name, rest, parent=context).params
