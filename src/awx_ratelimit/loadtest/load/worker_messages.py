"""What goes between Locust's master and its workers, beside Locust's own: the order, rows, and clocks compared.

A worker's clock is its own. It is asked for the time a few times; the quickest answer says how far it is off, and half
the time of that answer how sure this is. Rows are put on the master's clock, and the rest is the audit's `spread_us`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
from locust.env import Environment
from locust.runners import Runner, WorkerRunner

from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.load import Load, Row
from awx_ratelimit.loadtest.run_config import Order

Tell = Callable[[dict[str, Any]], None]
_ASKED_TIMES: Final = 8
_SEND_EVERY_S = 0.25
#: Where the times stand in a row.
_TIMES = slice(2, 6)


class LoadedEnvironment(Environment):
    """Locust's, with what the users of this process share; None as long as there is no order."""

    load: Load | None = None


def serve_users(
    environment: LoadedEnvironment, order: Order, keys: Sequence[str], *, seconds_left: float, requests: int
) -> None:
    """Give the users of this process what they share."""

    def requested(kind: str, name: str, ms: float, wrong: str | None) -> None:
        environment.events.request.fire(  # type: ignore[no-untyped-call]  # Locust's own
            request_type=kind, name=name, response_time=ms, response_length=0,
            exception=None if wrong is None else RuntimeError(wrong), context={},
        )  # fmt: skip

    load = Load(order, keys, seconds_left=seconds_left, requests=requests, requested=requested)
    environment.load = load
    gevent.spawn(_send_on, environment, load)


def send_on(environment: LoadedEnvironment) -> None:
    """Send what was seen here to whoever writes it down: this process, or the master."""
    load, runner = environment.load, environment.runner
    if load is None or runner is None:
        return
    if (rows := load.taken()) or load.given_up:
        runner.send_message("awx_rows", {"rows": rows, "given_up": load.given_up})


def _send_on(environment: LoadedEnvironment, load: Load) -> None:
    while environment.load is load:
        gevent.sleep(_SEND_EVERY_S)
        send_on(environment)


class Spread:
    """The master's side: who has come, and how far each clock is off."""

    def __init__(self, runner: Runner, order: Order, keys: int, ends_us: int, tell: Tell) -> None:
        self._runner, self._order, self._tell = runner, order, tell
        self._keys, self._ends_us = keys, ends_us
        self._off_us: dict[str, int] = {}
        self._round_us: dict[str, int] = {}
        self._answers: dict[str, int] = {}
        if order.workers:
            runner.register_message("awx_came", self._came)
            runner.register_message("awx_time", self._time)

    @property
    def ready(self) -> int:
        """How many workers have the order, and a clock that is known."""
        return sum(1 for answers in self._answers.values() if answers >= _ASKED_TIMES)

    @property
    def us(self) -> int:
        """How far a time may still be off."""
        return max((round_us // 2 for round_us in self._round_us.values()), default=0)

    def on_our_clock(self, msg: Any) -> list[Row]:
        """The rows of a worker, at the master's times."""
        off_us = self._off_us.get(msg.node_id, 0)
        for row in msg.data["rows"]:
            row[_TIMES] = [at_us - off_us for at_us in row[_TIMES]]
        rows: list[Row] = msg.data["rows"]
        return rows

    def _came(self, msg: Any, **_: Any) -> None:
        said = {
            "order": self._order.as_json(),
            "keys": self._keys,
            "requests": self._order.share(len(self._answers)),
            "seconds_left": (self._ends_us - now_us()) / 1_000_000,
        }
        self._runner.send_message("awx_order", said, client_id=msg.node_id)
        self._answers[msg.node_id] = 0
        self._ask(msg.node_id)

    def _ask(self, worker: str) -> None:
        self._runner.send_message("awx_time", {"sent_us": now_us()}, client_id=worker)

    def _time(self, msg: Any, **_: Any) -> None:
        answered_us, worker = now_us(), msg.node_id
        round_us = answered_us - msg.data["sent_us"]
        if round_us < self._round_us.get(worker, 1 << 62):
            self._round_us[worker] = round_us
            self._off_us[worker] = msg.data["at_us"] - (answered_us + msg.data["sent_us"]) // 2
        self._answers[worker] = self._answers.get(worker, 0) + 1
        if self._answers[worker] < _ASKED_TIMES:
            self._ask(worker)
        else:
            self._tell({"worker": len(self._answers), "off_us": self._off_us[worker]})


class Member:
    """The worker's side. It serves with the keys of its own environment."""

    def __init__(self, environment: LoadedEnvironment, runner: WorkerRunner, keys: Sequence[str]) -> None:
        self._environment, self._runner, self._keys = environment, runner, keys
        runner.register_message("awx_order", self._ordered)
        runner.register_message("awx_time", self._asked)

    def serve(self) -> None:
        """Until the master says that it is enough, or is gone."""
        self._runner.send_message("awx_came", {})
        while len(self._runner.greenlet):
            gevent.sleep(_SEND_EVERY_S)

    def _ordered(self, msg: Any, **_: Any) -> None:
        if len(self._keys) != msg.data["keys"]:
            wrong = f"a worker has {len(self._keys)} keys in its environment, and the run has {msg.data['keys']}"
            self._runner.send_message("awx_rows", {"rows": [], "given_up": wrong})
        order = Order.of_json(msg.data["order"])
        left_s, requests = msg.data["seconds_left"], msg.data["requests"]
        serve_users(self._environment, order, self._keys, seconds_left=left_s, requests=requests)

    def _asked(self, msg: Any, **_: Any) -> None:
        self._runner.send_message("awx_time", {"sent_us": msg.data["sent_us"], "at_us": now_us()})
