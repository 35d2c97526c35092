"""How a process sends its claims to one server, as `TaskBatching` of the library does: one call at a time."""

from collections import deque
from collections.abc import Callable, Sequence

from benchmarks.fleet.servers import Call, Claim, Server

from awx_ratelimit.backends.remote.batch_calls import MAX_RELEASES
from awx_ratelimit.backends.remote.batching import first_batch_size, next_batch_size


class Channel:
    """The claims of a process for one server: those that wait, and those in flight.

    `replied` is called with the channel when a reply has arrived. A reply to a call that was given up is ignored.
    """

    def __init__(self, server: Server, number: int, service: int, replied: Callable[["Channel"], None]) -> None:
        self.server = server
        self.number = number
        self._service = service
        self.waiting: list[Claim] = []
        self.in_flight: list[Claim] = []
        #: The ends of the requests that have a slot there.
        self.held: deque[float] = deque()
        self._replied = replied
        self._is_busy = False
        self._is_alone = False
        self._claims_before = 0
        self._is_connected = True

    def add(self, claim: Claim) -> int | None:
        """A claim queues. Returns the size of the batch to send now, None for one in the next turn, or 0."""
        self.waiting.append(claim)
        if self._is_busy:
            return 0
        self._is_busy = True
        # Otherwise the other tasks of this turn join the batch.
        return 1 if self._is_alone else None

    def first_size(self) -> int:
        """The largest batch to send while none is in flight."""
        return first_batch_size(len(self.waiting))

    def next_size(self, answered: int) -> int:
        """The largest batch to send after one with so many claims."""
        before, self._claims_before = self._claims_before, answered
        return next_batch_size(len(self.waiting), answered, before)

    def take(self, size: int) -> list[Claim]:
        """The claims of the next batch. Those whose callers have gone are dropped."""
        batch: list[Claim] = []
        while self.waiting and not batch:
            batch = [claim for claim in self.waiting[:size] if not claim.is_done]
            del self.waiting[:size]
        self._is_busy = bool(batch)
        return batch

    def send(self, batch: list[Claim], now_s: float) -> None:
        """Send a batch now. If the connection was given up, a new one is opened first."""
        self.in_flight = batch
        if self._is_connected:
            self._send(batch, self.ended(now_s))
        else:
            self.server.submit(Call(lambda: self._connected(batch), connects=True))

    def _connected(self, batch: list[Claim]) -> None:
        if self.in_flight is batch:
            self._is_connected = True
            self._send(batch, 0)

    def _send(self, batch: list[Claim], releases: int) -> None:
        def on_reply() -> None:
            if self.in_flight is batch:
                self._replied(self)

        self.server.submit(Call(on_reply, batch, releases, service=self._service))

    def ended(self, before_s: float) -> int:
        """Take the releases of the requests that ended before, as many as a call carries."""
        held, number = self.held, 0
        while held and held[0] <= before_s and number < MAX_RELEASES:
            held.popleft()
            number += 1
        return number

    def take_reply(self) -> list[Claim]:
        """The claims that were answered."""
        batch, self.in_flight = self.in_flight, []
        self._is_alone = len(batch) == 1 and not self.waiting
        self._is_busy = False
        return batch

    def give_up(self) -> Sequence[Claim]:
        """The call has no answer: its claims fail, and those that wait behind it."""
        failed = [claim for claim in (*self.in_flight, *self.waiting) if not claim.is_done]
        self.in_flight, self.waiting = [], []
        self._is_busy = self._is_connected = False
        return failed
