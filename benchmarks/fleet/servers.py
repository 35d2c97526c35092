"""Servers that decide calls of claims: Redis, which has one thread, and PostgreSQL, which locks rows."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from benchmarks.fleet.cores import SharedCores
from benchmarks.fleet.costs import ServerCosts
from benchmarks.fleet.events import Cores, Simulation
from benchmarks.fleet.subjects import Buckets

#: The record of a budget that all claims share. Its other shares have smaller numbers.
SERVICE = -1
#: The subjects that claim most often. Calls hardly ever meet at the rows of others.
LOCKED = 1_000


@dataclass(slots=True)
class Claim:
    """A claim of a process, and its answer. `is_done`: its caller goes on.

    On a cluster, the budget of the service is a second part, which is sent after the first.
    """

    begun_s: float
    subject: int
    server: int
    ticket: int = 0
    failures: int = 0
    is_done: bool = False
    is_part: bool = False
    wait_ms: int = 0


@dataclass(slots=True)
class Call:
    """What one call carries. `replied` is called when its reply has arrived at the process."""

    replied: Callable[[], Any]
    claims: Sequence[Claim] = ()
    releases: int = 0
    owed: Sequence[tuple[int, int]] = ()
    connects: bool = False
    service: int = SERVICE
    #: The time of each of its two messages.
    message_s: float = 0.0
    #: The rows to lock that other calls may lock too. The last one is the next.
    rows: list[int] = field(default_factory=list)


class Server:
    """What both kinds share. Claims are decided if there are buckets; otherwise all are allowed.

    `message_s` returns how long the next message travels, and its reply as well.
    """

    def __init__(
        self,
        simulation: Simulation,
        costs: ServerCosts,
        message_s: Callable[[], float],
        buckets: Buckets | None = None,
    ) -> None:
        self._simulation = simulation
        self._costs = costs
        self._message_s = message_s
        self.buckets = buckets
        self.calls = 0
        self.used_s = 0.0
        self.slowness = 1.0
        self._is_stopped = False
        self._held: list[Callable[[], Any]] = []

    def submit(self, call: Call) -> None:
        """A process sends a call now."""
        call.message_s = self._message_s()
        self._simulation.after(call.message_s, partial(self._arrive, call))

    def _arrive(self, call: Call) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """It receives calls, and does nothing, until `resume`."""
        self._is_stopped = True

    def resume(self) -> None:
        """It goes on where it has stopped."""
        self._is_stopped = False
        held, self._held = self._held, []
        for act in held:
            act()

    def take_over(self, states: dict[int, tuple[int, int]]) -> None:
        """A replica with these states takes its place. It knows nothing of the calls that were not answered."""
        self._is_stopped = False
        self._held.clear()
        self._forget_calls()
        if self.buckets is not None:
            self.buckets.states = states

    def _forget_calls(self) -> None:
        raise NotImplementedError

    def _run(self, program: Cores, work_s: float, then: Callable[[], Any]) -> None:
        work_s *= self.slowness
        self.used_s += work_s
        program.run(work_s, partial(self._unless_stopped, then))

    def _unless_stopped(self, act: Callable[[], Any]) -> None:
        if self._is_stopped:
            self._held.append(act)
        else:
            act()

    def _work_s(self, call: Call) -> float:
        costs = self._costs
        if call.connects:
            return costs.connect_s
        if call.owed:
            return costs.call.fixed_s + costs.heal_s * len(call.owed)
        if not call.claims:
            return costs.release(call.releases)
        parts = sum(claim.is_part for claim in call.claims) if costs.part_s else 0
        records_s = costs.record_s * len({claim.subject for claim in call.claims if not claim.is_part})
        return costs.call(len(call.claims)) + parts * (costs.part_s - costs.call.each_s) + records_s

    def _answer(self, call: Call) -> None:
        """Decide a call, and send the reply."""
        self.calls += 1
        if self.buckets is not None:
            now_s = self._simulation.now_s
            if call.owed:
                self.buckets.add(call.owed, now_s)
            for claim in call.claims:
                if not claim.is_part:
                    claim.wait_ms = self.buckets.charge(claim.subject, now_s)
        self._simulation.after(call.message_s, call.replied)


class Redis(Server):
    """One thread. In a turn it runs the calls that have arrived, at most `turn_calls`, and then sends the replies."""

    def __init__(self, program: Cores, *given: Any, turn_calls: float = inf) -> None:
        super().__init__(*given)
        self._program = program
        self._turn_calls = turn_calls
        self._waiting: deque[Call] = deque()
        self._is_busy = False

    def _arrive(self, call: Call) -> None:
        self._waiting.append(call)
        if not self._is_busy:
            self._is_busy = True
            self._unless_stopped(self._turn)

    def _forget_calls(self) -> None:
        self._waiting.clear()
        self._is_busy = False

    def _turn(self) -> None:
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            calls = [self._waiting.popleft() for _ in range(int(min(self._turn_calls, len(self._waiting))))]
            self._run(self._program, sum(map(self._work_s, calls)), partial(self._end, calls))

    def _end(self, calls: list[Call]) -> None:
        for call in calls:
            self._answer(call)
        self._turn()


class Postgres(Server):
    """A process for each connection. A call locks its rows, in one order, before it decides, until it has committed.

    With a `service`, the row of that budget is locked first.
    """

    def __init__(
        self, cores: SharedCores, wakes_s: Callable[[], float], *given: Any, has_service: bool = False
    ) -> None:
        super().__init__(*given)
        self._cores = cores
        #: How long it takes until the next program runs that has waited for a row.
        self._wakes_s = wakes_s
        self._has_service = has_service
        #: The calls that wait for each locked row.
        self._locks: dict[int, deque[Callable[[], Any]]] = {}

    def _arrive(self, call: Call) -> None:
        program = self._cores.program()
        if not call.claims:
            self._run(program, self._work_s(call), partial(self._answer, call))
            return
        # The order of the rows has nothing to do with how often their subjects claim.
        call.rows = sorted({each.subject for each in call.claims if each.subject < LOCKED}, key=_order)
        if self._has_service:
            call.rows.append(call.service)
        # A part of the call is before it locks its rows, and a part is its commit.
        self._run(program, self._costs.call.fixed_s / 2, partial(self._lock, program, call, []))

    def _forget_calls(self) -> None:
        self._locks.clear()

    def _lock(self, program: Cores, call: Call, locked: list[int]) -> None:
        """Lock all rows, one after another, and then decide all claims."""
        while call.rows:
            row = call.rows.pop()
            locked.append(row)
            if row in self._locks:
                self._locks[row].append(partial(self._wake_up, program, call, locked))
                return
            self._locks[row] = deque()
        work_s = self._work_s(call) - self._costs.call.fixed_s / 2
        self._run(program, work_s, partial(self._commit, call, locked))

    def _wake_up(self, program: Cores, call: Call, locked: list[int]) -> None:
        """Go on after a wait, and look at the rows of all claims again."""
        work_s = self._costs.lock_s * len(call.claims)
        again = partial(self._run, program, work_s, partial(self._lock, program, call, locked))
        self._simulation.after(self._wakes_s(), again)

    def _commit(self, call: Call, locked: list[int]) -> None:
        for row in locked:
            if self._locks[row]:
                self._locks[row].popleft()()
            else:
                del self._locks[row]
        self._answer(call)


def _order(subject: int) -> int:
    return subject * 2_654_435_761 & 0xFFFFFFFF
