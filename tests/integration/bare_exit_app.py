"""A bare WSGI app in the folder at AWX_TEST_BACKEND: ``/slow`` ends when no process writes to its pipe any more."""

import atexit
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["AWX_TEST_BACKEND"])
atexit.register((FOLDER / "ended").touch)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the process id."""
    if environ["PATH_INFO"] == "/slow":
        (FOLDER / "pipe").read_bytes()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
