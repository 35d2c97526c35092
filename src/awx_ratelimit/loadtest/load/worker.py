"""A worker of Locust: the load of one more core, or of another machine. ``worker.py HOST PORT``.

Its keys are those of its environment (AWX_LOADTEST_KEYS, as JSON, or AWX_LOADTEST_KEY), the same as the master's.
"""

# Before anything else: it patches sockets, threads and locks.
import locust  # noqa: F401  # isort: skip

import sys

from awx_ratelimit.loadtest.key_sources import checked, from_environment
from awx_ratelimit.loadtest.load.profiles import BY_NAME
from awx_ratelimit.loadtest.load.worker_messages import LoadedEnvironment, Member


def main(host: str, port: int) -> None:
    """Serve the master there until it says that it is enough."""
    environment = LoadedEnvironment(user_classes=list(BY_NAME.values()))
    Member(environment, environment.create_worker_runner(host, port), checked(from_environment())).serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
