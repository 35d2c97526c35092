"""`Load`: what the users of one process share: where they send, what is left to send, and what they have seen.

A run is bounded in time and in requests here, and nowhere else: who asks for more is stopped by `Spent`.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import gevent

from awx_ratelimit.loadtest.load.http_client import Target, now_us
from awx_ratelimit.loadtest.run_config import Order

#: So many requests without an answer, one after the other, are a gateway that is gone.
_MOST_FAILURES: Final = 5
Row = list[Any]
Requested = Callable[[str, str, float, str | None], None]


class Spent(Exception):
    """The run has used up its time or its requests, or was given up."""


class Load:
    """See the module. `keys` are known here alone; what leaves this process has their numbers."""

    def __init__(
        self, order: Order, keys: Sequence[str], *, seconds_left: float, requests: int, requested: Requested
    ) -> None:
        self.order, self.keys = order, keys
        self.target = Target(order.url, order.timeout_ms)
        self.random = Random()  # noqa: S311  # which key is next is no secret
        #: Tells Locust of a request: kind, name, milliseconds, what went wrong.
        self.requested = requested
        self.given_up = ""
        self._ends_us = now_us() + round(seconds_left * 1_000_000)
        self._left = requests
        self._failures = 0
        self._rows: list[Row] = []

    def key_line(self, key: int) -> str | None:
        """The header that carries the key of that number; None where no keys are sent."""
        if not self.keys:
            return None
        return f"{self.order.key_header}: {self.order.key_form.replace('{key}', self.keys[key])}"

    @property
    def seconds_left(self) -> float:
        """How long the run may still go on."""
        return (self._ends_us - now_us()) / 1_000_000

    def spend(self) -> None:
        """One request is to be made. Raises Spent."""
        if self._left <= 0 or self.given_up or now_us() >= self._ends_us:
            raise Spent
        self._left -= 1

    def pause(self, seconds: float) -> None:
        """Let time pass. Raises Spent, at once, where the run would be over by then."""
        if seconds >= self.seconds_left or self.given_up:
            raise Spent
        gevent.sleep(max(0.0, seconds))

    def pause_until(self, at_us: int) -> None:
        """Let time pass until `at_us`. Raises Spent."""
        self.pause((at_us - now_us()) / 1_000_000)

    def seen(self, row: Row) -> None:
        """Keep what a user has seen, to be sent on."""
        self._rows.append(row)
        self._failures = self._failures + 1 if row[-1] else 0
        if self._failures >= _MOST_FAILURES:
            self.given_up = self.given_up or f"{_MOST_FAILURES} requests in a row had no answer: {row[-1]}"

    def taken(self) -> list[Row]:
        """What was seen since the last call."""
        rows, self._rows = self._rows, []
        return rows
