"""`SubjectCounts`: the counts of one subject in one hour, exact with any number of threads."""

from collections.abc import Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.joint_claim import Cost
from awx_ratelimit.core.rate import REQUESTS, is_name

_MAX_MEASURES: Final = 16
_MAX_LIMITS: Final = 64
#: For each cost of claims of several budgets there may be one.
_MAX_CACHED: Final = 256
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class HourUsage(NamedTuple):
    """What `subject` used in the hour from `begins_ms`. Numbers are less than 0 if a correction takes back more.

    `costs` is the cost of the allowed requests by measure, `refusals` the number of refusals by limit, and `peak` the
    highest number of slots in use. `shadows` is the number of allowed requests by each shadow limit that would have
    refused them.
    """

    subject: str
    begins_ms: int
    allowed: int
    refused: int
    peak: int
    last_at_ms: int
    costs: Mapping[str, int]
    refusals: Mapping[str, int]
    shadows: Mapping[str, int] = _NONE


class Settled(NamedTuple):
    """The cost of `decision` turned out to be `cost`."""

    decision: Decision
    cost: Cost


class Overruled(NamedTuple):
    """The request of `decision` was refused all the same, by another decision."""

    decision: Decision
    by: Decision


class SubjectCounts:
    """The counts of one subject in one hour. `add_one` counts the allowed requests that cost 1, `others` the rest."""

    __slots__ = ("_read", "add_one", "costs", "last_at_ms", "others", "peak", "refusals", "refused", "shadows")

    def __init__(self) -> None:
        self.add_one = count().__next__
        self._read = 0
        self.others = self.refused = self.peak = self.last_at_ms = 0
        self.costs: dict[str, int] = {}
        self.refusals: dict[str, int] = {}
        #: Few subjects have any, so that most need no dict.
        self.shadows: dict[str, int] | None = None

    def unread(self) -> int:
        """How often `add_one` was called since this was called last."""
        number = self.add_one()
        unread = number - self._read
        self._read = number + 1
        return unread

    def usage(self, subject: str, begins_ms: int) -> HourUsage:
        """The counts as a value. It resets none but the counter."""
        costs, plain = dict(self.costs), self.unread()
        if plain:
            costs[REQUESTS] = costs.get(REQUESTS, 0) + plain
        return HourUsage(
            subject,
            begins_ms,
            plain + self.others,
            self.refused,
            self.peak,
            self.last_at_ms,
            {measure: amount for measure, amount in costs.items() if amount},
            dict(self.refusals),
            {limit: amount for limit, amount in self.shadows.items() if amount} if self.shadows else _NONE,
        )

    def late(self) -> "SubjectCounts | None":
        """What a thread has counted since the last call of `usage`; None for nothing."""
        number = self.unread()
        if not number:
            return None
        late = SubjectCounts()
        late.others, late.peak, late.last_at_ms = number, self.peak, self.last_at_ms
        late.costs[REQUESTS] = number
        return late

    def add_costs(self, costs: Mapping[str, int]) -> None:
        """Add amounts by measure."""
        _add(self.costs, costs, _MAX_MEASURES)

    def add_refusal(self, limits: tuple[str, ...]) -> None:
        """Count a request that `limits` refused."""
        self.refused += 1
        _add(self.refusals, dict.fromkeys(limits, 1), _MAX_LIMITS)

    def add_shadows(self, limits: tuple[str, ...], number: int) -> None:
        """Count `number` requests that `limits` in shadow would have refused."""
        if limits:
            self.shadows = {} if self.shadows is None else self.shadows
            _add(self.shadows, dict.fromkeys(limits, number), _MAX_LIMITS)


class ExceededLimits:
    """Remembers the names of limits that are exceeded, because it takes long to find them."""

    def __init__(self) -> None:
        #: By the ids of a plan or a shape and the exceeded limits. An entry keeps its owner, and so its id.
        self._names: dict[Any, tuple[tuple[str, ...], tuple[str, ...], Any]] = {}

    def count(self, decision: Decision, counts: SubjectCounts) -> bool:
        """Count the limits that refused `decision`, or that would have in shadow. Return whether it was refused."""
        if decision.allowed:
            counts.add_shadows(self._names_of(decision)[1], 1)
            return False
        counts.add_refusal(self._names_of(decision)[0])
        return True

    def count_overruled(self, decision: Decision, by: Decision, counts: SubjectCounts) -> None:
        """Count the limits that refused the request of `decision` after all. Shadow limits do not matter now."""
        counts.add_refusal(self._names_of(by)[0])
        if decision.has_exceeded:
            counts.add_shadows(self._names_of(decision)[1], -1)

    def _names_of(self, decision: Decision) -> tuple[tuple[str, ...], tuple[str, ...], Any]:
        """The limits that refuse, those in shadow that would, and what the names belong to."""
        owner: Any = decision.plan
        exceeded: Any = decision.exceeded
        if isinstance(decision, JointDecision):
            owner = decision.joint_claim.shape
            exceeded = tuple([state[0] for state in decision.states])
        known = self._names.get((id(owner), exceeded))
        if known is None:
            if len(self._names) >= _MAX_CACHED:
                self._names.clear()
            usages = [usage for usage in decision.usages if usage.refused]
            refusing, shadow = (tuple([usage.limit for usage in usages if usage.shadow is is_shadow])
                                for is_shadow in (False, True))  # fmt: skip
            known = self._names[id(owner), exceeded] = refusing, shadow, owner
        return known


def _add(amounts: dict[str, int], more: Mapping[str, int], max_names: int) -> None:
    """Add to `amounts`. A measure is a name, so that nothing else can get into the history."""
    for name, amount in more.items():
        if name in amounts:
            amounts[name] += amount
        elif amount and name.__class__ is str and len(amounts) < max_names and _is_stored(name):
            amounts[name] = amount


def _is_stored(name: str) -> bool:
    scope, dot, limit = name.rpartition(".")
    return bool(is_name(limit)) and (not dot or bool(is_name(scope)))
