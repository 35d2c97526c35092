"""Profiles that test the rates of a plan, one class for each."""

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.load.client import Client, RequestResult
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.profile import (
    MAX_PACED_S,
    MIN_PACED_S,
    SLOT_RELEASE_S,
    Profile,
    paced,
    send_until_refused,
)
from awx_ratelimit.loadtest.run_config import RunConfig

#: Distance from a window's edge at which requests before it stop and requests after it start.
_EDGE_US = 30_000
ROUNDS = 2


class Steady(Profile):
    """A client that uses everything the plan allows: the whole burst, then each request as soon as it refills."""

    name = "steady"

    def execute(self) -> None:
        client, interval_s = self.new_client(), self.config.interval_s
        last = [client.send() for _ in range(self.config.burst)][-1]
        for _ in range(int(min(MAX_PACED_S, max(MIN_PACED_S, 3 * interval_s)) / interval_s)):
            # The gateway may have decided the last request as late as its response.
            self.load_context.pause_until(last.answered_us + round(1.01 * interval_s * SECOND_US))
            last = client.send()


class Burst(Profile):
    """All users at once until every request is refused, on changing connections."""

    name = "burst"

    @classmethod
    def user_count(cls, config: RunConfig) -> int:
        """At most as many users as slots, so that every refusal is one by rates."""
        return max(1, min(config.users, config.slots))

    def execute(self) -> None:
        client, refused = self.new_client(), 0
        for number in range(2 * self.config.burst + 10):
            refused += client.send().refused
            if refused >= 10:
                return
            if number % 3 == 2:
                client.reconnect()


class Wait(Profile):
    """Return after the promised wait; and once too early, if the wait is long enough."""

    name = "wait"

    def execute(self) -> None:
        client, waits = self.new_client(), 0
        for _ in range(4 * ROUNDS):
            if send_until_refused(client, self.config) is None:
                return
            self.load_context.pause(min(SLOT_RELEASE_S, self.config.interval_s / 2))
            refused = client.send()
            if refused.refused and refused.retry_after_s:
                self._return(client, refused)
                waits += 1
            if waits == ROUNDS:
                return

    def _return(self, client: Client, refused: RequestResult) -> None:
        early_s = min(refused.retry_after_s - 1.2, max(1.0, 2 * self.config.interval_s))
        if early_s > 0:
            self.load_context.pause_until(refused.sent_us + round(early_s * SECOND_US))
            refused = client.send()
        if refused.refused and refused.retry_after_s:
            self.load_context.pause_until(refused.answered_us + refused.retry_after_s * SECOND_US + _EDGE_US)
            client.send()


class Refusals(Profile):
    """A burst of refused requests, then one request as soon as it is due."""

    name = "refusals"

    def execute(self) -> None:
        client, interval_us = self.new_client(), round(1.05 * self.config.interval_s * SECOND_US)
        for _ in range(ROUNDS):
            last = send_until_refused(client, self.config)
            refused = [result for result in (client.send() for _ in range(30)) if result.refused]
            last = refused[-1] if refused else last
            if last is not None:
                self.load_context.pause_until(last.answered_us + interval_us + _EDGE_US)
                client.send()


class Over(Profile):
    """A steady load of 125 % of the plan's rate."""

    name = "over"

    def execute(self) -> None:
        client = self.new_client()
        for _ in paced(self.load_context, self.config.interval_s / 1.25):
            client.send()


class Square(Profile):
    """A square wave: as many requests as possible, then a pause in which two requests refill."""

    name = "square"

    def execute(self) -> None:
        client = self.new_client()
        for _ in range(2 * ROUNDS):
            send_until_refused(client, self.config)
            self.load_context.pause(min(MAX_PACED_S, 2 * self.config.interval_s))


class Window(Profile):
    """A whole burst on each side of a window's edge: a window by the clock, and one that starts at first use."""

    name = "window"

    def execute(self) -> None:
        client = self.new_client()
        for period_us in (rate.period_ms * 1_000 for rate in self.config.reachable_rates):
            used = self.config.profiles[0] != self.name
            ready_us = now_us() + round(self.config.refill_s * SECOND_US * used)
            lead_us = self._lead_us(client)
            self._straddle(client, -(-(ready_us + lead_us) // period_us) * period_us, lead_us)
            self.load_context.pause(max(self.config.refill_s, period_us / SECOND_US))
            first = client.send()
            self._straddle(client, first.answered_us + period_us, lead_us)

    def _lead_us(self, client: Client) -> int:
        """How long before an edge a burst must start: one and a half times its duration."""
        results = [client.send() for _ in range(3)]
        slowest_us = max(result.answered_us - result.sent_us for result in results)
        return 100_000 + round(1.5 * self.config.burst * slowest_us)

    def _straddle(self, client: Client, edge_us: int, lead_us: int) -> None:
        self.load_context.pause_until(edge_us - lead_us)
        send_until_refused(client, self.config, before_us=edge_us - _EDGE_US)
        self.load_context.pause_until(edge_us + _EDGE_US)
        send_until_refused(client, self.config)
