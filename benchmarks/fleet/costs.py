"""What one claim costs a process and its server, as `calibrate` measures it. All times are seconds of one core."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

#: Kinds of servers, and what each claim charges there besides its subject.
KINDS = (
    "redis", "redis, service budget", "redis cluster", "redis cluster, service budget", "postgres",
    "postgres, service budget",
)  # fmt: skip
SERVICE_KINDS = tuple(kind for kind in KINDS if kind.endswith("service budget"))
PLACE = Path(__file__).parent.parent / "results" / "fleet.json"


@dataclass(frozen=True, slots=True)
class Linear:
    """The time of a step with `n` claims: `fixed_s + each_s * n`."""

    fixed_s: float
    each_s: float

    def __call__(self, n: int) -> float:
        return self.fixed_s + self.each_s * n if n else 0.0

    def times(self, fixed: float, each: float) -> Self:
        """The line whose parts are so many times as long."""
        return type(self)(self.fixed_s * fixed, self.each_s * each)

    @classmethod
    def fit(cls, points: dict[float, float]) -> Self:
        """The line through measured points, by number of claims, with the least relative errors.

        Neither part is negative.
        """
        weights = {n: 1 / taken**2 for n, taken in points.items()}
        total = sum(weights.values())
        mean_n = sum(n * weight for n, weight in weights.items()) / total
        mean = sum(points[n] * weight for n, weight in weights.items()) / total
        spread = sum(weight * (n - mean_n) ** 2 for n, weight in weights.items())
        each = sum(weight * (n - mean_n) * (points[n] - mean) for n, weight in weights.items()) / spread
        each = min(max(each, 0.0), mean / mean_n)
        return cls(mean - each * mean_n, each)


@dataclass(frozen=True, slots=True)
class ClientCosts:
    """The steps of a process.

    `enter`: a claim until it queues. `send`: a batch. `read`: the replies of a batch, until its claims may go on.
    `leave`: the rest of a claim, and its release. `task_s`: a task for a request.
    """

    enter: Linear
    send: Linear
    read: Linear
    leave: Linear
    task_s: float

    def with_total(self, total: Linear) -> Self:
        """The same steps in the same proportions, which take `total` together."""
        steps = (self.enter, self.send, self.read, self.leave)
        fixed, each = sum(step.fixed_s for step in steps), sum(step.each_s for step in steps)
        enter, send, read, leave = (step.times(total.fixed_s / fixed, total.each_s / each) for step in steps)
        return type(self)(enter, send, read, leave, self.task_s)


@dataclass(frozen=True, slots=True)
class ServerCosts:
    """A call with `n` claims, each with the release of an earlier lease, and a call with `n` releases alone.

    `record_s`: each subject of a call besides its claims. `heal_s`: to add what an outage has left of a record.
    `connect_s`: a new connection. `lock_s`: each claim of a call that has waited for a row, because others may have
    changed the rows meanwhile.
    """

    call: Linear
    release: Linear
    heal_s: float
    connect_s: float
    record_s: float = 0.0
    lock_s: float = 0.0
    #: A claim of the budget of a service alone, on a cluster; 0 if there is none.
    part_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Costs:
    """A kind of server with its clients, on one machine.

    `pauses_s` are quantiles of what a call takes besides processor time, and `spread` of how many times longer than
    usual a step takes.
    """

    client: ClientCosts
    server: ServerCosts
    pauses_s: Sequence[float] = (0.0,)
    spread: Sequence[float] = (1.0,)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        client, server = ClientCosts(**_parts(values["client"])), ServerCosts(**_parts(values["server"]))
        return cls(client, server, values["pauses_s"], values["spread"])


def _parts(values: dict[str, Any]) -> dict[str, Any]:
    return {name: Linear(**each) if isinstance(each, dict) else each for name, each in values.items()}


def load(place: Path = PLACE) -> dict[str, Costs]:
    """The measured costs by the kind of server."""
    return {kind: Costs.from_json(each) for kind, each in json.loads(place.read_text())["costs"].items()}


def keep(section: str, values: Any, place: Path = PLACE) -> None:
    """Replace one section of the results."""
    known = json.loads(place.read_text()) if place.exists() else {}
    if section == "costs":
        values = {kind: asdict(each) for kind, each in values.items()}
    place.write_text(json.dumps({**known, section: values}, indent=1) + "\n")
