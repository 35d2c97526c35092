"""The table "works with" of README.md is the list of what is tested."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.works_with.rows import OWN_INTERFACES, ROUTE_LIMITS, rows

ROOT = Path(__file__).parents[2]


def test_the_table_is_up_to_date() -> None:
    """README.md has every row that is tested, and no other."""
    checked = subprocess.run(
        [sys.executable, str(ROOT / "tools/works_with.py"), "--check"], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr


def test_every_framework_and_server_is_in_make_test() -> None:
    """`make test` runs every framework on one server."""
    quick = {row.framework for row in rows() if not row.is_full}

    assert quick == {row.framework for row in rows()}


@pytest.mark.parametrize("path", [path for _, _, path in OWN_INTERFACES])
def test_other_interfaces_have_tests(path: str) -> None:
    """Every interface that is not ASGI or WSGI has tests."""
    assert (ROOT / path).exists()


@pytest.mark.parametrize("module", [module for _, module in ROUTE_LIMITS])
def test_route_limits_exist(module: str) -> None:
    """Every framework in which a route can have a limit has an adapter."""
    folder = ROOT / "src/awx_ratelimit/adapters"

    assert (folder / f"{module}.py").exists() or (folder / module / "__init__.py").exists()
