"""The contract kits, as a third party uses them; and the names that the package exports."""

import re
from pathlib import Path

import pytest
from tests.pytest_runs import run_pytest

BACKEND = """
from awx_ratelimit import MemoryBackend
{import_line}


class Broken(MemoryBackend):
    def acquire(self, subject, plan, cost):
        return super().acquire(subject, plan, cost)._replace(held=7)

    def peek(self, subject, plan, cost):
        return super().peek(subject, plan, cost)._replace(levels=[0] * 8)


class TestBroken(BackendContract):
    exact_steps = 80

    def backend(self, clock):
        return Broken(clock=clock)
"""


@pytest.mark.parametrize(
    "import_line",
    [
        "from awx_ratelimit.testing import BackendContract",
        pytest.param("from awx_ratelimit.testing.backend_contract import BackendContract", marks=pytest.mark.full),
    ],
)
def test_a_failed_law_shows_the_compared_values(tmp_path: Path, import_line: str) -> None:
    """The pytest report of a broken backend shows both sides of each comparison, for every way to import the kit."""
    (tmp_path / "test_broken.py").write_text(BACKEND.format(import_line=import_line))

    report = run_pytest(tmp_path, "-k", "law_7 or reset", "test_broken.py").stdout

    errors = [line.removeprefix("E").strip() for line in report.splitlines() if line.startswith("E ")]
    assert " failed" in report
    assert [line for line in errors if re.search(r"assert .* == .*[0-9]", line)]
    assert "AssertionError" not in errors


def test_frozen_is_a_function_after_every_import() -> None:
    """No module of the same name replaces the exported function `frozen`."""
    from awx_ratelimit import testing

    assert callable(testing.rate_limits)
    assert callable(testing.frozen)
    assert callable(testing.frozen)
