"""The file where the demo keeps its limits: one per user of this machine, kept between runs."""

import os
from pathlib import Path
from tempfile import gettempdir

from examples.demo_server import ServerFailed


def own_file() -> str:
    """Return its URL. Raises ServerFailed if another user owns its folder, and could put anything there."""
    folder = Path(gettempdir()) / f"awx-demo-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ServerFailed(f"{folder} is not yours; give BACKEND=host:///path/to/file, or BACKEND=memory")
    return f"host://{folder}/limits"
