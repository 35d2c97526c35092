"""The profile `window`: a whole burst on each side of a window's edge, also on a busy machine."""

import json
import subprocess
import sys
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


def bursts_of(request_us: int) -> list[tuple[int, bool]]:
    """When each burst of the profile began, and whether it was whole."""
    from awx_ratelimit.loadtest.load import profiles  # here: Locust patches the process that imports it

    machine = Machine(request_us)
    profile: Any = object.__new__(profiles.Window)
    vars(profile).update(config=CONFIG, load_context=machine, new_client=lambda: machine)
    vars(profiles).update(now_us=lambda: machine.at_us, send_until_refused=machine.burst)
    profile.execute()
    return machine.bursts


@pytest.fixture(scope="module")
def whole() -> dict[str, list[bool]]:
    """Whether each burst was whole, by the duration of a request in microseconds."""
    ended = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    bursts: dict[str, list[bool]] = json.loads(ended.stdout)
    return bursts


def test_quick_machine(whole: dict[str, list[bool]]) -> None:
    """Two bursts straddle the edge of a window by the clock, and two that of a window from first use."""
    assert whole["1000"] == [True] * 4


def test_busy_machine(whole: dict[str, list[bool]]) -> None:
    """A burst that was not whole before the edge is sent again, and starts earlier."""
    assert whole["15000"] == [False, True, True, True] * 2


if __name__ == "__main__":
    json.dump({us: [is_whole for _, is_whole in bursts_of(us)] for us in (1_000, 15_000)}, sys.stdout)
