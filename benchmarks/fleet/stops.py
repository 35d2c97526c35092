"""When a core stops for a moment: ``python -m benchmarks.fleet.stops CORE SECONDS`` keeps it busy, and watches.

The host of a virtual machine takes a core away for milliseconds, and the kernel for its own work. That is a small part
of the time, but the slowest hundredth of all claims waits for it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeAlias

#: When it began, and how long it took.
Stop: TypeAlias = tuple[float, float]

#: Shorter ones are among the pauses of a call and the uneven steps that `calibrate` has measured.
_MIN_STOP_S = 0.0005
_FOLDER = Path(__file__).parents[2]


def observed_stops(seconds: float) -> list[list[Stop]]:
    """The stops of each core in so many seconds, from now on, in which all are busy."""
    cores = sorted(os.sched_getaffinity(0))
    commands = [[sys.executable, "-m", "benchmarks.fleet.stops", str(core), str(seconds)] for core in cores]
    programs = [subprocess.Popen(command, cwd=_FOLDER, stdout=subprocess.PIPE) for command in commands]
    return [[(begin_s, for_s) for begin_s, for_s in json.loads(program.communicate()[0])] for program in programs]


def main() -> None:
    """Write the stops as JSON."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    begin_s = before_s = now_s = time.monotonic()
    stops, until_s = list[Stop](), begin_s + float(sys.argv[2])
    while now_s < until_s:
        now_s = time.monotonic()
        if now_s - before_s > _MIN_STOP_S:
            stops.append((before_s - begin_s, now_s - before_s))
        before_s = now_s
    print(json.dumps(stops))


if __name__ == "__main__":
    main()
