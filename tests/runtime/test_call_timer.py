"""One timer for all calls of a connection: each call has its own deadline, which delays of this process move."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from awx_ratelimit.runtime.call_timer import CallTimer


class Loop:
    """An event loop whose time passes when the test says so. `late_s` is how late it wakes up."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.timers_made = 0

    def time(self) -> float:
        return self.now_s

    def call_at(self, at_s: float, act: Callable[..., None], *arguments: Any) -> Any:
        self.timers_made += 1
        self.timers.append((at_s, partial(act, *arguments)))
        return self

    def call_soon(self, act: Callable[..., None], *arguments: Any) -> Any:
        return self.call_at(self.now_s, act, *arguments)

    def run(self, until_s: float, late_s: float = 0.0) -> None:
        """Let time pass until `until_s`; each timer runs `late_s` late."""
        while self.timers and self.timers[0][0] + late_s <= until_s:
            at_s, act = self.timers.pop(0)
            self.now_s = max(self.now_s, at_s + late_s)
            act()
        self.now_s = max(self.now_s, until_s)


class Calls:
    def __init__(self) -> None:
        self.loop = Loop()
        self.expired_s: list[float] = []
        as_loop: Any = self.loop
        self.timer = CallTimer(as_loop, 0.05, self.expire)

    def expire(self) -> None:
        self.expired_s.append(self.loop.now_s)
        self.timer.end()


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_a_call_without_a_reply_expires(calls: Calls) -> None:
    """It expires after its time, and once."""
    calls.timer.begin()
    calls.loop.run(101.0)

    assert calls.expired_s == [pytest.approx(100.05)]
    assert calls.loop.timers == []


def test_each_call_has_its_own_deadline(calls: Calls) -> None:
    """A call that begins while the timer of an earlier one runs has all its time."""
    calls.timer.begin()
    calls.loop.run(100.03)
    calls.timer.end()
    calls.timer.begin()
    calls.loop.run(101.0)

    assert calls.expired_s == [pytest.approx(100.08)]


def test_many_calls_share_a_timer(calls: Calls) -> None:
    """A thousand calls within the time of one make a few timers, and an idle connection makes none."""
    for number in range(1_000):
        calls.loop.run(100.0 + number / 20_000)
        calls.timer.begin()
        calls.timer.end()
    made = calls.loop.timers_made
    calls.loop.run(200.0)

    assert made <= 6
    assert calls.loop.timers_made == made
    assert calls.expired_s == []


def test_the_longest_delay_is_added(calls: Calls) -> None:
    """If the loop was blocked for 80 ms, the call has 80 ms more. What was before the call does not count."""
    calls.timer.begin()
    calls.timer.end()
    calls.loop.now_s = 100.5
    calls.timer.begin()
    calls.loop.run(100.5)
    calls.loop.run(100.58 + 0.01, late_s=0.08)
    calls.loop.run(101.0)

    assert calls.expired_s == [pytest.approx(100.63, abs=0.02)]


def test_remaining_time(calls: Calls) -> None:
    """What is left of a call is for its next step."""
    calls.timer.begin()
    calls.loop.now_s += 0.02

    assert calls.timer.left_s() == pytest.approx(0.03)
    calls.loop.now_s += 1.0
    assert calls.timer.left_s() == 0.0


def test_a_real_loop() -> None:
    """A hanging call ends, and an answered one does not."""

    async def hanging() -> list[str]:
        said: list[str] = []
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        answered = CallTimer(loop, 0.01, lambda: said.append("answered"))
        answered.begin()
        answered.end()
        CallTimer(loop, 0.02, over.set).begin()
        await over.wait()
        return said

    assert asyncio.run(asyncio.wait_for(hanging(), 10)) == []
