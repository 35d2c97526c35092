"""Files that belong to another user."""

import os
from pathlib import Path

import pytest

NOBODY = 65534


def make_foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `path` belong to another user than this process; not to root, who is trusted."""
    if not os.getuid():
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
