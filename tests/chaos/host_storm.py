"""Kills and stops eight processes that share a host file: ``python -m tests.chaos.host_storm FOLDER SECONDS``.

They are forked from this one, which has loaded everything, so a killed one is replaced at once. It prints how many were
killed, how many had killed themselves in the middle of a write, and how many were stopped for a moment.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Final

from tests.chaos.host_hammer import hammer

PROCESSES: Final = 8
MIN_KILLS: Final = 8


def storm(folder: Path, seconds: float) -> tuple[int, int, int]:
    """The kills from outside, the writes that were cut short, and the stops."""
    for name in ("begun", "killed"):
        (folder / name).mkdir()
    kills = stops = cuts = 0
    pids = [_started(folder) for _ in range(PROCESSES)]
    try:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s or min(kills, cuts) < MIN_KILLS:
            time.sleep(random.random() / 10)
            for number, pid in enumerate(pids):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    cuts += 1
                    pids[number] = _started(folder)
            place = random.randrange(PROCESSES)
            if not (folder / "begun" / str(pids[place])).exists():
                continue
            if random.random() < 0.2:
                stops += 1
                os.kill(pids[place], signal.SIGSTOP)
                time.sleep(random.random() / 20)
                os.kill(pids[place], signal.SIGCONT)
            else:
                kills += 1
                _killed(folder, pids[place])
                pids[place] = _started(folder)
    finally:
        for pid in pids:
            _killed(folder, pid)
    return kills + PROCESSES, cuts, stops


def _started(folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        hammer(folder)
    finally:
        os._exit(1)


def _killed(folder: Path, pid: int) -> None:
    (folder / "killed" / str(pid)).touch()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, storm(Path(sys.argv[1]), float(sys.argv[2])))))
