"""Files of another user, and a process without root's permissions."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


def make_foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `path` to another user. root would not do, because it is trusted."""
    if not os.getuid():
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Run a block as the user nobody if the tests run as root."""
    if os.getuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
