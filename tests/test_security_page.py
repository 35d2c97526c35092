"""docs/security.md names only options that exist, and every option of a gate."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from awx_ratelimit import Caller, Gate, Rule, StoredKeys
from awx_ratelimit.adapters.starlette import limit
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.console import Console, OperatorConsole
from awx_ratelimit.keys import KeyStore
from awx_ratelimit.management import AccessTokens, ManagementApi, OperatorApi

PAGE = (Path(__file__).parent.parent / "docs" / "security.md").read_text()
ROWS = re.findall(r"^\| `(.+?)`(?:, `.+?`)* \|", PAGE, re.MULTILINE)
OWNERS: dict[str, Any] = {
    "Caller": Caller,
    "Rule": Rule,
    "limit": limit,
    "StoredKeys": StoredKeys,
    "HostBackend": HostBackend,
    "KeyStore.open": KeyStore.open,
    "AccessTokens": AccessTokens,
    "Console": Console,
    "OperatorConsole": OperatorConsole,
    "ManagementApi": ManagementApi,
    "OperatorApi": OperatorApi,
}
#: Required parameters of a gate, and others that expose nothing by themselves.
NEEDED = {"limiter", "plans", "rules", "websocket_refusal"}


def _options(row: str) -> tuple[str, list[str]]:
    """The owner of a row's options, and their names."""
    owner, parenthesis, _ = row.partition("(")
    return (owner if parenthesis else ""), re.findall(r"(\w+)=", row)


@pytest.mark.parametrize("row", ROWS)
def test_options_exist(row: str) -> None:
    """A row names parameters of its object, or of a gate, a middleware or a guard."""
    owner, names = _options(row)
    owners = [OWNERS[owner]] if owner else [Gate, RateLimitMiddleware, GuardedBackend]

    known = {name for one in owners for name in inspect.signature(one).parameters}
    assert names
    assert set(names) <= known


def test_options_of_a_gate() -> None:
    """Every option of a gate has a row, which says what it exposes."""
    named = {name for row in ROWS for name in _options(row)[1]}

    assert set(inspect.signature(Gate).parameters) - NEEDED <= named
