"""Runs real processes against a real server on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer

from benchmarks.fleet.quiet import Others
from benchmarks.fleet.running import RunningServer, used_s
from benchmarks.fleet.speed import Course, Watch
from benchmarks.fleet.worker import Work

_ROOT = Path(__file__).parents[2]
#: After all processes are ready.
_START_S = 0.3
#: Programs are still running when they are looked at.
_EARLY_S = 0.1
_PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Observed:
    """What real processes did. `others` is the share of this machine that other programs used meanwhile.

    `machine` has the speed of each core, from the begin. `took_s` are the times of all claims after the warm-up, and
    `admitted_s` has the times of all claims of watched subjects that were admitted.
    """

    others: float
    machine: Sequence[Course]
    took_s: Sequence[float]
    admitted_s: dict[int, list[float]]


def observe(
    work: Work, processes: int, server: RunningServer, speed: Watch, during: Sequence[tuple[float, int]] = ()
) -> Observed:
    """Let so many processes do `work`. `during`: signals to the server, with the seconds after the begin."""
    programs = [_start(replace(work, seed=work.seed + 100 * number)) for number in range(processes)]
    begin_s = _begin(programs)
    for after_s, number in during:
        Timer(begin_s + after_s - time.monotonic(), server.signal, (number,)).start()
    time.sleep(max(0.0, begin_s + work.warm_up_s - time.monotonic()))
    others = Others(lambda: _used_s(programs, server))
    time.sleep(work.seconds - _EARLY_S)
    others_share = others.share()
    done = [json.loads(program.communicate(timeout=_PATIENCE_S)[0]) for program in programs]
    admitted: dict[int, list[float]] = {}
    for each in done:
        for subject, times_s in each["admitted_s"].items():
            admitted.setdefault(int(subject), []).extend(times_s)
    took_s = [took_us / 1e6 for each in done for took_us in each["taken_us"]]
    return Observed(others_share, speed.courses(begin_s, time.monotonic()), took_s, admitted)


def _begin(programs: Sequence["subprocess.Popen[bytes]"]) -> float:
    """Let all programs begin at the same time, as soon as all are ready. Returns that time of the monotonic clock."""
    for program in programs:
        assert program.stdout is not None, "it is a pipe"
        if program.stdout.readline() != b"ready\n":
            raise SystemExit("a worker did not start")
    begin_s = time.monotonic() + _START_S
    for program in programs:
        assert program.stdin is not None, "it is a pipe"
        program.stdin.write(f"{begin_s}\n".encode())
        program.stdin.flush()
    return begin_s


def _start(work: Work) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "benchmarks.fleet.worker", work.to_json()]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    # What a guard logs about an outage is expected.
    return subprocess.Popen(
        command,
        cwd=_ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _used_s(programs: Sequence["subprocess.Popen[bytes]"], server: RunningServer) -> float:
    return server.total_s() + sum(used_s(program.pid) for program in programs)
