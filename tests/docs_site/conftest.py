"""The site, built once from a copy of the repository."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What a copy of the repository needs, so that a test can break it.
_NEEDED = (
    "docs",
    "tools",
    "examples",
    "benchmarks",
    "src",
    "LICENSE",
    "tests/test_llm_gateway.py",
    "zensical.toml",
    "pyproject.toml",
)


def build(place: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of `make docs` in a copy of the repository."""
    command = [sys.executable, "-m", "tools.docs_site", "build"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=580)


@pytest.fixture(scope="package")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of the repository of which the site is made."""
    place = tmp_path_factory.mktemp("site")
    for name in [*_NEEDED, *(path.name for path in ROOT.glob("*.md"))]:
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.sqlite3"))
        else:
            shutil.copy(ROOT / name, target)
    return place


@pytest.fixture(scope="package")
def site(copy: Path) -> Path:
    """The site as `make docs` builds it."""
    built = build(copy)
    assert built.returncode == 0, built.stdout + built.stderr
    return copy / "site"
