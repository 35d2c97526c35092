"""Run the load in a separate process that hosts Locust: start it, read what it observes, and always end it.

Observations are kept however the process ends: normally, by a crash or a hang, or because the user pressed Ctrl-C.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryFile
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self

from awx_ratelimit.loadtest.audit.observation import Observation
from awx_ratelimit.loadtest.audit.verdict import Tolerances
from awx_ratelimit.loadtest.key_sources import masker
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.runtime.extras import INSTALL, check_versions

#: How much longer than its configured time a run may take, to start and to end.
_GRACE_S: Final = 30.0
_STOP_S: Final = 5.0
_POLL_S = 0.2


@dataclass(slots=True)
class RunRecord:
    """What a run has recorded so far. `trouble` says why the run ended early, and is empty if it did not.

    `observations` are the requests that have ended. Those in flight are kept per process that sends them, as if they
    ended now, with the time until which all requests of the process are known.
    """

    observations: list[Observation] = field(default_factory=list)
    in_flight: dict[str, list[Observation]] = field(default_factory=dict)
    known_until_us: dict[str, int] = field(default_factory=dict)
    #: (profile, number of users) of each profile that has begun.
    stages: list[tuple[str, int]] = field(default_factory=list)
    #: The profiles that have sent all their requests.
    complete: list[str] = field(default_factory=list)
    workers: int = 0
    spread_us: int = 0
    trouble: str = ""
    interrupted: bool = False

    def add(self, message: dict[str, Any], mask: Callable[[str], str]) -> None:
        """Record a message of the driver process. `mask` removes keys that the gateway has echoed."""
        self.observations += _observed(message.get("rows", ()), mask)
        if "source" in message:
            self.in_flight[message["source"]] = _observed(message["in_flight"], mask)
            self.known_until_us[message["source"]] = message["known_until_us"]
        if "profile" in message:
            self.stages.append((message["profile"], message["users"]))
        if "complete" in message:
            self.complete.append(message["complete"])
        self.workers = max(self.workers, message.get("worker", 0))
        self.spread_us = max(self.spread_us, message.get("spread_us", 0))
        self.trouble = self.trouble or mask(message.get("abort_reason", ""))

    @property
    def all_observations(self) -> list[Observation]:
        """The requests that have ended, and those in flight."""
        return [*self.observations, *chain.from_iterable(self.in_flight.values())]

    def tolerances(self, config: RunConfig) -> Tolerances:
        """What an audit of `all_observations` has to allow for."""
        known_until_us = min(self.known_until_us.values(), default=None)
        return Tolerances(
            config.plan, spread_us=self.spread_us, same_account=config.same_account, known_until_us=known_until_us
        )

    def end(self) -> None:
        """No request is in flight any more: the run has ended."""
        self.observations, self.in_flight = self.all_observations, {}


def _observed(rows: Iterable[Sequence[Any]], mask: Callable[[str], str]) -> list[Observation]:
    masked = (
        [*values, [(name, mask(value)) for name, value in headers], mask(body), mask(error)]
        for *values, headers, body, error in rows
    )
    return [Observation.from_row(row) for row in masked]


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
        raise ImportError(f"the load tester needs locust; {INSTALL.format('loadtest')}")
    record, mask, shown_s = RunRecord(), masker(keys), 0.0
    with _DriverProcess(stop_requests) as driver:
        driver.send({"config": config.as_json(), "keys": list(keys)})
        for line in driver.read_lines(record, time.monotonic() + config.seconds + _GRACE_S):
            if line:
                record.add(json.loads(line), mask)
            if not record.interrupted and time.monotonic() >= shown_s + _POLL_S:
                on_progress(record)
                shown_s = time.monotonic()
        if not record.interrupted and not record.trouble:
            record.trouble = mask(driver.error_at_end())
    record.end()
    return record


def run_worker(host: str, port: int) -> int:
    """Make load as a worker of the run at `host`:`port` until the run ends; returns the exit status."""
    command = [sys.executable, "-m", "awx_ratelimit.loadtest.load.workers", host, str(port)]
    with suppress(KeyboardInterrupt):
        return subprocess.run(command, check=False).returncode  # noqa: S603  # a fixed command
    return 0


class _DriverProcess:
    """The process that hosts Locust. It always ends with the block, together with its workers."""

    def __init__(self, stop_requests: StopRequests) -> None:
        self._stop_requests = stop_requests
        self._errors = TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()

    def __enter__(self) -> Self:
        source = str(Path(__file__).parents[2])
        path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "awx_ratelimit.loadtest.load.driver"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C reaches every process of a session. In its own, the driver can still send its observations.
            start_new_session=True,
        )  # fmt: skip
        self._reader = Thread(target=self._queue_lines, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()
        self._reader.join(_STOP_S)
        self._errors.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def send(self, message: dict[str, Any]) -> None:
        """Write a JSON line to the process's stdin."""
        assert self._process.stdin is not None
        # A process that has died already says why on stderr.
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def read_lines(self, record: RunRecord, until_s: float) -> Iterator[bytes]:
        """Yield the process's lines until it ends, and an empty line whenever there is none for a while."""
        while time.monotonic() < until_s:
            if self._stop_requests() and not record.interrupted:
                record.interrupted = True
                self._request_end()
                until_s = time.monotonic() + _STOP_S
            if self._stop_requests() > 1:
                return
            try:
                line = self._lines.get(timeout=_POLL_S)
            except Empty:
                yield b""
                continue
            yield line or b""
            if line is None:
                return
        if not record.interrupted:
            record.trouble = "the load process did not end in time"

    def error_at_end(self) -> str:
        """Why the process failed: its status and its last line on stderr; empty if it ended well."""
        with suppress(subprocess.TimeoutExpired):
            if self._process.wait(_STOP_S) == 0:
                return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last_line = lines[-1] if lines else "no error message"
        return f"the load process ended with status {self._process.returncode}: {last_line}"

    def _queue_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # The last line of a killed process may be incomplete.
            if line.endswith(b"\n"):
                self._lines.put(line)
        self._lines.put(None)

    def _request_end(self) -> None:
        """Close the process's stdin, which asks it to end."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _end(self) -> None:
        self._request_end()
        until_s = time.monotonic() + _STOP_S
        while time.monotonic() < until_s and self._stop_requests() < 2:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)
                return
        # Kill the whole session, which includes the workers.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
