"""The diagrams of docs/images/ are those that the program draws, and show the layers that import-linter checks."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Modules beside the layer that is named.
_SINGLE = {"limiter_upkeep", "limited_functions", "pending_decision"}


def test_drawn() -> None:
    """The files are up to date."""
    checked = subprocess.run(
        [sys.executable, str(ROOT / "tools/diagrams.py"), "--check"], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout


def test_layers() -> None:
    """The diagram has every layer, from top to bottom."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layers = [name for row in contract["layers"] for name in row.split(" | ") if name not in _SINGLE]
    drawn = re.findall(r'class="title"[^>]*>([a-z]+)<', (ROOT / "docs/images/layers.svg").read_text())

    assert drawn == layers
