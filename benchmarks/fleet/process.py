"""A process: an event loop whose requests claim, in turns as asyncio runs them.

In a turn, the tasks go on whose claims were answered, and new requests begin. Then batches are sent and replies read.
"""

import random
from collections import deque
from collections.abc import Sequence
from functools import partial
from math import ceil, inf

from benchmarks.fleet.batching import Channel
from benchmarks.fleet.costs import ClientCosts
from benchmarks.fleet.events import Act, Cores, Simulation
from benchmarks.fleet.guard import Guard
from benchmarks.fleet.measured import Measured
from benchmarks.fleet.releases import Releases
from benchmarks.fleet.scenario import Scenario
from benchmarks.fleet.servers import SERVICE, Call, Claim, Server


class Process:
    """One process of a fleet."""

    def __init__(
        self,
        simulation: Simulation,
        cores: Cores,
        costs: ClientCosts,
        scenario: Scenario,
        servers: Sequence[Server],
        measured: Measured,
        chance: random.Random,
        number: int,
    ) -> None:
        self._simulation = simulation
        self._cores = cores
        self._costs = costs
        self._scenario = scenario
        self._measured = measured
        self._chance = chance
        self._draw = scenario.population.drawer(chance)
        #: The record of its share of the budget of the service.
        self._service = SERVICE - number % scenario.shares
        self._channels = [Channel(server, each, self._service, self._on_reply) for each, server in enumerate(servers)]
        self._releases = Releases(simulation, scenario, measured)
        limit = scenario.limit
        self._guard = (
            Guard(limit, scenario.workers, scenario.budget_s, len(servers), chance, measured) if limit else None
        )
        self._is_running = False
        #: When the step began that runs.
        self._step_s = 0.0
        self._looks_at_s = inf
        self._leaving: list[Claim] = []
        self._to_send: list[Channel] = []
        self._replied: list[Channel] = []
        self._healing: set[int] = set()
        #: The deadlines of calls, their channels and their claims, in the order in which they were sent.
        self._calls: deque[tuple[float, Channel, list[Claim]]] = deque()
        #: The tasks that claim in the next turn, besides requests that come.
        self._ready = scenario.tasks
        self._a_second = scenario.rate / scenario.processes
        self._next_s = self._gap_s()

    def begin(self) -> None:
        """The first requests come."""
        self._end()

    def _gap_s(self) -> float:
        return self._chance.expovariate(self._a_second) if self._a_second else inf

    def _on_reply(self, channel: Channel) -> None:
        self._replied.append(channel)
        if not self._is_running:
            self._turn()

    def _turn(self) -> None:
        self._is_running = True
        leaving, self._leaving = self._leaving, []
        to_send, self._to_send = self._to_send, []
        replied, self._replied = self._replied, []
        again, self._ready = self._ready + (len(leaving) if self._scenario.tasks else 0), 0
        self._give_up_late(replied)
        steps: list[tuple[float, Act]] = []
        if leaving or again:
            work_s = self._costs.leave(len(leaving)) + self._costs.enter(again)
            steps.append((work_s, partial(self._go_on, leaving, again)))
        if begun := self._due():
            work_s = self._costs.enter(begun) + (self._costs.task_s + self._scenario.app_s) * begun
            steps.append((work_s, partial(self._enter, begun)))
        for channel in to_send:
            steps += self._sending(channel, channel.first_size())
        for channel in replied:
            steps += self._reading(channel)
        self._run(steps, 0)

    def _run(self, steps: list[tuple[float, Act]], index: int) -> None:
        if index == len(steps):
            self._end()
            return
        work_s, act = steps[index]
        self._step_s = self._simulation.now_s
        self._cores.run(work_s, partial(self._after, act, steps, index + 1))

    def _after(self, act: Act, steps: list[tuple[float, Act]], index: int) -> None:
        act()
        self._run(steps, index)

    def _end(self) -> None:
        """The next turn now if there is anything to do, or later."""
        now_s = self._simulation.now_s
        if self._leaving or self._to_send or self._replied or self._ready or self._wakes_at_s() <= now_s:
            self._turn()
        else:
            self._is_running = False
            self._sleep()

    def _wakes_at_s(self) -> float:
        """The time of the next request or deadline."""
        if self._guard is None:
            return self._next_s
        return min(self._next_s, self._guard.deadline_s(), self._call_deadline_s())

    def _sleep(self) -> None:
        now_s, wakes_at_s, tick_s = self._simulation.now_s, self._wakes_at_s(), self._scenario.tick_s
        if wakes_at_s == inf or now_s < self._looks_at_s <= wakes_at_s:
            return
        if tick_s:
            wakes_at_s = now_s + ceil((wakes_at_s - now_s) / tick_s) * tick_s
        self._looks_at_s = wakes_at_s
        self._simulation.at(wakes_at_s, partial(self._look, wakes_at_s))

    def _look(self, at_s: float) -> None:
        if at_s == self._looks_at_s:
            self._looks_at_s = inf
            if not self._is_running:
                self._end()

    def _due(self) -> int:
        """How many requests have come."""
        begun, now_s = 0, self._simulation.now_s
        while self._next_s <= now_s:
            self._next_s += self._gap_s()
            begun += 1
        if self._next_s > self._scenario.ends_s:
            self._next_s = inf
        return begun

    def _go_on(self, leaving: list[Claim], again: int) -> None:
        """The callers of these claims have gone on, and so many claim again, each before the next goes on."""
        self._leave(leaving)
        self._enter(again)

    def _enter(self, number: int) -> None:
        """So many claims have begun in this step, one after another."""
        now_s, since_s, scenario = self._simulation.now_s, self._step_s, self._scenario
        self._measured.begun += number
        for index in range(number):
            subject = self._draw()
            begun_s = since_s + (now_s - since_s) * index / number
            claim = Claim(begun_s, subject, scenario.home(subject))
            if self._guard is None or self._guard.permits(claim, now_s):
                self._add(self._channels[claim.server], claim)
            else:
                self._resolve(claim)

    def _add(self, channel: Channel, claim: Claim) -> None:
        size = channel.add(claim)
        if size is None:
            self._to_send.append(channel)
        elif size:
            batch = channel.take(size)
            self._cores.run(self._costs.send(1), partial(self._send, channel, batch))

    def _resolve(self, claim: Claim) -> None:
        claim.is_done = True
        self._leaving.append(claim)

    def _leave(self, leaving: list[Claim]) -> None:
        """The callers of these claims have gone on in this step, one after another."""
        now_s, since_s = self._simulation.now_s, self._step_s
        for index, claim in enumerate(leaving):
            self._measured.note(claim.begun_s, since_s + (now_s - since_s) * index / len(leaving))
            if claim.wait_ms:
                self._measured.refused += self._measured.is_warm(now_s)
            else:
                self._releases.hold(self._channels[claim.server], now_s)

    def _sending(self, channel: Channel, size: int) -> list[tuple[float, Act]]:
        batch = channel.take(size)
        return [(self._costs.send(len(batch)), partial(self._send, channel, batch))] if batch else []

    def _send(self, channel: Channel, batch: list[Claim]) -> None:
        now_s = self._simulation.now_s
        self._measured.calls += self._measured.is_warm(now_s)
        channel.send(batch, now_s)
        if self._guard:
            self._calls.append((now_s + self._scenario.budget_s, channel, batch))

    def _reading(self, channel: Channel) -> list[tuple[float, Act]]:
        """The next batch goes first, so that the server works while the replies are read."""
        batch = channel.take_reply()
        size = channel.next_size(len(batch))
        next_batch = self._sending(channel, size) if channel.waiting else []
        return [*next_batch, (self._costs.read(len(batch)), partial(self._answered, channel, batch))]

    def _answered(self, channel: Channel, batch: list[Claim]) -> None:
        claims = [claim for claim in batch if not claim.is_done]
        if self._guard and self._guard.answered(claims, self._simulation.now_s) and channel.number not in self._healing:
            self._healing.add(channel.number)
            self._heal(channel)
        for claim in claims:
            if self._scenario.has_parts and not claim.is_part and not claim.wait_ms:
                claim.is_part = True
                self._add(self._channels[self._scenario.home(self._service)], claim)
            else:
                self._resolve(claim)

    def _heal(self, channel: Channel) -> None:
        """Add local decisions to the server, one call after another, in a thread of the process."""
        assert self._guard is not None
        owed = self._guard.owed(channel.number, self._simulation.now_s)
        if owed:
            self._measured.heals += 1
            channel.server.submit(Call(partial(self._heal, channel), owed=owed))
        else:
            self._healing.discard(channel.number)

    def _call_deadline_s(self) -> float:
        """The deadline of the oldest call in flight."""
        calls = self._calls
        while calls and calls[0][1].in_flight is not calls[0][2]:
            calls.popleft()
        return calls[0][0] if calls else inf

    def _give_up_late(self, replied: list[Channel]) -> None:
        """Decide the claims whose time is over, and those of calls whose time is over. What has arrived counts."""
        if self._guard is None:
            return
        now_s = self._simulation.now_s
        answered = {id(claim) for channel in replied for claim in channel.in_flight}
        late = [claim for claim in self._guard.late(now_s) if id(claim) not in answered]
        while self._call_deadline_s() <= now_s:
            _, channel, _ = self._calls.popleft()
            late += [] if channel in replied else channel.give_up()
        for claim in late:
            if not claim.is_done:
                self._guard.fail(claim, now_s)
                self._resolve(claim)
