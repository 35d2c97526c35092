"""A Locust worker: the load of one more core or machine. Usage: ``python -m awx_ratelimit...worker HOST PORT``.

Its keys come from its own environment (AWX_LOADTEST_KEYS or AWX_LOADTEST_KEY) and must be those of the master.
"""

# This import must come first: it patches sockets, threads and locks.
import locust  # noqa: F401  # isort: skip

import sys
from collections.abc import Sequence
from typing import Any

import gevent
from locust.runners import WorkerRunner

from awx_ratelimit.loadtest.key_sources import from_environment, validated
from awx_ratelimit.loadtest.load.concurrency_profiles import PROFILES_BY_NAME
from awx_ratelimit.loadtest.load.environment import LoadEnvironment
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.run_config import RunConfig

_POLL_S = 0.25


class Worker:
    """Answers the master's messages: the configuration of the run, and requests for this machine's time."""

    def __init__(self, environment: LoadEnvironment, runner: WorkerRunner, keys: Sequence[str]) -> None:
        self._environment, self._runner, self._keys = environment, runner, keys
        runner.register_message("awx_config", self._on_config)
        runner.register_message("awx_time", self._on_time)

    def serve(self) -> None:
        """Join the run and serve until the master ends it or disappears."""
        self._runner.send_message("awx_joined", {})
        while len(self._runner.greenlet):
            gevent.sleep(_POLL_S)

    def _on_config(self, msg: Any, **_: Any) -> None:
        if len(self._keys) != msg.data["keys"]:
            reason = f"a worker has {len(self._keys)} keys in its environment, expected {msg.data['keys']}"
            self._runner.send_message("awx_rows", {"rows": [], "abort_reason": reason})
        config = RunConfig.from_json(msg.data["config"])
        left_s, requests = msg.data["seconds_left"], msg.data["requests"]
        self._environment.begin(config, self._keys, seconds_left=left_s, requests=requests)

    def _on_time(self, msg: Any, **_: Any) -> None:
        self._runner.send_message("awx_time", {"sent_us": msg.data["sent_us"], "at_us": now_us()})


def main(host: str, port: int) -> None:
    """Serve the master at `host`:`port` until the run ends."""
    environment = LoadEnvironment(user_classes=list(PROFILES_BY_NAME.values()))
    Worker(environment, environment.create_worker_runner(host, port), validated(from_environment())).serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
