"""The process that makes the load: Locust's runner, one profile after the other. `runner` starts it as a program.

Its stdin carries one line with the configuration and the keys; the run ends when stdin closes. Its stdout carries JSON
lines: rows of observations, the profile that has begun, and the state of the run. Locust patches only this process.
"""

# This import must come first: it patches sockets, threads and locks.
import awx_ratelimit.loadtest.load.patched  # noqa: F401  # isort: skip

import json
import sys
from select import select
from typing import Any, Final

import gevent
from gevent.fileobject import FileObjectThread
from locust.runners import MasterRunner, Runner

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.profile import LoadEnvironment
from awx_ratelimit.loadtest.load.profiles import PROFILES_BY_NAME
from awx_ratelimit.loadtest.load.workers import WorkerPool
from awx_ratelimit.loadtest.run_config import RunConfig

_WORKERS_TIMEOUT_S: Final = 60.0
#: Between two profiles Locust does not count a worker for a moment. A worker missing for longer is lost.
_LOST_S: Final = 3.0


class Driver:
    """One run, in this process or with workers."""

    def __init__(self, config: RunConfig, keys: list[str]) -> None:
        self._config, self._keys = config, keys
        self._ends_us = now_us() + config.seconds * SECOND_US
        self._users_done = self._users_complete = 0
        self._stopped = False
        self._abort_reason = ""
        self._environment = LoadEnvironment(
            user_classes=[PROFILES_BY_NAME[name] for name in config.profiles], host=config.url
        )
        self._runner = self._create_runner()
        self._runner.register_message("awx_rows", self._on_rows)
        self._runner.register_message("awx_done", self._on_done)
        self._workers = WorkerPool(self._runner, config, keys, self._ends_us, self._emit)

    def run(self) -> None:
        """Run each profile in turn until the time is over, stdin closes, or the run is aborted."""
        # Nothing follows the configuration, so readable input means that stdin is closed: send no request at all.
        self._stopped = bool(select([sys.stdin], [], [], 0)[0])
        gevent.spawn(self._stop_at_end_of_stdin)
        if self._config.web:
            self._serve_page(self._config.web)
        try:
            if self._wait_for_workers():
                for name in self._config.profiles:
                    self._run_profile(name)
        finally:
            self._runner.quit()
            self._workers.end_processes()
            self._emit({"end": True, "abort_reason": self._abort_reason})

    def _serve_page(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        page = self._environment.create_web_ui(host or "127.0.0.1", int(port))
        gevent.sleep(0.2)
        # The greenlet ends only if the server cannot start.
        if page.greenlet is not None and page.greenlet.ready():
            self._abort_reason = f"the web page cannot be served at {address}: {page.greenlet.exception}"

    def _create_runner(self) -> Runner:
        if not self._config.workers:
            runner = self._environment.create_local_runner()
            left_s, requests = self._config.seconds, self._config.requests
            self._environment.begin(self._config, self._keys, seconds_left=left_s, requests=requests)
            return runner
        host, _, port = self._config.bind.rpartition(":")
        return self._environment.create_master_runner(host, int(port))

    def _wait_for_workers(self) -> bool:
        """Wait until all workers are ready; returns whether the run may begin. Remote workers may take any time."""
        if not isinstance(self._runner, MasterRunner):
            return True
        until_us = self._ends_us
        if not self._config.remote:
            self._workers.start_processes()
            until_us = min(until_us, now_us() + round(_WORKERS_TIMEOUT_S * SECOND_US))
        while self._workers.ready_count < self._config.workers and not self._is_over():
            gevent.sleep(0.05)
            if now_us() >= until_us:
                self._abort_reason = f"only {self._workers.ready_count} of {self._config.workers} workers have joined"
        return not self._is_over()

    def _run_profile(self, name: str) -> None:
        if self._is_over():
            return
        profile = PROFILES_BY_NAME[name]
        users = profile.user_count(self._config)
        self._emit({"profile": name, "users": users})
        self._users_done = self._users_complete = 0
        self._runner.start(users, spawn_rate=users, user_classes=[profile])
        complete_us = now_us()
        while self._users_done < users and not self._is_over():
            gevent.sleep(0.02)
            if not isinstance(self._runner, MasterRunner) or self._runner.worker_count >= self._config.workers:
                complete_us = now_us()
            elif now_us() - complete_us > _LOST_S * SECOND_US:
                self._abort_reason = f"only {self._runner.worker_count} of {self._config.workers} workers are left"
        self._runner.stop()
        if self._users_complete >= users:
            self._emit({"complete": name})

    def _is_over(self) -> bool:
        return self._stopped or bool(self._abort_reason) or now_us() >= self._ends_us

    def _on_done(self, msg: Any, **_: Any) -> None:
        self._users_done += 1
        self._users_complete += msg.data["complete"]

    def _on_rows(self, msg: Any, **_: Any) -> None:
        self._abort_reason = self._abort_reason or msg.data.get("abort_reason", "")
        self._emit({"source": msg.node_id, **self._workers.on_master_clock(msg)})

    def _emit(self, message: dict[str, Any]) -> None:
        """Write one JSON line to stdout."""
        try:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._stopped = True

    def _stop_at_end_of_stdin(self) -> None:
        """Stop when the process that started this one has died or wants no more."""
        while STDIN.readline():
            pass
        self._stopped = True


STDIN = FileObjectThread(sys.stdin.fileno(), "rb")


def main() -> None:
    """Run the configuration on stdin."""
    message = json.loads(STDIN.readline())
    Driver(RunConfig.from_json(message["config"]), message["keys"]).run()


if __name__ == "__main__":
    main()
