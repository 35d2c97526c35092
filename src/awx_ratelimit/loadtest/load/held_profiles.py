"""The profiles for slots: requests that stay open, of one key and of all keys of an account."""

from collections.abc import Callable
from functools import partial

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.load.client import RequestResult
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.profile import SLOT_RELEASE_S, Profile, run_together

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
        self._test(self.config.slots, keys=1)
        if self.config.shared_slots is not None:
            self.load_context.pause(HANG_UP_S)
            self._wait_for_refill(self.config.shared_slots)
            self._test(self.config.shared_slots, keys=len(self.load_context.keys))

    def _test(self, slots: int, keys: int) -> None:
        # One request above the slots would be enough; the second rules out coincidence.
        self._hold_together(slots + 2, keys, hold_s=1.0, to_the_end=not self.websocket)
        self._wait_for_refill(slots)
        self._hold_together(slots, keys, hold_s=0.5)
        self.load_context.pause(HANG_UP_S)
        self._wait_for_refill(slots)
        self._hold_together(slots, keys, hold_s=0.5)

    def _wait_for_refill(self, requests: int) -> None:
        refill_s = min(self.config.refill_s, requests * self.config.interval_s)
        self.load_context.pause(max(2 * SLOT_RELEASE_S, refill_s))

    def _hold_together(self, requests: int, keys: int, *, hold_s: float, to_the_end: bool = False) -> None:
        """Hold requests at once, spread over `keys`."""
        max_s = self.config.timeout_ms / 1_000 if to_the_end else hold_s
        until_us = now_us() + round(max_s * SECOND_US)
        over: Callable[[], bool] = lambda: now_us() >= until_us  # noqa: E731  # passed on as a value

        def hold(key: int) -> RequestResult:
            return self.new_client(key).hold(over, websocket=self.websocket)

        run_together([partial(hold, number % keys) for number in range(requests)])


class Streams(HeldRequests):
    """Responses that the client reads slowly."""


class WebSockets(HeldRequests):
    """WebSockets that stay open."""

    websocket = True
