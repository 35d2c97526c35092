"""Run the load in a separate process that hosts Locust: start it, read what it observes, and always end it.

Observations are kept however the process ends: normally, by a crash or a hang, or because the user pressed Ctrl-C.
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
from awx_ratelimit.loadtest.key_sources import masker
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.runtime.extras import check_versions

#: How much longer than its configured time a run may take, to start and to end.
_GRACE_S: Final = 30.0
_STOP_S: Final = 5.0
_POLL_S = 0.2


@dataclass(slots=True)
class RunRecord:
    """What a run has recorded so far. `trouble` says why the run ended early, and is empty if it did not."""

    observations: list[Observation] = field(default_factory=list)
    #: (profile, number of users) of each profile that has begun.
    stages: list[tuple[str, int]] = field(default_factory=list)
    workers: int = 0
    spread_us: int = 0
    trouble: str = ""
    interrupted: bool = False


OnProgress = Callable[[RunRecord], None]
#: Returns how often the user has asked to stop.
StopRequests = Callable[[], int]


def run(
    config: RunConfig, keys: Sequence[str], on_progress: OnProgress, stop_requests: StopRequests = lambda: 0
) -> RunRecord:
    """Run `config` and return what was recorded. `on_progress` is called a few times per second.

    After one stop request the run ends within a few seconds and keeps its observations; after two it ends immediately.
    """
    check_versions("the load tester", "loadtest", "locust")
    if find_spec("locust") is None:
        raise ImportError("the load tester needs locust; install it with: pip install 'awx-ratelimit[loadtest]'")
    record, mask, shown_s = RunRecord(), masker(keys), 0.0
    with TemporaryFile() as errors, _driver_process(errors, stop_requests) as (process, lines):
        _send(process, {"config": config.as_json(), "keys": list(keys)})
        for line in _read_lines(process, lines, record, stop_requests, time.monotonic() + config.seconds + _GRACE_S):
            if line:
                _add_message(json.loads(line), record, mask)
            if not record.interrupted and time.monotonic() >= shown_s + _POLL_S:
                on_progress(record)
                shown_s = time.monotonic()
        if not record.interrupted and not record.trouble and not _ended_well(process):
            last_error = mask(_last_line(errors))
            record.trouble = f"the load process ended with status {process.returncode}: {last_error}"
    return record


def run_worker(host: str, port: int) -> int:
    """Make load as a worker of the run at `host`:`port` until the run ends; returns the exit status."""
    command = [sys.executable, "-m", "awx_ratelimit.loadtest.load.worker", host, str(port)]
    with suppress(KeyboardInterrupt):
        return subprocess.run(command, check=False).returncode  # noqa: S603  # a fixed command
    return 0


@contextmanager
def _driver_process(
    errors: IO[bytes], stop_requests: StopRequests
) -> "Iterator[tuple[subprocess.Popen[bytes], SimpleQueue[bytes | None]]]":
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "awx_ratelimit.loadtest.load.driver"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        env={**os.environ, "PYTHONPATH": path},
        # Ctrl-C reaches every process of a session. In its own session, the driver can still send its observations.
        start_new_session=True,
    )  # fmt: skip
    lines: SimpleQueue[bytes | None] = SimpleQueue()
    reader = Thread(target=_queue_lines, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        _end(process, stop_requests)
        reader.join(_STOP_S)
        if process.stdout is not None:
            process.stdout.close()


def _queue_lines(stdout: IO[bytes], lines: "SimpleQueue[bytes | None]") -> None:
    for line in stdout:
        # The last line of a killed process may be incomplete.
        if line.endswith(b"\n"):
            lines.put(line)
    lines.put(None)


def _send(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> None:
    assert process.stdin is not None
    # A process that has died already says why on stderr.
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()


def _read_lines(
    process: "subprocess.Popen[bytes]",
    lines: "SimpleQueue[bytes | None]",
    record: RunRecord,
    stop_requests: StopRequests,
    until_s: float,
) -> Iterator[bytes]:
    """Yield the process's lines until it ends, and an empty line whenever there is none for a while."""
    while time.monotonic() < until_s:
        if stop_requests() and not record.interrupted:
            record.interrupted = True
            _request_end(process)
            until_s = time.monotonic() + _STOP_S
        if stop_requests() > 1:
            return
        try:
            line = lines.get(timeout=_POLL_S)
        except Empty:
            yield b""
            continue
        yield line or b""
        if line is None:
            return
    if not record.interrupted:
        record.trouble = "the load process did not end in time"


def _add_message(message: dict[str, Any], record: RunRecord, mask: Callable[[str], str]) -> None:
    record.observations += (_masked_observation(row, mask) for row in message.get("rows", ()))
    if "profile" in message:
        record.stages.append((message["profile"], message["users"]))
    record.workers = max(record.workers, message.get("worker", 0))
    record.spread_us = max(record.spread_us, message.get("spread_us", 0))
    record.trouble = record.trouble or mask(message.get("abort_reason", ""))


def _masked_observation(row: list[Any], mask: Callable[[str], str]) -> Observation:
    """The observation of a row, without keys that the gateway echoed."""
    *values, headers, body, error = row
    return Observation.from_row([*values, [(name, mask(value)) for name, value in headers], mask(body), mask(error)])


def _ended_well(process: "subprocess.Popen[bytes]") -> bool:
    try:
        return process.wait(_STOP_S) == 0
    except subprocess.TimeoutExpired:
        return False


def _request_end(process: "subprocess.Popen[bytes]") -> None:
    """Close the process's stdin, which asks it to end."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()


def _end(process: "subprocess.Popen[bytes]", stop_requests: StopRequests) -> None:
    _request_end(process)
    until_s = time.monotonic() + _STOP_S
    while time.monotonic() < until_s and stop_requests() < 2:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            return
    # Kill the whole session, which includes the workers.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no error message"
