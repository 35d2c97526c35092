"""Both sides of a run with workers, each the load of one more core or machine. They run the same program.

`WorkerPool` is the master's side: it starts workers, configures them and compares their clocks. It asks each worker for
its time several times: the quickest answer gives the clock's offset, and half of its round trip is the uncertainty.
Rows are converted to the master's clock; the remaining uncertainty becomes the audit's `spread_us`.

`serve` is the other side: ``python -m awx_ratelimit.loadtest.load.workers HOST PORT``. Its keys come from its
environment (AWX_LOADTEST_KEYS or AWX_LOADTEST_KEY) and must be those of the master.
"""

# This import must come first: it patches sockets, threads and locks.
import awx_ratelimit.loadtest.load.patched  # noqa: F401  # isort: skip

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
from locust.runners import MasterRunner, Runner

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.key_sources import KEYS, from_environment, validated
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.profile import LoadEnvironment
from awx_ratelimit.loadtest.load.profiles import PROFILES_BY_NAME
from awx_ratelimit.loadtest.run_config import RunConfig

Emit = Callable[[dict[str, Any]], None]
_CLOCK_SAMPLES: Final = 8
_POLL_S = 0.25
#: The columns of a row that contain times.
_TIMES = slice(2, 6)


class WorkerPool:
    """The workers of a run; empty if the run has none."""

    def __init__(self, runner: Runner, config: RunConfig, keys: Sequence[str], ends_us: int, emit: Emit) -> None:
        self._runner, self._config, self._emit = runner, config, emit
        self._keys, self._ends_us = keys, ends_us
        #: By worker: the round trip and the clock's offset of each answer, in us.
        self._samples: dict[str, list[tuple[int, int]]] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        if config.workers:
            runner.register_message("awx_joined", self._on_joined)
            runner.register_message("awx_time", self._on_time)

    def start_processes(self) -> None:
        """Start all workers on this machine. Their environment carries the keys, because a command line is public."""
        assert isinstance(self._runner, MasterRunner)
        port = self._runner.server.port
        for _ in range(self._config.workers):
            command = [sys.executable, "-m", "awx_ratelimit.loadtest.load.workers", "127.0.0.1", str(port)]
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
        return sum(1 for samples in self._samples.values() if len(samples) >= _CLOCK_SAMPLES)

    @property
    def spread_us(self) -> int:
        """How inaccurate a converted time may be."""
        return max((min(samples)[0] // 2 for samples in self._samples.values() if samples), default=0)

    def on_master_clock(self, msg: Any) -> dict[str, Any]:
        """The rows of a worker's message, and until when it knows all requests, converted to the master's clock."""
        offset_us, data = self._offset_us(msg.node_id), msg.data
        for row in (*data["rows"], *data["in_flight"]):
            row[_TIMES] = [at_us - offset_us for at_us in row[_TIMES]]
        known_until_us = data["known_until_us"] - offset_us
        return {"rows": data["rows"], "in_flight": data["in_flight"], "known_until_us": known_until_us}

    def _on_joined(self, msg: Any, **_: Any) -> None:
        message = {
            "config": self._config.as_json(),
            "keys": len(self._keys),
            "requests": self._config.requests_of_worker(len(self._samples)),
            "seconds_left": (self._ends_us - now_us()) / SECOND_US,
        }
        self._runner.send_message("awx_config", message, client_id=msg.node_id)
        self._samples[msg.node_id] = []
        # It has sent nothing so far. If it is lost before its first rows, nothing later is known.
        self._emit({"source": msg.node_id, "in_flight": [], "known_until_us": now_us()})
        self._ask_time(msg.node_id)

    def _ask_time(self, worker: str) -> None:
        self._runner.send_message("awx_time", {"sent_us": now_us()}, client_id=worker)

    def _on_time(self, msg: Any, **_: Any) -> None:
        now, sent_us, samples = now_us(), msg.data["sent_us"], self._samples.setdefault(msg.node_id, [])
        samples.append((now - sent_us, msg.data["at_us"] - (now + sent_us) // 2))
        if len(samples) < _CLOCK_SAMPLES:
            self._ask_time(msg.node_id)
        else:
            self._emit({"worker": len(self._samples), "spread_us": self.spread_us})

    def _offset_us(self, worker: str) -> int:
        return min(self._samples.get(worker) or [(0, 0)])[1]


def serve(host: str, port: int) -> None:
    """Answer the messages of the master at `host`:`port` until it ends the run or disappears."""
    environment, keys = LoadEnvironment(user_classes=list(PROFILES_BY_NAME.values())), validated(from_environment())
    runner = environment.create_worker_runner(host, port)

    def on_config(msg: Any, **_: Any) -> None:
        if len(keys) != msg.data["keys"]:
            reason = f"a worker has {len(keys)} keys in its environment, expected {msg.data['keys']}"
            nothing = {"rows": [], "in_flight": [], "known_until_us": now_us()}
            runner.send_message("awx_rows", {**nothing, "abort_reason": reason})
        left_s, requests = msg.data["seconds_left"], msg.data["requests"]
        environment.begin(RunConfig.from_json(msg.data["config"]), keys, seconds_left=left_s, requests=requests)

    def on_time(msg: Any, **_: Any) -> None:
        runner.send_message("awx_time", {"sent_us": msg.data["sent_us"], "at_us": now_us()})

    runner.register_message("awx_config", on_config)
    runner.register_message("awx_time", on_time)
    runner.send_message("awx_joined", {})
    while len(runner.greenlet):
        gevent.sleep(_POLL_S)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
