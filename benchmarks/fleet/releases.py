"""The slots that the requests of a process give back: with the next claims, or alone if there are none for a while."""

from functools import partial

from benchmarks.fleet.batching import Channel
from benchmarks.fleet.events import Simulation
from benchmarks.fleet.measured import Measured
from benchmarks.fleet.scenario import Scenario
from benchmarks.fleet.servers import Call

from awx_ratelimit.backends.remote.maintenance_thread import ReleaseDelay


class Releases:
    """See the module."""

    def __init__(self, simulation: Simulation, scenario: Scenario, measured: Measured) -> None:
        self._simulation = simulation
        self._hold_s = scenario.hold_s
        self._measured = measured
        self._delay = ReleaseDelay()
        self._watched: set[int] = set()

    def hold(self, channel: Channel, now_s: float) -> None:
        """A request has got its slot, and has it for a while."""
        if self._hold_s is not None:
            channel.held.append(now_s + self._hold_s)
            self._watch(channel)

    def _watch(self, channel: Channel) -> None:
        if channel.held and channel.number not in self._watched:
            self._watched.add(channel.number)
            ended_s = max(self._simulation.now_s, channel.held[0])
            self._simulation.at(ended_s + self._delay.seconds, partial(self._look, channel, ended_s))

    def _look(self, channel: Channel, ended_s: float) -> None:
        """Send what has waited since `ended_s`, unless the next claims may carry it."""
        left_over = bool(channel.held) and channel.held[0] <= ended_s
        if self._delay.goes_on(left_over, bool(channel.in_flight)):
            self._simulation.after(self._delay.seconds, partial(self._look, channel, ended_s))
            return
        self._watched.discard(channel.number)
        if left_over:
            self._measured.releases += self._measured.is_warm(self._simulation.now_s)
            channel.server.submit(Call(_nothing, releases=channel.ended(ended_s)))
        self._watch(channel)


def _nothing() -> None:
    pass
