"""Warns a guard whose `expected_workers` is less than the number of processes that decide meanwhile."""

from awx_ratelimit.backends.resilience.outage_log import OnOutage
from awx_ratelimit.runtime.documentation import page
from awx_ratelimit.runtime.forks import register_first_decision
from awx_ratelimit.runtime.server_workers import WorkerWarning

_warning = WorkerWarning(
    "expected_workers is {expected}, and this process is one of {workers} {server} workers. During an outage each "
    "worker admits a limit divided by {expected}; write expected_workers={workers}, or the number of workers on all "
    "hosts together: see {page}"
)


class ExpectedWorkers:
    """Logs the warning once in a process: when a guard is made, or before the first decision of a child process.

    Only `on_outage` ``local`` divides limits. A larger number than that of this host's workers may be right.
    """

    def __init__(self, on_outage: OnOutage, expected_workers: int) -> None:
        self._number = expected_workers
        if on_outage == "local":
            self.check()
            register_first_decision(self.check)

    def check(self, proc: str = "/proc") -> None:
        """Log it if the server that has started this process has more workers."""
        _warning.log(page("workers", "redis-and-postgresql"), proc, expected=self._number)
