"""Paths and a clock for host files."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.host_processes import START_MS, StartProcess, running

from awx_ratelimit.testing import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "limits"


@pytest.fixture
def clock() -> ManualClock:
    """The clock of this process; other processes start at the same time."""
    return ManualClock(START_MS)


@pytest.fixture
def enterable() -> Iterator[Path]:
    """A folder that other users can enter; they may not be able to enter pytest's folders."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def start_process() -> Iterator[StartProcess]:
    """A function that starts a process on the file at a path, for the duration of a test."""
    with ExitStack() as processes:
        yield lambda path: processes.enter_context(running(path))
