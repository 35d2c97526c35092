"""`Client`: sends requests of one profile with one key and records an observation of each."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from awx_ratelimit.loadtest.audit.contract import RETRY_AFTER, parse_retry_after_s
from awx_ratelimit.loadtest.audit.observation import Outcome
from awx_ratelimit.loadtest.load.context import LoadContext
from awx_ratelimit.loadtest.load.http_client import Connection, Exchange, now_us
from awx_ratelimit.loadtest.load.http_parser import ParseError

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

    def _observe(self, send: Callable[[], Exchange], cost: int) -> RequestResult:
        self._context.spend_request()
        begin_us = now_us()
        try:
            done, error = send(), ""
        except (OSError, ParseError) as failure:
            self._connection.close()
            done, error = Exchange(begin_us), _describe(failure, self._config.timeout_ms)
            done.answered_us = done.alive_us = done.ended_us = now_us()
        outcome, error = self._outcome(done, error)
        self._context.record(
            [
                self._profile, self._key, done.sent_us, done.answered_us, done.alive_us, done.ended_us,
                outcome, done.status, cost, done.hung_up, done.headers, done.body, error,
            ]
        )  # fmt: skip
        latency_ms = (done.answered_us - done.sent_us) / 1_000
        self._context.on_request(self._config.method, self._profile, latency_ms, error or None)
        retry_after_s = parse_retry_after_s([value for name, value in done.headers if name == RETRY_AFTER]) or 0
        return RequestResult(outcome, done.sent_us, done.answered_us, retry_after_s)

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
