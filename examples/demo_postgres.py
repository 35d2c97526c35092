"""A PostgreSQL server for the demo, on a socket in a temporary folder. It keeps nothing."""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from examples.demo_server import ServerFailed

READY_SECONDS = 20.0
_MISSING = "PostgreSQL's server is needed: install Debian's package postgresql, or give BACKEND=postgresql://..."


@contextmanager
def own_postgres() -> Iterator[str]:
    """Start it and yield the URL of its socket. Raises ServerFailed if PostgreSQL is not installed."""
    programs = _programs()
    # The server refuses to run as root.
    owner = _unprivileged() if os.geteuid() == 0 else {}
    with TemporaryDirectory(prefix="awx-demo-") as folder:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        initdb = [str(programs / "initdb"), "-D", f"{folder}/data", "--auth=trust", "--username=awx", "--no-sync"]
        made = subprocess.run(initdb, cwd=folder, capture_output=True, check=False, **owner)
        if made.returncode:
            raise ServerFailed(f"initdb failed (status {made.returncode})")
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=100"]
        process = subprocess.Popen(
            [str(programs / "postgres"), "-D", f"{folder}/data", "-k", folder, *settings],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C reaches every process of a session; this one is stopped by the demo.
            start_new_session=True,
            **owner,
        )
        try:
            _wait_for(programs, folder, process)
            yield f"postgresql://awx@/postgres?host={folder}"
        finally:
            process.terminate()
            process.wait()


def _programs() -> Path:
    """The folder of the server's programs, which Debian keeps outside PATH, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        raise ServerFailed(_MISSING)
    return Path(initdb).parent


def _unprivileged() -> dict[str, Any]:
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _wait_for(programs: Path, folder: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + READY_SECONDS
    asking = [str(programs / "pg_isready"), "-q", "-h", folder]
    while subprocess.run(asking, check=False).returncode:
        if process.poll() is not None or time.monotonic() > until:
            raise ServerFailed(f"postgres did not start (status {process.returncode})")
        time.sleep(0.05)
