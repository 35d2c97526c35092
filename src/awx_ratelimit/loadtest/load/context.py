"""`LoadContext`: the state that all Locust users of one process share: target, keys, remaining budget, observations.

This is the only place that limits a run in time and in requests. A user that exceeds the budget gets `BudgetSpent`.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import gevent

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.load.http_client import Target, now_us
from awx_ratelimit.loadtest.run_config import RunConfig

#: After this many consecutive requests without a response, the run is aborted.
_MAX_FAILURES: Final = 5
Row = list[Any]
OnRequest = Callable[[str, str, float, str | None], None]


class BudgetSpent(Exception):
    """The run has used its time or its requests, or was aborted."""


class LoadContext:
    """See the module. Keys never leave this object; observations contain their indexes.

    `on_request` is called after each request with its method, its profile, its milliseconds and its error or None.
    """

    def __init__(
        self, config: RunConfig, keys: Sequence[str], *, seconds_left: float, requests: int, on_request: OnRequest
    ) -> None:
        self.config, self.keys = config, keys
        self.target = Target(config.url, config.timeout_ms)
        self.random = Random()  # noqa: S311  # chooses keys and pauses, no secrets
        self.on_request = on_request
        self.abort_reason = ""
        self._ends_us = now_us() + round(seconds_left * SECOND_US)
        self._requests_left = requests
        self._failures = 0
        self._rows: list[Row] = []

    def key_line(self, key: int) -> str | None:
        """The header line that carries key number `key`; None if the run has no keys."""
        if not self.keys:
            return None
        return f"{self.config.key_header}: {self.config.key_form.replace('{key}', self.keys[key])}"

    @property
    def seconds_left(self) -> float:
        """The remaining time of the run."""
        return (self._ends_us - now_us()) / SECOND_US

    def spend_request(self) -> None:
        """Take one request from the budget. Raises BudgetSpent."""
        if self._requests_left <= 0 or self.abort_reason or now_us() >= self._ends_us:
            raise BudgetSpent
        self._requests_left -= 1

    def pause(self, seconds: float) -> None:
        """Sleep. Raises BudgetSpent immediately if the run would end during the pause."""
        if seconds >= self.seconds_left or self.abort_reason:
            raise BudgetSpent
        gevent.sleep(max(0.0, seconds))

    def pause_until(self, at_us: int) -> None:
        """Sleep until `at_us`. Raises BudgetSpent."""
        self.pause((at_us - now_us()) / SECOND_US)

    def record(self, row: Row) -> None:
        """Store the row of an observation until `take_rows`; abort the run after too many failures in a row."""
        self._rows.append(row)
        self._failures = self._failures + 1 if row[-1] else 0
        if self._failures >= _MAX_FAILURES:
            self.abort_reason = self.abort_reason or f"{_MAX_FAILURES} requests in a row failed: {row[-1]}"

    def take_rows(self) -> list[Row]:
        """The rows since the last call."""
        rows, self._rows = self._rows, []
        return rows
