"""Files of another user, and this process without root's permissions."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


def make_foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `path` to another user; not to root, which is trusted."""
    if not os.getuid():
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As nobody, where these tests are root."""
    if os.getuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
