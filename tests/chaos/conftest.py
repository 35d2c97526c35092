"""Limiters with and without a guard, and the table of measurements.

Set AWX_CHAOS_TABLE to a file to replace the table in it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.load import ROWS, SECONDS
from tests.integration.conftest import LoopLimiter, open_limiters

from awx_ratelimit import AsyncLimiter, Limiter
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend

__all__ = ["open_limiters"]

#: The limiter for threads and the one for tasks count as one worker each.
WORKERS = 2
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"


@pytest.fixture
def open_guarded(open_limiters: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Opens one guarded limiter for threads and one for tasks at a URL. They share their limits."""

    def opened(url: str, *, budget_ms: int) -> dict[str, Any]:
        bare = open_limiters(url, timeout_ms=budget_ms)
        guard: dict[str, Any] = {"expected_workers": WORKERS, "budget_ms": budget_ms}
        in_tasks = AsyncLimiter(AsyncGuardedBackend(bare["tasks"].backend, **guard))
        return {
            "threads": Limiter(GuardedBackend(bare["threads"].backend, **guard)),
            "tasks": LoopLimiter(bare["tasks"].portal, in_tasks),
        }

    return opened


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Print the table, and write it to AWX_CHAOS_TABLE if all tests passed."""
    if not ROWS:
        return
    lines = [f"| event, of {SECONDS:g} s | measured | bound |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in ROWS]
    terminalreporter.section("reliability")
    for line in lines:
        terminalreporter.write_line(line)
    if (path := os.environ.get("AWX_CHAOS_TABLE")) and exitstatus == 0:
        page = Path(path)
        before, _, rest = page.read_text("utf-8").partition(_BEGIN)
        after = rest.partition(_END)[2]
        page.write_text("\n".join([before + _BEGIN, *lines, "", _END + after]), "utf-8")
