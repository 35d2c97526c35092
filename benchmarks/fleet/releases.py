"""The slots that the requests of a process give back: with the next claims, or alone if there are none for a while."""

from functools import partial

from benchmarks.fleet.batching import Channel
from benchmarks.fleet.events import Simulation
from benchmarks.fleet.measured import Measured
from benchmarks.fleet.scenario import Scenario
from benchmarks.fleet.servers import Call

#: As in `maintenance_thread`: how long releases wait for claims that can carry them.
MIN_DELAY_S, MAX_DELAY_S = 0.002, 0.016


class Releases:
    """See the module."""

    def __init__(self, simulation: Simulation, scenario: Scenario, measured: Measured) -> None:
        self._simulation = simulation
        self._hold_s = scenario.hold_s
        self._measured = measured
        self._delay_s = MIN_DELAY_S
        self._watched: set[int] = set()

    def hold(self, channel: Channel, now_s: float) -> None:
        """A request has got its slot, and has it for a while."""
        if self._hold_s is not None:
            channel.held.append(now_s + self._hold_s)
            self._watch(channel)

    def _watch(self, channel: Channel) -> None:
        if channel.held and channel.number not in self._watched:
            self._watched.add(channel.number)
            look_s = max(self._simulation.now_s, channel.held[0]) + self._delay_s
            self._simulation.at(look_s, partial(self._look, channel, look_s - self._delay_s))

    def _look(self, channel: Channel, ended_s: float) -> None:
        """Send what has waited since `ended_s`."""
        self._watched.discard(channel.number)
        number = channel.ended(ended_s)
        if number:
            self._measured.releases += self._measured.is_warm(self._simulation.now_s)
            channel.server.submit(Call(_nothing, releases=number))
        self._delay_s = MIN_DELAY_S if number else min(2 * self._delay_s, MAX_DELAY_S)
        self._watch(channel)


def _nothing() -> None:
    pass
