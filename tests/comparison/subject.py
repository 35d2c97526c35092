"""What every library of the comparison is asked through: one caller of a limited route or function, and its clock."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from tests.migration.clocks import frozen_time
from tests.migration.sites import ADDRESS, Answer, Sender

from awx_ratelimit.testing import ManualClock

#: A number of requests, and a period in seconds.
Limit = tuple[int, int]
NAMES = {1: "second", 60: "minute", 3_600: "hour", 86_400: "day"}
_MIDNIGHT_MS = 1_700_006_400_000
_OK, _REFUSED = 200, 429


class Subject(NamedTuple):
    """One caller of a limited route or function, and the clock that its limits read."""

    #: Sends one request of a cost.
    ask: Callable[[int], Answer]
    clock: ManualClock

    def hit(self, cost: int = 1) -> bool:
        """Whether one request is admitted."""
        return self.ask(cost).status == _OK

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(int(seconds * 1_000))


#: Makes a subject with unused limits in memory, in the given order, as the library's documentation shows.
Build = Callable[..., AbstractContextManager[Subject]]


def sending(sender: Sender) -> Callable[[int], Answer]:
    """Ask by a request that names its cost."""
    return lambda cost: sender.send(f"/?cost={cost}", "GET", ADDRESS, {})


def answer(wait_s: float | None) -> Answer:
    """The answer of a function that refuses for some seconds, or admits."""
    return Answer(_OK, {}, "") if wait_s is None else Answer(_REFUSED, {"retry-after": f"{wait_s:g}"}, "")


def notation(limits: tuple[Limit, ...]) -> str:
    """Limits as ``5/minute;8/hour``."""
    return ";".join(f"{amount}/{NAMES[seconds]}" for amount, seconds in limits)


@contextmanager
def standing_clock(*readers: str, start_ms: int = 0) -> Iterator[ManualClock]:
    """A clock that stands still, which `readers` read: see `frozen_time`."""
    clock = ManualClock(_MIDNIGHT_MS + start_ms)
    with frozen_time(readers, clock):
        yield clock
