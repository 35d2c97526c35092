"""One run from the outside: the process of Locust is started, listened to, and surely ended.

Whatever becomes of it (it ends, it dies, it hangs, somebody presses Ctrl-C), what was seen until then is kept.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, Any, Final

from awx_ratelimit.loadtest.keys import masked
from awx_ratelimit.loadtest.observation import Observation
from awx_ratelimit.loadtest.order import Order

#: How much longer than its time a run may take: for starting, and for ending.
_EXTRA_S: Final = 30.0
_STOP_S: Final = 5.0
_LISTEN_S = 0.2


@dataclass(slots=True)
class Seen:
    """What a run has seen so far. `trouble` says why it ended before its time, if it did."""

    observations: list[Observation] = field(default_factory=list)
    stages: list[tuple[str, int]] = field(default_factory=list)
    workers: int = 0
    spread_us: int = 0
    trouble: str = ""
    interrupted: bool = False


Watch = Callable[[Seen], None]


def run(order: Order, keys: Sequence[str], watch: Watch) -> Seen:
    """Carry out `order`; `watch` is called a few times a second. Ctrl-C ends it, with what was seen until then."""
    if find_spec("locust") is None:
        raise ImportError("the load tester needs locust; install it with: pip install 'awx-ratelimit[loadtest]'")
    seen = Seen()
    until_s = time.monotonic() + order.seconds + _EXTRA_S
    with TemporaryFile() as errors, _process(errors) as (process, lines):
        assert process.stdin is not None
        process.stdin.write(json.dumps({"order": order.as_json(), "keys": list(keys)}).encode() + b"\n")
        process.stdin.flush()
        try:
            _listen(lines, keys, seen, watch, until_s)
        except KeyboardInterrupt:
            seen.interrupted = True
            _hear_the_rest(process, lines, keys, seen)
        if not seen.interrupted and not seen.trouble and not _ended_well(process):
            seen.trouble = f"the process of the load ended with status {process.returncode}: {_last_words(errors)}"
            seen.trouble = masked(seen.trouble, keys)
    return seen


def serve(host: str, port: int) -> int:
    """Be a worker of the run there until it is over; the exit status."""
    command = [sys.executable, "-m", "awx_ratelimit.loadtest.worker", host, str(port)]
    with suppress(KeyboardInterrupt):
        return subprocess.run(command, check=False).returncode  # noqa: S603  # our own words
    return 0


@contextmanager
def _process(errors: IO[bytes]) -> "Iterator[tuple[subprocess.Popen[bytes], SimpleQueue[bytes | None]]]":
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "awx_ratelimit.loadtest.driver"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        env={**os.environ, "PYTHONPATH": path},
        # Ctrl-C goes to everyone in a session; this one is told by us, and has time to tell what it has seen.
        start_new_session=True,
    )  # fmt: skip
    lines: SimpleQueue[bytes | None] = SimpleQueue()
    reader = Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        _end(process)
        reader.join(_STOP_S)
        if process.stdout is not None:
            process.stdout.close()


def _read(stdout: IO[bytes], lines: "SimpleQueue[bytes | None]") -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def _listen(lines: "SimpleQueue[bytes | None]", keys: Sequence[str], seen: Seen, watch: Watch, until_s: float) -> None:
    while time.monotonic() < until_s:
        try:
            line = lines.get(timeout=_LISTEN_S)
        except Empty:
            watch(seen)
            continue
        if line is None:
            watch(seen)
            return
        _note(json.loads(masked(line.decode(), keys)), seen)
    seen.trouble = "the process of the load did not end in its time"


def _note(said: dict[str, Any], seen: Seen) -> None:
    seen.observations += map(Observation.of_row, said.get("rows", ()))
    if "profile" in said:
        seen.stages.append((said["profile"], said["users"]))
    seen.workers = max(seen.workers, said.get("worker", 0))
    seen.spread_us = max(seen.spread_us, said.get("spread_us", 0))
    seen.trouble = seen.trouble or said.get("given_up", "")


def _hear_the_rest(
    process: "subprocess.Popen[bytes]", lines: "SimpleQueue[bytes | None]", keys: Sequence[str], seen: Seen
) -> None:
    """Ask it to end, and take what it still says; a second Ctrl-C means now."""
    try:
        if process.stdin is not None:
            process.stdin.close()
        _listen(lines, keys, seen, lambda _: None, time.monotonic() + _STOP_S)
    except KeyboardInterrupt:
        pass
    seen.trouble = ""


def _ended_well(process: "subprocess.Popen[bytes]") -> bool:
    try:
        return process.wait(_STOP_S) == 0
    except subprocess.TimeoutExpired:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
