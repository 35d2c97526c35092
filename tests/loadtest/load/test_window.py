"""The profile `window`: a whole burst on each side of a window's edge, also on a busy machine."""

from types import SimpleNamespace
from typing import Any

import pytest

from awx_ratelimit import Plan, Rate
from awx_ratelimit.loadtest.run_config import RunConfig

CONFIG = RunConfig(url="http://127.0.0.1", plan=Plan("ten", (Rate("rate", 10, 2_000),)), profiles=("window",))
SECOND_US = 1_000_000


class Machine:
    """A clock, and a gateway whose requests take `request_us`. A burst is refused after ten requests in it."""

    def __init__(self, request_us: int) -> None:
        self.at_us = 0
        self.request_us = request_us
        self.bursts: list[tuple[int, bool]] = []

    def pause(self, seconds: float) -> None:
        self.at_us += round(seconds * SECOND_US)

    def pause_until(self, at_us: int) -> None:
        self.at_us = max(self.at_us, at_us)

    def send(self) -> Any:
        began_us, self.at_us = self.at_us, self.at_us + 1
        return SimpleNamespace(sent_us=began_us, answered_us=self.at_us)

    def burst(self, _client: Any, config: RunConfig, *, before_us: int | None = None) -> Any:
        began_us = self.at_us
        self.at_us += 10 * self.request_us
        is_whole = before_us is None or self.at_us < before_us
        self.bursts.append((began_us, is_whole))
        return object() if is_whole else None


def bursts_of(monkeypatch: pytest.MonkeyPatch, request_us: int) -> list[tuple[int, bool]]:
    """When each burst of the profile began, and whether it was whole."""
    from awx_ratelimit.loadtest.load import profiles  # here: it imports gevent

    machine = Machine(request_us)
    profile = object.__new__(profiles.Window)
    vars(profile).update(config=CONFIG, load_context=machine)
    monkeypatch.setattr(profiles.Window, "new_client", lambda _: machine)
    monkeypatch.setattr(profiles, "now_us", lambda: machine.at_us)
    monkeypatch.setattr(profiles, "send_until_refused", machine.burst)
    profile.execute()
    return machine.bursts


@pytest.mark.own_process
def test_quick_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bursts straddle the edge of a window by the clock, and two that of a window from first use."""
    assert [is_whole for _, is_whole in bursts_of(monkeypatch, 1_000)] == [True] * 4


@pytest.mark.own_process
def test_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst that was not whole before the edge is sent again, and starts earlier."""
    assert [is_whole for _, is_whole in bursts_of(monkeypatch, 15_000)] == [False, True, True, True] * 2
