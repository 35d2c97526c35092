"""Users for slots, and for many at once: connections that are held, keys beside each other, load without an end."""

from collections.abc import Callable

from awx_ratelimit.loadtest.load.client import Asking
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.rate_profiles import Burst
from awx_ratelimit.loadtest.load.user import QUIET_S, SECOND_US, Profile, at_once
from awx_ratelimit.loadtest.run_config import SOAK, Order

#: How long a server may take to hear that a client has gone, and a little more.
HANG_UP_S = 2.1


class Held(Profile):
    """More at once than there are slots; then as many as there are, after their end, and after hanging up."""

    abstract = True
    websocket = False

    def carry_out(self) -> None:
        """See the class."""
        if self.order.profiles[0] != self.name:
            # What came before has used up the rates, and left connections.
            self.load.pause(max(self.order.fill_s, HANG_UP_S))
        slots = self.order.slots
        # Of two beyond the slots one would do; the other shows that it was not chance.
        self._together(slots + 2, hold_s=1.0, to_the_end=not self.websocket)
        self._rest(slots)
        self._together(slots, hold_s=0.5)
        self.load.pause(HANG_UP_S)
        self._rest(slots)
        self._together(slots, hold_s=0.5)

    def _rest(self, number: int) -> None:
        """Until so many requests have come back."""
        self.load.pause(max(2 * QUIET_S, min(self.order.fill_s, number * self.order.interval_s)))

    def _together(self, number: int, *, hold_s: float, to_the_end: bool = False) -> None:
        most_s = self.order.timeout_ms / 1_000 if to_the_end else hold_s
        until_us = now_us() + round(most_s * SECOND_US)
        over: Callable[[], bool] = lambda: now_us() >= until_us  # noqa: E731  # it is given on
        at_once([lambda: self.asking().hold(over, websocket=self.websocket)] * number)


class Streams(Held):
    """Responses that are read slowly."""

    name = "streams"


class WebSockets(Held):
    """WebSockets that are kept open."""

    name = "websockets"
    websocket = True


class Isolation(Profile):
    """Key 1 asks a little, alone, and again while key 0 floods."""

    name = "isolation"

    def carry_out(self) -> None:
        """See the class."""
        asking = self.asking(1)
        number = max(3, min(15, self.order.burst // 2 - 1))
        every_s = 0.1 if 2 * number <= self.order.burst else self.order.interval_s
        self._some(asking, number, every_s)
        until_us = now_us() + round((number * every_s + 0.6) * SECOND_US)
        flood = [lambda: self._flood(until_us)] * min(2, self.order.slots)
        at_once([*flood, lambda: self._some(asking, number, every_s)])

    def _some(self, asking: Asking, number: int, every_s: float) -> None:
        for _ in range(number):
            self.load.pause(every_s)
            asking.ask()

    def _flood(self, until_us: int) -> None:
        """No faster than that the machine, which may be the gateway's too, has time for others."""
        asking = self.asking(0)
        while now_us() < until_us:
            asking.ask()
            self.load.pause(0.015)


class Keys(Profile):
    """Many keys at once, each until it is refused."""

    name = "keys"

    @classmethod
    def users(cls, order: Order) -> int:
        """As many as were asked for."""
        return order.users

    def carry_out(self) -> None:
        """See the class."""
        for _ in range(3):
            asking = self.asking(self.load.random.randrange(len(self.load.keys) or 1))
            refused = 0
            for _ in range(self.order.burst + 2):
                refused += asking.ask().refused
                if refused == 2:
                    break


class Soak(Profile):
    """A little over the limit, with pauses and bursts, until the time is over."""

    name = SOAK

    @classmethod
    def users(cls, order: Order) -> int:
        """As in a burst."""
        return Burst.users(order)

    def carry_out(self) -> None:
        """See the class."""
        asking, interval_s = self.asking(), self.order.interval_s * self.users(self.order) / 1.1
        while True:
            for _ in range(self.load.random.randrange(1, 20)):
                asking.ask()
                self.load.pause(interval_s * self.load.random.random() * 2)
            self.load.pause(self.load.random.random() * 3 * interval_s)


class Flood(Profile):
    """As fast as it goes: for measuring the tester itself."""

    name = "flood"

    @classmethod
    def users(cls, order: Order) -> int:
        """As many as were asked for."""
        return order.users

    def carry_out(self) -> None:
        """See the class."""
        asking = self.asking()
        while True:
            asking.ask()
