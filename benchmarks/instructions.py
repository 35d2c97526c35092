"""Counts the instructions of one call, or of one request to a server, with cachegrind.

The counts do not depend on how busy the machine is, and repeat within half a percent.

The program `benchmarks.counted` loads everything once. Then two children of it, one after the other, do the same work a
different number of times. The difference between their counts belongs to the work alone.
"""

import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from benchmarks.counted import LENGTHS, Lengths

_COUNTED = re.compile(r"I\s+refs:\s+([\d,]+)")
_TIMEOUT_S = 120
#: The statuses of a program that has ended by itself, and of one that was asked to end.
_ENDED = (0, -signal.SIGTERM)


def of_calls(function: str, arguments: Sequence[str], lengths: Lengths = LENGTHS) -> list[int]:
    """The instructions of one call of what the function at ``MODULE:FUNCTION`` returns for each of `arguments`.

    The first child calls it `lengths[0]` times and the second one `lengths[1]` times.
    """
    program = ["calls", function, *map(str, lengths), *arguments]
    return _counted(program, lambda output: [int(line) for line in output], lengths)


def of_request(name: str) -> int:
    """The instructions of one request of the app `name` in uvicorn or, if it is a WSGI app, in a worker of gunicorn."""
    return _counted(["server", name], _send_requests, LENGTHS)[0]


def _counted(arguments: list[str], drive: Callable[[IO[bytes]], list[int]], lengths: Lengths) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", f"--log-file={folder}/%p"]
        program = [sys.executable, "-m", "benchmarks.counted", *arguments]
        # Else a set has another order in each process.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        with subprocess.Popen(["valgrind", *options, *program], env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                pids = drive(process.stdout)
            finally:
                process.terminate()
        if process.returncode not in _ENDED:
            raise SystemExit(f"{' '.join(program)} ended with status {process.returncode}")
        counts = [_count(Path(folder, str(pid))) for pid in pids]
    more = lengths[1] - lengths[0]
    return [round((many - few) / more) for few, many in zip(counts[::2], counts[1::2], strict=True)]


def _send_requests(output: IO[bytes]) -> list[int]:
    """Send each child its requests, one after the other."""
    key, port = output.readline().decode().split()
    pids = []
    for length in LENGTHS:
        pids.append(int(output.readline()))
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=_TIMEOUT_S)
        for _ in range(length):
            connection.request("GET", "/v1/agents", headers={"X-API-Key": key})
            response = connection.getresponse()
            response.read()
            if response.status != http.client.OK:
                raise SystemExit(f"the server answered {response.status}")
        connection.close()
    # Each process writes its count at its end.
    output.read()
    return pids


def _count(log: Path) -> int:
    found = _COUNTED.search(log.read_text())
    if found is None:
        raise SystemExit(f"cachegrind counted nothing:\n{log.read_text()}")
    return int(found[1].replace(",", ""))
