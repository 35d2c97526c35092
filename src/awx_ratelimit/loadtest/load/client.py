"""`Asking`: one user's requests with one key, each of them observed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from awx_ratelimit.loadtest.audit.contract import RETRY_AFTER, wait_told_s
from awx_ratelimit.loadtest.audit.observation import Outcome
from awx_ratelimit.loadtest.load.failures import BROKEN, why
from awx_ratelimit.loadtest.load.http_client import Connection, Exchange, now_us, refused_websocket
from awx_ratelimit.loadtest.load.load import Load

_SERVER_ERROR = 500
#: What says that the request itself is wrong, and nothing of limits.
_NOT_ASKED = {
    401: "the key is not accepted",
    403: "the key is not accepted",
    404: "there is no such path",
    405: "the path is not asked in that way",
    # Nowhere is followed: it may be another host, and what would be sent there is a key.
    **dict.fromkeys((301, 302, 303, 307, 308), "the gateway sends to another place: name that in the URL"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a request, for whoever plans the next. `waits_s` is 0 where it was not told to wait."""

    outcome: Outcome
    sent_us: int
    answered_us: int
    waits_s: int

    @property
    def refused(self) -> bool:
        """Whether it was refused."""
        return self.outcome is Outcome.REFUSED


class Asking:
    """Requests of one profile with the key of that number. Each raises Spent where none may be made any more."""

    def __init__(self, load: Load, profile: str, key: int = 0) -> None:
        order, key_line = load.order, load.key_line(key)
        self._load, self._profile, self._key, self._order = load, profile, key, order
        self._connection = Connection(load.target)
        self._plain = load.target.request(order.method, order.path, key_line)
        self._stream = load.target.request("GET", order.stream_path or "/", key_line)
        self._upgrade = load.target.upgrade(order.websocket_path or "/", key_line)

    def ask(self) -> Asked:
        """One request, answered."""
        ask = partial(self._connection.ask, self._plain, self._order.method, self._order.refused_status)
        return self._observe(ask, self._order.cost)

    def hold(self, until: Callable[[], bool], *, websocket: bool = False) -> Asked:
        """One stream or WebSocket, read until it ends or `until` says to hang up."""
        request, hold = (
            (self._upgrade, self._connection.hold_websocket) if websocket else (self._stream, self._connection.hold)
        )
        return self._observe(partial(hold, request, self._order.refused_status, until), 1)

    def reconnect(self) -> None:
        """Let the next request go on another connection: to another process of the gateway, perhaps."""
        self._connection.close()

    def _observe(self, carry_out: Callable[[], Exchange], cost: int) -> Asked:
        self._load.spend()
        begin_us = now_us()
        try:
            done, wrong = carry_out(), ""
        except BROKEN as error:
            self._connection.close()
            done, wrong = Exchange(begin_us), why(error, self._order.timeout_ms)
            done.answered_us = done.alive_us = done.ended_us = now_us()
        outcome, wrong = self._outcome(done, wrong)
        self._load.seen(
            [
                self._profile, self._key, done.sent_us, done.answered_us, done.alive_us, done.ended_us,
                outcome, done.status, cost, done.hung_up, done.headers, done.body, wrong,
            ]
        )  # fmt: skip
        self._load.requested(
            self._order.method, self._profile, (done.answered_us - done.sent_us) / 1_000, wrong or None
        )
        return Asked(outcome, done.sent_us, done.answered_us, _waits_s(done))

    def _outcome(self, done: Exchange, wrong: str) -> tuple[Outcome, str]:
        if wrong:
            return Outcome.FAILED, wrong
        if done.status == self._order.refused_status or (self._profile == "websockets" and refused_websocket(done)):
            return Outcome.REFUSED, ""
        if done.status in _NOT_ASKED:
            return Outcome.FAILED, f"{_NOT_ASKED[done.status]} (status {done.status})"
        if done.status >= _SERVER_ERROR:
            return Outcome.FAILED, f"the gateway answered with status {done.status}"
        return Outcome.ADMITTED, ""


def _waits_s(done: Exchange) -> int:
    return wait_told_s([value for name, value in done.headers if name == RETRY_AFTER]) or 0
