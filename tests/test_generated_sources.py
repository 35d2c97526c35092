"""The synchronous modules equal the output of `tools/generate_sync.py`."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = sorted((ROOT / "src").rglob("*_sync.py"))


def generate(root: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(root / "tools" / "generate_sync.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources and of the generator."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_up_to_date() -> None:
    """The checked-in modules equal those that the generator writes."""
    checked = generate(ROOT, "--check")

    assert checked.stdout == checked.stderr == ""
    assert checked.returncode == 0


def test_changed_source(tree: Path) -> None:
    """After a change of an asynchronous class its synchronous module is out of date until it is generated."""
    source, target = tree / "src/awx_ratelimit/limiter.py", tree / "src/awx_ratelimit/limiter_sync.py"
    source.write_text(source.read_text().replace("plan.check(cost)", "plan.check(cost + 0)"))
    before = target.read_text()

    checked = generate(tree, "--check")
    assert checked.returncode == 1
    assert checked.stdout == "awx_ratelimit/limiter_sync.py: out of date; run tools/generate_sync.py\n"
    assert target.read_text() == before

    assert generate(tree).returncode == 0
    assert "plan.check(cost + 0)" in target.read_text()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.stem)
def test_no_asynchronous_word(path: Path) -> None:
    """No word of asynchronous code is left in a generated module, not even in comments."""
    assert re.findall(r"\b(?:await|async|asyncio|event loops?|tasks?)\b|\bAsync\w+", path.read_text()) == []
