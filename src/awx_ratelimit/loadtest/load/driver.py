"""The process that makes the load: Locust's runner, one profile after the other. Run as a program, by `session`.

On stdin is the order with the keys, in one line; when stdin ends, so does the run. On stdout are lines of JSON: rows of
observations, the profile that began, and what else is to be told. Locust patches this whole process, and no other.
"""

# Before anything else: it patches sockets, threads and locks.
import locust  # noqa: F401  # isort: skip

import json
import os
import subprocess
import sys
from select import select
from typing import Any, Final

import gevent
from gevent.fileobject import FileObjectThread
from locust.runners import MasterRunner, Runner

from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.profiles import BY_NAME
from awx_ratelimit.loadtest.load.worker_messages import LoadedEnvironment, Spread, serve_users
from awx_ratelimit.loadtest.run_config import Order

#: The environment of a worker: no command line has a key.
KEYS: Final = "AWX_LOADTEST_KEYS"
_WORKERS_WITHIN_S = 60.0
#: Between two profiles Locust counts a worker as gone for a moment.
_LOST_S = 3.0


class Driver:
    """One run, in this process or over workers."""

    def __init__(self, order: Order, keys: list[str]) -> None:
        self._order, self._keys = order, keys
        self._ends_us = now_us() + order.seconds * 1_000_000
        self._done = 0
        self._stopped = False
        self._given_up = ""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = LoadedEnvironment(
            user_classes=[BY_NAME[name] for name in (*order.profiles,)], host=order.url
        )
        self._runner = self._made_runner()
        self._runner.register_message("awx_rows", self._rows)
        self._runner.register_message("awx_done", self._one_done)
        self._spread = Spread(self._runner, order, len(keys), self._ends_us, self._tell)

    def run(self) -> None:
        """Each profile of the order, in turn, until the time is over or somebody says that it is enough."""
        # Nothing comes after the order: what there is to be read already is its end, and nothing is asked of anybody.
        self._stopped = bool(select([sys.stdin], [], [], 0)[0])
        gevent.spawn(self._until_stdin_ends)
        if self._order.web:
            self._serve_page(self._order.web)
        try:
            if self._is_ready():
                for name in self._order.profiles:
                    self._carry_out(name)
        finally:
            self._runner.quit()
            self._end_processes()
            self._tell({"end": True, "given_up": self._given_up, "spread_us": self._spread.us})

    def _serve_page(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        page = self._environment.create_web_ui(host or "127.0.0.1", int(port))
        gevent.sleep(0.2)
        # One that serves does not end.
        if page.greenlet is not None and page.greenlet.ready():
            self._given_up = f"no page can be served at {address}: {page.greenlet.exception}"

    def _made_runner(self) -> Runner:
        if not self._order.workers:
            runner = self._environment.create_local_runner()
            left_s, requests = self._order.seconds, self._order.requests
            serve_users(self._environment, self._order, self._keys, seconds_left=left_s, requests=requests)
            return runner
        host, _, port = self._order.bind.rpartition(":")
        return self._environment.create_master_runner(host, int(port))

    def _is_ready(self) -> bool:
        """Whether all workers have come, if there are to be any. From elsewhere they may take as long as a run."""
        if not isinstance(self._runner, MasterRunner):
            return True
        until_us = self._ends_us
        if not self._order.remote:
            self._start_processes()
            until_us = min(until_us, now_us() + round(_WORKERS_WITHIN_S * 1_000_000))
        while self._spread.ready < self._order.workers and not self._is_over():
            gevent.sleep(0.05)
            if now_us() >= until_us:
                self._given_up = f"only {self._spread.ready} of {self._order.workers} workers have come"
        return not self._is_over()

    def _carry_out(self, name: str) -> None:
        if self._is_over():
            return
        kind = BY_NAME[name]
        users = kind.users(self._order)
        self._tell({"profile": name, "users": users})
        self._done = 0
        self._runner.start(users, spawn_rate=users, user_classes=[kind])
        whole_us = now_us()
        while self._done < users and not self._is_over():
            gevent.sleep(0.02)
            if not isinstance(self._runner, MasterRunner) or self._runner.worker_count >= self._order.workers:
                whole_us = now_us()
            elif now_us() - whole_us > _LOST_S * 1_000_000:
                self._given_up = f"of {self._order.workers} workers {self._runner.worker_count} are left"
        self._runner.stop()

    def _is_over(self) -> bool:
        return self._stopped or bool(self._given_up) or now_us() >= self._ends_us

    def _one_done(self, **_: Any) -> None:
        self._done += 1

    def _rows(self, msg: Any, **_: Any) -> None:
        self._given_up = self._given_up or msg.data.get("given_up", "")
        if msg.data["rows"]:
            self._tell({"rows": self._spread.on_our_clock(msg)})

    def _tell(self, what: dict[str, Any]) -> None:
        try:
            sys.stdout.write(json.dumps(what) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._stopped = True

    def _until_stdin_ends(self) -> None:
        """Whoever has asked for the run listens no more, or has heard enough."""
        while STDIN.readline():
            pass
        self._stopped = True

    def _start_processes(self) -> None:
        """Workers of Locust on this machine; their keys are in their environment."""
        assert isinstance(self._runner, MasterRunner)
        port = self._runner.server.port
        for _ in range(self._order.workers):
            command = [sys.executable, "-m", "awx_ratelimit.loadtest.load.worker", "127.0.0.1", str(port)]
            environment = {**os.environ, KEYS: json.dumps(self._keys)}
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603  # our own words
            self._processes.append(process)

    def _end_processes(self) -> None:
        for process in self._processes:
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


STDIN = FileObjectThread(sys.stdin.fileno(), "rb")


def main() -> None:
    """See the module."""
    said = json.loads(STDIN.readline())
    Driver(Order.of_json(said["order"]), said["keys"]).run()


if __name__ == "__main__":
    main()
