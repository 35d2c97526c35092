"""Profiles that test slots, several keys, and long runs; and `PROFILES_BY_NAME`, which lists all profiles."""

from collections.abc import Callable
from typing import Final

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.load.client import Client
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.profile import SLOT_RELEASE_S, Profile, run_together
from awx_ratelimit.loadtest.load.rate_profiles import Burst, Over, Refusals, Square, Steady, Wait, Window
from awx_ratelimit.loadtest.run_config import PROFILES, SOAK, RunConfig

#: How long a server may take to notice that a client has gone, with a safety margin.
HANG_UP_S = 2.1


class HeldRequests(Profile):
    """More requests at once than there are slots; then as many as slots after a normal end and after a hang-up."""

    abstract = True
    websocket = False

    def execute(self) -> None:
        if self.config.profiles[0] != self.name:
            # Earlier profiles have used the rates and may have left connections open.
            self.load_context.pause(max(self.config.refill_s, HANG_UP_S))
        slots = self.config.slots
        # One request above the slots would be enough; the second rules out coincidence.
        self._hold_together(slots + 2, hold_s=1.0, to_the_end=not self.websocket)
        self._wait_for_refill(slots)
        self._hold_together(slots, hold_s=0.5)
        self.load_context.pause(HANG_UP_S)
        self._wait_for_refill(slots)
        self._hold_together(slots, hold_s=0.5)

    def _wait_for_refill(self, requests: int) -> None:
        refill_s = min(self.config.refill_s, requests * self.config.interval_s)
        self.load_context.pause(max(2 * SLOT_RELEASE_S, refill_s))

    def _hold_together(self, requests: int, *, hold_s: float, to_the_end: bool = False) -> None:
        max_s = self.config.timeout_ms / 1_000 if to_the_end else hold_s
        until_us = now_us() + round(max_s * SECOND_US)
        over: Callable[[], bool] = lambda: now_us() >= until_us  # noqa: E731  # passed on as a value
        run_together([lambda: self.new_client().hold(over, websocket=self.websocket)] * requests)


class Streams(HeldRequests):
    """Responses that the client reads slowly."""

    name = "streams"


class WebSockets(HeldRequests):
    """WebSockets that stay open."""

    name = "websockets"
    websocket = True


class Isolation(Profile):
    """A few requests with key 1, first alone and then while key 0 floods the gateway."""

    name = "isolation"

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

    name = "keys"

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


class Soak(Profile):
    """About 110 % of the plan's rate, with random bursts and pauses, until the run's time is over."""

    name = SOAK

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


class Flood(Profile):
    """As many requests as possible, to measure the load tester itself."""

    name = "flood"

    @classmethod
    def user_count(cls, config: RunConfig) -> int:
        return config.users

    def execute(self) -> None:
        client = self.new_client()
        while True:
            client.send()


_CLASSES: tuple[type[Profile], ...] = (
    Steady, Burst, Wait, Refusals, Over, Square, Window, Streams, WebSockets, Isolation, Keys, Soak, Flood,
)  # fmt: skip
PROFILES_BY_NAME: Final = {profile.name: profile for profile in _CLASSES}
assert set(PROFILES) < set(PROFILES_BY_NAME)
