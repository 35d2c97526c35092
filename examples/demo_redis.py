"""A Redis server for the demo, on a socket in a temporary folder. It keeps nothing."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.demo_server import ServerFailed

READY_SECONDS = 5.0


@contextmanager
def own_redis() -> Iterator[str]:
    """Start it and yield the URL of its socket. Raises ServerFailed if Redis is not installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise ServerFailed("redis-server is needed: install Debian's package of that name, or give BACKEND=redis://...")
    with TemporaryDirectory(prefix="awx-demo-") as folder:
        path = Path(folder) / "redis.sock"
        process = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            # Ctrl-C reaches every process of a session; this one is stopped by the demo.
            start_new_session=True,
        )
        try:
            _wait_for(path, process)
            yield f"redis+unix://{path}"
        finally:
            process.terminate()
            process.wait()


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + READY_SECONDS
    while not path.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise ServerFailed(f"redis-server did not start (status {process.returncode})")
        time.sleep(0.01)
