"""A small file system, and a backend that does not start."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.errors import BackendMisconfigured


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory. Mounting it needs root."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        refuse: Any = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("mounting a small file system needs root, and a container that may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def assert_refused(path: Path, why: str) -> None:
    """A backend for this path raises an error that begins with the path and says why."""
    with pytest.raises(BackendMisconfigured) as raised:
        HostBackend(path)
    assert str(raised.value).startswith(f"{path}: "), raised.value
    assert why in str(raised.value)
