"""The examples in docs/ work."""

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from awx_ratelimit import Gate, Limiter, MemoryBackend, PlanTable, Request, StaticKeys
from awx_ratelimit.cli.app import app
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.testing import ManualClock

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "api-keys.md").read_text()
DAY_MS = 86_400_000
COMMANDS = re.findall(r"awx-ratelimit (?:keys|scan)[^\n`&]*", PAGE)
LOAD = re.findall(r"^awx-ratelimit .*", (ROOT / "docs" / "load-testing.md").read_text(), re.MULTILINE)


def test_nightly_job() -> None:
    """Two runs of the job give each old key one successor, and leave a younger key alone."""
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

    assert [name for name, _ in stored] == ["old"]
    assert stored[0][1][:4] == "awx_"
    assert kept == {("old", "rotated"), ("old", "active"), ("young", "active")}


def test_identifiers() -> None:
    """Each refusal has the text that the page shows, and a cached session is admitted from a guessing address."""
    page = (ROOT / "docs" / "identify.md").read_text()
    names: dict[str, Any] = {"__name__": "identify"}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "identify.md", "exec"), names)
    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=names["Sessions"]())

    def ask(gate: Any, session: str | None) -> Any:
        lines = [] if session is None else [f"Bearer {session}".encode()]
        return gate.admit(Request("GET", "/", "192.0.2.1", lambda name: lines if name == b"authorization" else []))

    ended = asyncio.run(ask(names["gate"], "77ab")).reply
    shown = page.split("HTTP/1.1 401 Unauthorized\n")[1].split("```")[0]
    assert shown == f"WWW-Authenticate: {dict(ended.headers)[b'www-authenticate'].decode()}\n\n{ended.body.decode()}\n"
    assert ask(gate, "3f9c").reply is None
    assert [ask(gate, f"guess-{number}").reply.status for number in range(22)] == [401] * 20 + [429] * 2
    assert ask(gate, "3f9c").reply is None
    assert ask(gate, "77ab").reply.status == 429


def test_rules() -> None:
    """A gate accepts the rules of each block."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "rules.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "rules.md", "exec"), names)
        gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StaticKeys({}), rules=names["rules"])

        assert gate.is_exempt("GET", "/health")
    assert len(blocks) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_key_commands(command: str) -> None:
    """Each line is a valid command with valid arguments and options."""
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
def test_load_tester_commands(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is a valid command with valid arguments and options."""
    monkeypatch.setenv("AWX_BACKEND", "redis://localhost:6379")
    group = get_command(app)
    with group.make_context("awx-ratelimit", [], resilient_parsing=True) as context:
        name, found, rest = group.resolve_command(context, shlex.split(command)[1:])  # type: ignore[attr-defined]
        if name == "plans":
            name, found, rest = found.resolve_command(context, rest)

        assert found.make_context(name, rest, parent=context).params
