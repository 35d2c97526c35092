"""The profiles for rates, for several keys, and for long runs, one class for each. Those for slots: `held_profiles`."""

from collections.abc import Callable
from functools import partial
from typing import Final

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.load.client import Client, RequestResult
from awx_ratelimit.loadtest.load.held_profiles import Streams, WebSockets
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.profile import (
    MAX_PACED_S,
    MIN_PACED_S,
    SLOT_RELEASE_S,
    Profile,
    run_together,
    send_until_refused,
)
from awx_ratelimit.loadtest.run_config import PROFILES, RunConfig

#: Distance from a window's edge at which requests before it stop and requests after it start.
_EDGE_US = 30_000
ROUNDS = 2


class Steady(Profile):
    """A client that uses everything the plan allows: the whole burst, then each request as soon as it refills."""

    def execute(self) -> None:
        client, interval_s = self.new_client(), self.config.interval_s
        last = [client.send() for _ in range(self.config.burst)][-1]
        for _ in range(int(min(MAX_PACED_S, max(MIN_PACED_S, 3 * interval_s)) / interval_s)):
            # The gateway may have decided the last request as late as its response.
            self.load_context.pause_until(last.answered_us + round(1.01 * interval_s * SECOND_US))
            last = client.send()


class Burst(Profile):
    """All users at once until every request is refused, on changing connections."""

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

    def execute(self) -> None:
        client, interval_s, begin_us = self.new_client(), self.config.interval_s / 1.25, now_us()
        for number in range(int(min(MAX_PACED_S, max(MIN_PACED_S, 5 * interval_s)) / interval_s) + 1):
            self.load_context.pause_until(begin_us + round(number * interval_s * SECOND_US))
            client.send()


class Square(Profile):
    """A square wave: as many requests as possible, then a pause in which two requests refill."""

    def execute(self) -> None:
        client = self.new_client()
        for _ in range(2 * ROUNDS):
            send_until_refused(client, self.config)
            self.load_context.pause(min(MAX_PACED_S, 2 * self.config.interval_s))


class Window(Profile):
    """A whole burst on each side of a window's edge: a window by the clock, and one that starts at first use."""

    def execute(self) -> None:
        client = self.new_client()
        for period_us in (rate.period_ms * 1_000 for rate in self.config.reachable_rates):
            lead_us = self._lead_us(client)
            self._straddle(client, lead_us, partial(self._edge_by_the_clock, period_us))
            self._straddle(client, lead_us, partial(self._edge_from_first_use, client, period_us))

    def _lead_us(self, client: Client) -> int:
        """How long before an edge a burst must start: one and a half times its duration."""
        results = [client.send() for _ in range(3)]
        slowest_us = max(result.answered_us - result.sent_us for result in results)
        return 100_000 + round(1.5 * self.config.burst * slowest_us)

    def _edge_by_the_clock(self, period_us: int, lead_us: int) -> int:
        full_us = now_us() + round(self.config.refill_s * SECOND_US)
        return -(-(full_us + lead_us) // period_us) * period_us

    def _edge_from_first_use(self, client: Client, period_us: int, _: int) -> int:
        self.load_context.pause(max(self.config.refill_s, period_us / SECOND_US))
        return client.send().answered_us + period_us

    def _straddle(self, client: Client, lead_us: int, next_edge_us: Callable[[int], int]) -> None:
        """Send a burst on each side of an edge. Start earlier if the machine was too busy for all of the first."""
        for start_us in (lead_us, 2 * lead_us, 4 * lead_us):
            edge_us = next_edge_us(start_us)
            self.load_context.pause_until(edge_us - start_us)
            refused = send_until_refused(client, self.config, before_us=edge_us - _EDGE_US)
            had_time = refused is not None or now_us() < edge_us - _EDGE_US
            self.load_context.pause_until(edge_us + _EDGE_US)
            send_until_refused(client, self.config)
            if had_time:
                return


class Isolation(Profile):
    """A few requests with key 1, first alone and then while key 0 floods the gateway."""

    def execute(self) -> None:
        client = self.new_client(1)
        number = max(3, min(15, self.config.burst // 2 - 1))
        interval_s = 0.1 if 2 * number <= self.config.burst else self.config.interval_s
        self._send_some(client, number, interval_s)
        until_us = now_us() + round((number * interval_s + 0.6) * SECOND_US)
        flood = [lambda: self._flood(until_us)] * min(2, self.config.slots)
        run_together([*flood, lambda: self._send_some(client, number, interval_s)])

    def _send_some(self, client: Client, number: int, interval_s: float) -> None:
        for _ in range(number):
            self.load_context.pause(interval_s)
            client.send()

    def _flood(self, until_us: int) -> None:
        """Pause between requests, because the gateway may run on the same machine and needs time for others."""
        client = self.new_client(0)
        while now_us() < until_us:
            client.send()
            self.load_context.pause(0.015)


class Keys(Profile):
    """Many random keys at once, each until it is refused."""

    @classmethod
    def user_count(cls, config: RunConfig) -> int:
        return config.users

    def execute(self) -> None:
        for _ in range(3):
            client = self.new_client(self.load_context.random.randrange(len(self.load_context.keys) or 1))
            refused = 0
            for _ in range(self.config.burst + 2):
                refused += client.send().refused
                if refused == 2:
                    break


class Account(Profile):
    """All keys of an account in turn, each until it is refused; then one request after the promised wait."""

    def execute(self) -> None:
        if self.config.profiles[0] != self.name:
            self.load_context.pause(self.config.refill_s)
        for _ in range(ROUNDS):
            self._exhaust([self.new_client(key) for key in range(len(self.load_context.keys))])
            client = self.new_client()
            refused = send_until_refused(client, self.config)
            if refused is not None and refused.retry_after_s:
                self.load_context.pause_until(refused.answered_us + refused.retry_after_s * SECOND_US + _EDGE_US)
                client.send()

    def _exhaust(self, clients: list[Client]) -> None:
        """Send with each client until it is refused, or has made more requests than its plan allows."""
        for _ in range(2 * self.config.burst + 20):
            clients = [client for client in clients if not client.send().refused]


class Soak(Profile):
    """About 110 % of the plan's rate, with random bursts and pauses, until the run's time is over."""

    @classmethod
    def user_count(cls, config: RunConfig) -> int:
        return Burst.user_count(config)

    def execute(self) -> None:
        client, interval_s = self.new_client(), self.config.interval_s * self.user_count(self.config) / 1.1
        random, pause = self.load_context.random, self.load_context.pause
        while True:
            for _ in range(random.randrange(1, 20)):
                client.send()
                pause(interval_s * random.random() * 2)
            pause(random.random() * 3 * interval_s)


PROFILES_BY_NAME: Final = {
    profile.name: profile
    for profile in (
        Steady, Burst, Wait, Refusals, Over, Square, Window, Streams, WebSockets, Isolation, Keys, Account,
        Soak,
    )
}  # fmt: skip
assert set(PROFILES) < set(PROFILES_BY_NAME)
