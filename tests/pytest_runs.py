"""Runs of pytest in a folder of its own, as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder with these arguments, in a process of their own.

    Of the installed plugins it loads that of anyio alone: loading all of them would take longer than the tests.
    """
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "anyio", "--rootdir", ".", *words],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
