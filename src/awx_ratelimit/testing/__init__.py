"""Tools for tests: a manual clock, frozen limits, Redis without a server, and contract kits for backends and adapters.

`ManualClock` needs no other package. The kits and fixtures need pytest, and `fake_redis` needs fakeredis with its Lua.
They are imported on first use.
"""

import sys
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from awx_ratelimit.runtime.extras import lazy_exports

if TYPE_CHECKING:
    from awx_ratelimit.testing.adapter_contract import AdapterContract
    from awx_ratelimit.testing.backend_contract import BackendContract
    from awx_ratelimit.testing.fake_server import fake_redis
    from awx_ratelimit.testing.frozen_limits import frozen, rate_limits

__all__ = ["AdapterContract", "BackendContract", "ManualClock", "fake_redis", "frozen", "rate_limits"]

#: Folders and modules with assertions. Pytest rewrites them, so that a failed assertion shows the compared values.
_WITH_ASSERTIONS = ("adapter_contract", "adapter_responses", "backend_contract", "backend_laws", "drivers")

_pytest = sys.modules.get("pytest")
if _pytest is not None:
    _names = {f"{__name__}.{name}" for name in _WITH_ASSERTIONS}
    _pytest.register_assert_rewrite(*_names.difference(sys.modules))

__getattr__ = lazy_exports(
    __name__,
    {
        "AdapterContract": f"{__name__}.adapter_contract",
        "BackendContract": f"{__name__}.backend_contract",
        "fake_redis": f"{__name__}.fake_server",
        "frozen": f"{__name__}.frozen_limits",
        "rate_limits": f"{__name__}.frozen_limits",
    },
    packages={"pytest": "pytest"},
)


class ManualClock:
    """A clock in milliseconds since the Unix epoch. It stands still between calls of `advance` and `set`.

    A claim that waits for room (`wait_ms`) in a limiter over a backend with this clock waits for these calls, too.
    """

    def __init__(self, start_ms: int = 0) -> None:
        self._now_ms = start_ms
        #: By the id of an alarm: its time and its function.
        self._alarms: dict[int, tuple[int, Callable[[], None]]] = {}
        self._next_alarm = count().__next__

    def now_ms(self) -> int:
        """Return the current time of this clock."""
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Move the clock by `ms`; a negative number moves it back."""
        self.set(self._now_ms + ms)

    def set(self, now_ms: int) -> None:
        """Set the clock to `now_ms`, which may be earlier than its current time."""
        self._now_ms = now_ms
        due = [(at_ms, number) for number, (at_ms, _) in [*self._alarms.items()] if at_ms <= now_ms]
        for _, number in sorted(due):
            alarm = self._alarms.pop(number, None)
            if alarm is not None:
                alarm[1]()

    @property
    def alarms(self) -> int:
        """How many calls of `call_at` this clock has not reached, such as those of claims that wait."""
        return len(self._alarms)

    def call_at(self, at_ms: int, function: Callable[[], None]) -> Callable[[], None]:
        """Call `function` when this clock reaches `at_ms`. Returns a function that cancels it."""
        number = self._next_alarm()
        self._alarms[number] = at_ms, function
        if at_ms <= self._now_ms and self._alarms.pop(number, None) is not None:
            function()
        return lambda: self._alarms.pop(number, None) and None
