"""`Client`: sends requests of one profile with one key and records an observation of each in its `LoadContext`.

`LoadContext` is shared by all Locust users of one process, and the only place that limits a run in time and requests.
A user that exceeds this budget gets `BudgetSpent`.
"""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

import gevent

from awx_ratelimit.loadtest.audit.contract import RETRY_AFTER, parse_retry_after_s
from awx_ratelimit.loadtest.audit.observation import SECOND_US, Outcome
from awx_ratelimit.loadtest.load.http_client import Connection, Exchange, Target, now_us
from awx_ratelimit.loadtest.load.http_parser import ParseError
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
        #: Each makes the row of a request in flight, as if the run ended now.
        self._in_flight: list[Callable[[], Row]] = []

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

    @contextmanager
    def in_flight(self, row_now: Callable[[], Row]) -> Iterator[None]:
        """A request in flight. Whatever ends it, the audit knows of it: `row_now` makes its row as of now."""
        self._in_flight.append(row_now)
        try:
            yield
        except BaseException:
            # The run ends, and Locust kills its users.
            self._rows.append(row_now())
            raise
        finally:
            self._in_flight.remove(row_now)

    def take_rows(self) -> dict[str, Any]:
        """The rows since the last call, those of the requests in flight, and until when these are all requests."""
        rows, self._rows = self._rows, []
        return {"rows": rows, "in_flight": [row_now() for row_now in self._in_flight], "known_until_us": now_us()}


_SERVER_ERROR = 500
#: Statuses that mean the request itself is wrong. They say nothing about limits.
_WRONG_REQUEST = {
    401: "the key is not accepted",
    403: "the key is not accepted",
    404: "the path does not exist",
    405: "the path does not accept this method",
    # Redirects are not followed, because the key must not reach another host.
    **dict.fromkeys((301, 302, 303, 307, 308), "the gateway redirects; use the target of the redirect as the URL"),
}


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The result of a request, from which a profile plans its next one. `retry_after_s` is 0 without such a header."""

    outcome: Outcome
    sent_us: int
    answered_us: int
    retry_after_s: int

    @property
    def refused(self) -> bool:
        """Whether the gateway refused the request."""
        return self.outcome is Outcome.REFUSED


class Client:
    """Sends requests of one profile with key number `key`. Every request may raise BudgetSpent."""

    def __init__(self, context: LoadContext, profile: str, key: int = 0) -> None:
        config, key_line = context.config, context.key_line(key)
        self._context, self._profile, self._key, self._config = context, profile, key, config
        self._connection = Connection(context.target)
        self._plain = context.target.request(config.method, config.path, key_line)
        self._stream = context.target.request("GET", config.stream_path or "/", key_line)
        self._upgrade = context.target.upgrade(config.websocket_path or "/", key_line)

    def send(self) -> RequestResult:
        """Send the plain request and read the whole response."""
        send = partial(self._connection.send, self._plain, self._config.method, self._config.refused_status)
        return self._observe(send, self._config.cost)

    def hold(self, until: Callable[[], bool], *, websocket: bool = False) -> RequestResult:
        """Open a stream or a WebSocket and hold it to its end, or until `until` returns True."""
        request, hold = (
            (self._upgrade, self._connection.hold_websocket) if websocket else (self._stream, self._connection.hold)
        )
        return self._observe(partial(hold, request, self._config.refused_status, until), 1)

    def reconnect(self) -> None:
        """Use a new connection for the next request, which may reach another process of the gateway."""
        self._connection.close()

    def _observe(self, send: Callable[[Exchange], None], cost: int) -> RequestResult:
        self._context.spend_request()
        done, error = Exchange(now_us()), ""
        with self._context.in_flight(lambda: self._row_now(done, cost)):
            try:
                send(done)
            except (OSError, ParseError) as failure:
                self._connection.close()
                at_us, error = now_us(), _describe(failure, self._config.timeout_ms)
                done = Exchange(done.sent_us, at_us, at_us, at_us)
        outcome, error = self._outcome(done, error)
        self._context.record(self._row(done, outcome, cost, error))
        latency_ms = (done.answered_us - done.sent_us) / 1_000
        self._context.on_request(self._config.method, self._profile, latency_ms, error or None)
        retry_after_s = parse_retry_after_s([value for name, value in done.headers if name == RETRY_AFTER]) or 0
        return RequestResult(outcome, done.sent_us, done.answered_us, retry_after_s)

    def _row(self, done: Exchange, outcome: Outcome, cost: int, error: str) -> Row:
        return [
            self._profile, self._key, done.sent_us, done.answered_us, done.alive_us, done.ended_us,
            outcome, done.status, cost, done.hung_up, done.headers, done.body, error,
        ]  # fmt: skip

    def _row_now(self, exchange: Exchange, cost: int) -> Row:
        """The row of a request in flight if its client hangs up now, before it has read the whole response."""
        cut = exchange.cut()
        outcome, error = self._outcome(cut, "") if cut.status else (Outcome.UNFINISHED, "")
        # The contract describes whole refusals.
        return self._row(cut, Outcome.UNFINISHED if outcome is Outcome.REFUSED else outcome, cost, error)

    def _outcome(self, done: Exchange, error: str) -> tuple[Outcome, str]:
        if error:
            return Outcome.FAILED, error
        if done.status == self._config.refused_status or (self._profile == "websockets" and done.refused_websocket):
            return Outcome.REFUSED, ""
        if done.status in _WRONG_REQUEST:
            return Outcome.FAILED, f"{_WRONG_REQUEST[done.status]} (status {done.status})"
        if done.status >= _SERVER_ERROR:
            return Outcome.FAILED, f"the gateway answered with status {done.status}"
        return Outcome.ADMITTED, ""


def _describe(error: Exception, timeout_ms: int) -> str:
    """One sentence on why a request got no response, which says what to look at."""
    if isinstance(error, TimeoutError):
        return f"no complete response within {timeout_ms / 1_000:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: no server listens at this address"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}; set SSL_CERT_FILE to a file of trusted CAs"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved: {error.strerror}"
    return f"the connection broke: {str(error) or type(error).__name__}"
