"""What to simulate."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from benchmarks.fleet.speed import Course

from awx_ratelimit.core.rate import Rate


@dataclass(frozen=True, slots=True)
class Population:
    """Subjects 0, 1, ... of which number k claims as often as ``(k + 1) ** -exponent``.

    A `hot_share` of all claims is of subject 0 besides.
    """

    subjects: int
    exponent: float = 1.0
    hot_share: float = 0.0

    def drawer(self, chance: random.Random) -> Callable[[], int]:
        """A function that returns the subject of the next claim.

        It inverts the distribution of a continuous variable, whose parts have the shares of the ranks within a few
        percent.
        """
        draw, subjects, hot = chance.random, self.subjects, self.hot_share
        power = 1 - self.exponent
        if abs(power) < 1e-6:

            def ranked() -> int:
                return int((subjects + 1) ** draw()) - 1
        else:
            span = (subjects + 1) ** power - 1

            def ranked() -> int:
                return int((1 + draw() * span) ** (1 / power)) - 1

        return (lambda: 0 if draw() < hot else ranked()) if hot else ranked


@dataclass(frozen=True, slots=True)
class Trouble:
    """A server hangs for a while, or is slower by a factor.

    With `lost_s` its replica takes over afterwards, without what was charged so shortly before.
    """

    begin_s: float
    seconds: float
    slowness: float | None = None
    lost_s: float | None = None
    server: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet, its load and its servers. `kind` names the costs.

    `rate` is the claims per second of the whole fleet, which come at random until `ends_s`. Without it, each process
    has `tasks` that claim again and again. `app_s` is the processor time of a request besides its claim, and `hold_s`
    how long it has its slot. None: the plan has no slots.

    With a `limit` claims are decided, processes are guarded, and a refusal is repeated without a call. Without one, all
    are allowed, and no call has a deadline.

    A budget of the service may be split into `shares`, of which each process claims from one.

    `rtt_s` is the time that a message and its reply spend on the network; None: as measured on one machine. With a
    `machine`, all programs share its cores. `tick_s`: a request waits for the next tick of the
    event loop's timer if the process is idle, as it does if a timer in the process makes the requests.
    """

    processes: int
    population: Population
    kind: str = "redis"
    rate: float = 0.0
    ends_s: float = inf
    tasks: int = 0
    app_s: float = 0.0
    hold_s: float | None = 0.0
    shares: int = 1
    servers: int = 1
    server_cores: int = 1
    limit: Rate | None = None
    workers: int = 1
    budget_s: float = 0.05
    rtt_s: float | None = None
    machine: Sequence[Course] = ()
    tick_s: float = 0.0
    seconds: float = 2.0
    warm_up_s: float = 0.5
    seed: int = 1
    troubles: Sequence[Trouble] = ()
    watched: frozenset[int] = field(default_factory=frozenset)

    @property
    def has_parts(self) -> bool:
        """Whether the budget of a service is on another server of a cluster."""
        return self.kind == "redis cluster, service budget"

    def home(self, subject: int) -> int:
        """The server of a subject. The slots of a cluster are spread over its servers like these numbers."""
        return ((subject + 2) * 2_654_435_761 & 0xFFFFFFFF) * self.servers >> 32 if self.servers > 1 else 0
