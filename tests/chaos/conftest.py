"""The limiters of the integration tests, of both kinds, bare and guarded; and the table of what was measured.

AWX_CHAOS_TABLE names a file in which the table takes the place of an older one.
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

#: One process of threads and one of tasks, as far as limits go.
WORKERS = 2
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"


@pytest.fixture
def open_guarded(open_limiters: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Opens one guarded limiter of each kind at a URL: two processes that share their limits."""

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
    """Print the table, and keep it if that was asked for and all is well."""
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
