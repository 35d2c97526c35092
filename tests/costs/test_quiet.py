"""What `make fleet` counts as its own work, so that it can tell how much of the machine others use."""

import subprocess
import sys

from benchmarks.fleet.running import RunningServer

#: It ends a child that has used 0.2 s of processor time, and then waits.
_SERVER = """
import os, time
if (child := os.fork()) == 0:
    while time.process_time() < 0.2:
        pass
    os._exit(0)
os.waitpid(child, 0)
print(flush=True)
input()
"""


def test_processes_that_have_ended() -> None:
    """What processes of a server have used counts after their end, too: PostgreSQL has one for each connection."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        total_s = RunningServer("", lambda: [server.pid]).total_s()
        server.communicate()

    assert total_s > 0.15
    assert RunningServer("", lambda: [server.pid]).total_s() == 0
