"""`WorkerPool`: the master's side of a run with workers. It starts them, configures them and compares their clocks.

Every worker has its own clock. The master asks for its time several times: the quickest answer gives the clock's
offset, and half of its round trip is the uncertainty. Rows are converted to the master's clock; the remaining
uncertainty becomes the audit's `spread_us`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from locust.runners import MasterRunner, Runner

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.key_sources import KEYS
from awx_ratelimit.loadtest.load.context import Row
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.run_config import RunConfig

Emit = Callable[[dict[str, Any]], None]
_CLOCK_SAMPLES: Final = 8
#: The columns of a row that contain times.
_TIMES = slice(2, 6)


class WorkerPool:
    """The workers of a run; empty if the run has none."""

    def __init__(self, runner: Runner, config: RunConfig, keys: Sequence[str], ends_us: int, emit: Emit) -> None:
        self._runner, self._config, self._emit = runner, config, emit
        self._keys, self._ends_us = keys, ends_us
        self._offset_us: dict[str, int] = {}
        self._round_trip_us: dict[str, int] = {}
        self._samples: dict[str, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        if config.workers:
            runner.register_message("awx_joined", self._on_joined)
            runner.register_message("awx_time", self._on_time)

    def start_processes(self) -> None:
        """Start all workers on this machine. Their environment carries the keys, because a command line is public."""
        assert isinstance(self._runner, MasterRunner)
        port = self._runner.server.port
        for _ in range(self._config.workers):
            command = [sys.executable, "-m", "awx_ratelimit.loadtest.load.worker", "127.0.0.1", str(port)]
            environment = {**os.environ, KEYS: json.dumps(self._keys)}
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603  # our command
            self._processes.append(process)

    def end_processes(self) -> None:
        """Wait for the workers of this machine to end, and kill those that do not."""
        for process in self._processes:
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def ready_count(self) -> int:
        """How many workers have the configuration and a known clock offset."""
        return sum(1 for samples in self._samples.values() if samples >= _CLOCK_SAMPLES)

    @property
    def spread_us(self) -> int:
        """How inaccurate a converted time may be."""
        return max((round_trip_us // 2 for round_trip_us in self._round_trip_us.values()), default=0)

    def rows_on_master_clock(self, msg: Any) -> list[Row]:
        """The rows of a worker's message, converted to the master's clock."""
        offset_us = self._offset_us.get(msg.node_id, 0)
        rows: list[Row] = msg.data["rows"]
        for row in rows:
            row[_TIMES] = [at_us - offset_us for at_us in row[_TIMES]]
        return rows

    def _on_joined(self, msg: Any, **_: Any) -> None:
        message = {
            "config": self._config.as_json(),
            "keys": len(self._keys),
            "requests": self._config.requests_of_worker(len(self._samples)),
            "seconds_left": (self._ends_us - now_us()) / SECOND_US,
        }
        self._runner.send_message("awx_config", message, client_id=msg.node_id)
        self._samples[msg.node_id] = 0
        self._ask_time(msg.node_id)

    def _ask_time(self, worker: str) -> None:
        self._runner.send_message("awx_time", {"sent_us": now_us()}, client_id=worker)

    def _on_time(self, msg: Any, **_: Any) -> None:
        answered_us, worker = now_us(), msg.node_id
        round_trip_us = answered_us - msg.data["sent_us"]
        if round_trip_us < self._round_trip_us.get(worker, 1 << 62):
            self._round_trip_us[worker] = round_trip_us
            self._offset_us[worker] = msg.data["at_us"] - (answered_us + msg.data["sent_us"]) // 2
        self._samples[worker] = self._samples.get(worker, 0) + 1
        if self._samples[worker] < _CLOCK_SAMPLES:
            self._ask_time(worker)
        else:
            self._emit({"worker": len(self._samples), "offset_us": self._offset_us[worker]})
