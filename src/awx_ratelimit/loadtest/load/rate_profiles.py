"""Users for the rates of a plan, a class for each profile: what a client does of which an audit learns something."""

from awx_ratelimit.loadtest.load.client import Asked, Asking
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.user import LEAST_S, MOST_S, QUIET_S, SECOND_US, Profile, exhaust, paced
from awx_ratelimit.loadtest.run_config import Order

#: How far from an edge a window is used up, and begun again.
_EDGE_US = 30_000
ROUNDS = 2


class Steady(Profile):
    """A client that keeps within the plan, and uses all of it: its burst, then each request as it comes back."""

    name = "steady"

    def carry_out(self) -> None:
        """See the class."""
        asking = self.asking()
        last = [asking.ask() for _ in range(self.order.burst)][-1]
        for _ in range(int(min(MOST_S, max(LEAST_S, 3 * self.order.interval_s)) / self.order.interval_s)):
            # Later than the last could have been decided: so long a gateway may count from.
            self.load.pause_until(last.answered_us + round(1.01 * self.order.interval_s * SECOND_US))
            last = asking.ask()


class Burst(Profile):
    """Everybody at once, until nobody is let in any more, on connections that change."""

    name = "burst"

    @classmethod
    def users(cls, order: Order) -> int:
        """No more than slots: what is refused here is refused by rates."""
        return max(1, min(order.users, order.slots))

    def carry_out(self) -> None:
        """See the class."""
        asking, refused = self.asking(), 0
        for number in range(2 * self.order.burst + 10):
            refused += asking.ask().refused
            if refused >= 10:
                return
            if number % 3 == 2:
                asking.reconnect()


class Wait(Profile):
    """Come back when it was said, and once too early where the wait leaves time for it."""

    name = "wait"

    def carry_out(self) -> None:
        """See the class."""
        asking, heard = self.asking(), 0
        for _ in range(4 * ROUNDS):
            if exhaust(asking, self.order) is None:
                return
            self.load.pause(min(QUIET_S, self.order.interval_s / 2))
            refused = asking.ask()
            if refused.refused and refused.waits_s:
                self._come_back(asking, refused)
                heard += 1
            if heard == ROUNDS:
                return

    def _come_back(self, asking: Asking, refused: Asked) -> None:
        early_s = min(refused.waits_s - 1.2, max(1.0, 2 * self.order.interval_s))
        if early_s > 0:
            self.load.pause_until(refused.sent_us + round(early_s * SECOND_US))
            refused = asking.ask()
        if refused.refused and refused.waits_s:
            self.load.pause_until(refused.answered_us + refused.waits_s * SECOND_US + _EDGE_US)
            asking.ask()


class Refusals(Profile):
    """A burst of refused requests, and whoever is due next."""

    name = "refusals"

    def carry_out(self) -> None:
        """See the class."""
        asking = self.asking()
        for _ in range(ROUNDS):
            last = exhaust(asking, self.order)
            refused = [asked for asked in (asking.ask() for _ in range(30)) if asked.refused]
            last = refused[-1] if refused else last
            if last is not None:
                self.load.pause_until(last.answered_us + round(1.05 * self.order.interval_s * SECOND_US) + _EDGE_US)
                asking.ask()


class Over(Profile):
    """A quarter more than the plan allows, for a while."""

    name = "over"

    def carry_out(self) -> None:
        """See the class."""
        asking = self.asking()
        for _ in paced(self.load, self.order.interval_s / 1.25):
            asking.ask()


class Square(Profile):
    """On and off: as much as goes, then nothing for as long as two requests take to come back."""

    name = "square"

    def carry_out(self) -> None:
        """See the class."""
        asking = self.asking()
        for _ in range(2 * ROUNDS):
            exhaust(asking, self.order)
            self.load.pause(min(MOST_S, 2 * self.order.interval_s))


class Window(Profile):
    """A whole burst before the edge of a window, and another after it: of one by the clock, and of one by first use."""

    name = "window"

    def carry_out(self) -> None:
        """See the class."""
        asking = self.asking()
        for period_us in (rate.period_ms * 1_000 for rate in self.order.reachable):
            used = self.order.profiles[0] != self.name
            ready_us = now_us() + round(self.order.fill_s * SECOND_US * used)
            lead_us = self._lead_us(asking)
            self._straddle(asking, -(-(ready_us + lead_us) // period_us) * period_us, lead_us)
            self.load.pause(max(self.order.fill_s, period_us / SECOND_US))
            first = asking.ask()
            self._straddle(asking, first.answered_us + period_us, lead_us)

    def _lead_us(self, asking: Asking) -> int:
        """The time that a burst takes, and half as much again."""
        some = [asking.ask() for _ in range(3)]
        each_us = max(asked.answered_us - asked.sent_us for asked in some)
        return 100_000 + round(1.5 * self.order.burst * each_us)

    def _straddle(self, asking: Asking, edge_us: int, lead_us: int) -> None:
        self.load.pause_until(edge_us - lead_us)
        exhaust(asking, self.order, before_us=edge_us - _EDGE_US)
        self.load.pause_until(edge_us + _EDGE_US)
        exhaust(asking, self.order)
