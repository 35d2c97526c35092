"""When the maintenance thread works, and how long it waits before it sends releases."""

import threading

import pytest
from tests.machine import eventually
from tests.redis_servers import RedisServer

from awx_ratelimit import Concurrency, Limiter, Plan, RedisBackend
from awx_ratelimit.backends.remote.maintenance_thread import MaintenanceThread, ReleaseDelay

SHORT = Plan("short", (), Concurrency(1, ttl_ms=1_000))


def waits(*turns: tuple[bool, bool]) -> list[float]:
    """The delays before these turns, in each of which releases are left over, and claims in flight, or not."""
    delay, waited = ReleaseDelay(), []
    for left_over, in_flight in turns:
        waited.append(delay.seconds)
        delay.goes_on(left_over, in_flight)
    return waited


def test_delay_grows_while_claims_carry_releases() -> None:
    """The delay doubles each time, up to its maximum."""
    assert waits(*[(False, True)] * 6) == [0.002, 0.004, 0.008, 0.016, 0.016, 0.016]


def test_a_left_over_release_resets_the_delay() -> None:
    """After a release that no claim carried, the next delay is short."""
    assert waits(*[(False, False)] * 2, *[(True, False)] * 2) == [0.002, 0.004, 0.008, 0.002]


def test_claims_in_flight() -> None:
    """A release waits for the claims after those in flight, for 50 ms at most."""
    delay, waited_s = ReleaseDelay(), 0.002
    while delay.goes_on(True, True):
        waited_s += delay.seconds
        assert waited_s <= 0.05

    assert waited_s > 0.05 - 0.016
    assert delay.goes_on(True, True)


class Maintained:
    """Counts the turns of its maintenance thread."""

    def __init__(self) -> None:
        self.turns = 0
        self.hangs = threading.Event()
        self.thread = MaintenanceThread(self.turn)

    def turn(self) -> float:
        self.turns += 1
        self.hangs.wait(10)
        return 1_000.0

    def end(self) -> None:
        self.hangs.set()
        self.thread.stop(5)


def test_interval_after_a_restart() -> None:
    """A thread that is started again renews as often as the shortest ttl needs."""
    maintained = Maintained()
    maintained.hangs.set()
    maintained.thread.renew_for(SHORT)
    assert eventually(lambda: maintained.turns, 1) == 1
    maintained.thread.stop(5)
    maintained.thread.renew_for(SHORT)
    turns = eventually(lambda: maintained.turns, 2)
    maintained.end()

    assert turns == 2


def test_start_while_a_stop_waits() -> None:
    """A lease that opens while another thread still waits for the end of the thread is renewed too."""
    maintained = Maintained()
    maintained.thread.renew_for(SHORT)
    assert eventually(lambda: maintained.turns, 1) == 1
    stopper = threading.Thread(target=maintained.thread.stop, args=(5,))
    stopper.start()
    assert eventually(lambda: maintained.thread.thread, None) is None
    maintained.thread.start()
    started = maintained.thread.thread
    maintained.end()
    stopper.join(5)

    assert started is not None


class Endless:
    """A delay of releases that does not end by itself."""

    begun = threading.Event()

    @property
    def seconds(self) -> float:
        self.begun.set()
        return 1_000.0

    def goes_on(self, left_over: bool, in_flight: bool) -> bool:
        return left_over or in_flight


def test_close_during_a_delay(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is closed while its thread delays a release sends the release, and ends the thread."""
    monkeypatch.setattr("awx_ratelimit.backends.remote.maintenance.ReleaseDelay", Endless)
    url = f"redis://127.0.0.1:{redis_server.port}"
    backend = RedisBackend.from_url(url, timeout_ms=10_000)
    limiter = Limiter(backend)
    limiter.release(limiter.acquire("s", SHORT))
    assert Endless.begun.wait(10)
    thread = backend._maintenance._thread.thread
    limiter.close()

    assert thread is not None
    assert not thread.is_alive()
    other = Limiter(RedisBackend.from_url(url, timeout_ms=10_000))
    assert other.acquire("s", SHORT).allowed
    other.close()
