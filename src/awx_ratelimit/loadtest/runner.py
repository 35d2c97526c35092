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

from awx_ratelimit.loadtest.audit.observation import Observation
from awx_ratelimit.loadtest.key_sources import mask_of
from awx_ratelimit.loadtest.run_config import Order
from awx_ratelimit.runtime.extras import check_versions

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
#: How often somebody has asked for the end.
Stops = Callable[[], int]


def run(order: Order, keys: Sequence[str], watch: Watch, stops: Stops = lambda: 0) -> Seen:
    """Carry out `order`; `watch` is called a few times a second.

    Asked to stop once, it ends in a moment, with what was seen until then; asked twice, at once.
    """
    check_versions("the load tester", "loadtest", "locust")
    if find_spec("locust") is None:
        raise ImportError("the load tester needs locust; install it with: pip install 'awx-ratelimit[loadtest]'")
    seen, mask, shown_s = Seen(), mask_of(keys), 0.0
    with TemporaryFile() as errors, _process(errors, stops) as (process, lines):
        _order(process, {"order": order.as_json(), "keys": list(keys)})
        for line in _lines(process, lines, seen, stops, time.monotonic() + order.seconds + _EXTRA_S):
            if line:
                _note(json.loads(line), seen, mask)
            if not seen.interrupted and time.monotonic() >= shown_s + _LISTEN_S:
                watch(seen)
                shown_s = time.monotonic()
        if not seen.interrupted and not seen.trouble and not _ended_well(process):
            said = mask(_last_words(errors))
            seen.trouble = f"the process of the load ended with status {process.returncode}: {said}"
    return seen


def serve(host: str, port: int) -> int:
    """Be a worker of the run there until it is over; the exit status."""
    command = [sys.executable, "-m", "awx_ratelimit.loadtest.load.worker", host, str(port)]
    with suppress(KeyboardInterrupt):
        return subprocess.run(command, check=False).returncode  # noqa: S603  # our own words
    return 0


@contextmanager
def _process(errors: IO[bytes], stops: Stops) -> "Iterator[tuple[subprocess.Popen[bytes], SimpleQueue[bytes | None]]]":
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "awx_ratelimit.loadtest.load.driver"],
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
        _end(process, stops)
        reader.join(_STOP_S)
        if process.stdout is not None:
            process.stdout.close()


def _read(stdout: IO[bytes], lines: "SimpleQueue[bytes | None]") -> None:
    for line in stdout:
        # The last of a process that was killed may be half of one.
        if line.endswith(b"\n"):
            lines.put(line)
    lines.put(None)


def _order(process: "subprocess.Popen[bytes]", what: dict[str, Any]) -> None:
    assert process.stdin is not None
    # One that has died already says why on stderr.
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(what).encode() + b"\n")
        process.stdin.flush()


def _lines(
    process: "subprocess.Popen[bytes]", lines: "SimpleQueue[bytes | None]", seen: Seen, stops: Stops, until_s: float
) -> Iterator[bytes]:
    """What it says until it has ended; nothing, a few times a second, and where it says nothing."""
    while time.monotonic() < until_s:
        if stops() and not seen.interrupted:
            seen.interrupted = True
            _ask_to_end(process)
            until_s = time.monotonic() + _STOP_S
        if stops() > 1:
            return
        try:
            line = lines.get(timeout=_LISTEN_S)
        except Empty:
            yield b""
            continue
        yield line or b""
        if line is None:
            return
    if not seen.interrupted:
        seen.trouble = "the process of the load did not end in its time"


def _note(said: dict[str, Any], seen: Seen, mask: Callable[[str], str]) -> None:
    seen.observations += (_observed(row, mask) for row in said.get("rows", ()))
    if "profile" in said:
        seen.stages.append((said["profile"], said["users"]))
    seen.workers = max(seen.workers, said.get("worker", 0))
    seen.spread_us = max(seen.spread_us, said.get("spread_us", 0))
    seen.trouble = seen.trouble or mask(said.get("given_up", ""))


def _observed(row: list[Any], mask: Callable[[str], str]) -> Observation:
    """The observation of a row, without a key that the gateway told back."""
    *seen, lines, body, error = row
    return Observation.of_row([*seen, [(name, mask(value)) for name, value in lines], mask(body), mask(error)])


def _ended_well(process: "subprocess.Popen[bytes]") -> bool:
    try:
        return process.wait(_STOP_S) == 0
    except subprocess.TimeoutExpired:
        return False


def _ask_to_end(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()


def _end(process: "subprocess.Popen[bytes]", stops: Stops) -> None:
    _ask_to_end(process)
    until_s = time.monotonic() + _STOP_S
    while time.monotonic() < until_s and stops() < 2:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LISTEN_S)
            return
    # With its workers, which are of its session.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
