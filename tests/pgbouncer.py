"""PgBouncer for tests: gives each transaction any of a few connections to a database."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres_servers import Postgres, unprivileged

_START_SECONDS = 20.0
#: Fewer connections than clients, each for one transaction after the other.
_SETTINGS = """
[databases]
* = host={server} user=awx

[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 2
max_client_conn = 300
server_round_robin = 1
logfile = {folder}/log.txt
pidfile =
"""


@contextmanager
def running_pgbouncer(postgres: Postgres, database: str) -> Iterator[str]:
    """The address of a database behind a pooler in transaction mode."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not os.access(program, os.X_OK):
        pytest.fail("pgbouncer is needed: install Debian's package pgbouncer")
    owner: dict[str, Any] = unprivileged() if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="awx-pgb-") as name:
        folder = Path(name)
        folder.joinpath("pgbouncer.ini").write_text(_SETTINGS.format(server=postgres.folder, folder=folder))
        folder.joinpath("users.txt").write_text('"awx" ""\n')
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [program, f"{folder}/pgbouncer.ini"], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, **owner,
        )  # fmt: skip
        try:
            url = f"postgresql://awx@/{database}?host={folder}&port=6432"
            _await(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _await(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return
        time.sleep(0.05)
    pytest.fail(f"pgbouncer did not start: {process.poll()}")
