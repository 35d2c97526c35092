"""The file in which the demo keeps its limits: one for each user of this machine, which is there the next time."""

import os
from pathlib import Path
from tempfile import gettempdir

from examples.demo_server import ServerFailed


def own_file() -> str:
    """Its URL. Raises ServerFailed where its folder is somebody else's, who could put anything there."""
    folder = Path(gettempdir()) / f"awx-demo-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ServerFailed(f"{folder} is not yours; give BACKEND=host:///path/to/file, or BACKEND=memory")
    return f"host://{folder}/limits"
