"""`Explanation`: what a gate would do with a request, and why. Its text is for people, its fields are for programs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from awx_ratelimit.core import durations
from awx_ratelimit.core.rate import REQUESTS

Outcome = Literal["allowed", "refused", "exempt"]


@dataclass(frozen=True, slots=True)
class ExplainedRule:
    """A rule that matches the request. `methods` is None for every method. `budget` is the name of its budget, or None.

    `exempts` is whether it exempts requests, or some of them.
    """

    path: str
    methods: tuple[str, ...] | None
    budget: str | None
    exempts: bool


@dataclass(frozen=True, slots=True)
class ExplainedCaller:
    """Whose request it is. `plan` is the name of its plan, None if there is no such plan or the caller is exempt.

    `account` is None for a caller that belongs to none.
    """

    subject: str
    plan: str | None
    account: str | None


@dataclass(frozen=True, slots=True)
class ExplainedLimit:
    """A limit, as it stands before the request.

    `limit` is the name with its scope, such as ``account.minute``. `counts` is the measure, and
    ``concurrent-requests`` for slots. `cost` is what the request asks for, in that measure. `capacity` and `remaining`
    are in that measure too. `reset_after_ms` is the time until the limit is full again, 0 for slots.

    `refuses` is whether the limit has no room for the request. `shadow` is whether that is reported and refuses
    nothing. `retry_after_ms` is the wait for room, 0 if there is room or no wait can help.
    """

    limit: str
    counts: str
    capacity: int
    remaining: int
    cost: int
    reset_after_ms: int
    refuses: bool
    shadow: bool
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class ExplainedBudget:
    """The limits that one subject has in one scope. The scope of the caller's own plan is None.

    `charge_on` are the statuses of the response on which the budget is charged; None means all.
    """

    scope: str | None
    subject: str
    plan: str
    charge_on: tuple[int, ...] | None
    limits: tuple[ExplainedLimit, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a gate would do with a request now. Nothing was charged. It never contains an API key.

    `rules` are the rules that match. None: the request costs 1. Several: the path may mean all of them to an app, so
    the highest cost and every budget count. `cost` is by measure, None if it is not known. A request without room would
    wait up to `wait_ms`.

    A refused request has the `status` and the `code` of its response, the `reason` as text, and `retry_after_ms`; None
    if no wait can help, or none is known. `is_fallback`: the backend is unavailable, and its guard has decided.

    `budgets` include the limits of the route that this process has seen for the path. `has_route_limits`: the request
    is exempt, but its route has limits, which are not shown.

    `unknown_keys_wait_ms`: the address has sent too many unknown keys. For so long, a process that has seen them
    refuses every key of that address that it does not have in memory. 0: no wait, or no address is given.
    """

    method: str
    path: str
    outcome: Outcome
    rules: tuple[ExplainedRule, ...] = ()
    caller: ExplainedCaller | None = None
    cost: Mapping[str, int] | None = None
    wait_ms: int = 0
    budgets: tuple[ExplainedBudget, ...] = ()
    status: int | None = None
    code: str | None = None
    reason: str | None = None
    retry_after_ms: int | None = None
    is_fallback: bool = False
    has_route_limits: bool = False
    unknown_keys_wait_ms: int = 0

    @property
    def refusing(self) -> tuple[str, ...]:
        """The names of the enforced limits that refuse the request."""
        limits = (limit for budget in self.budgets for limit in budget.limits)
        return tuple(limit.limit for limit in limits if limit.refuses and not limit.shadow)

    def fields(self) -> dict[str, Any]:
        """The JSON form: dictionaries, lists, strings, numbers, bools and None, by the names of the attributes."""
        return {**asdict(self, dict_factory=_with_lists), "refusing": list(self.refusing)}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _with_lists(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}


def _lines(explained: Explanation) -> Iterator[str]:
    yield f"{explained.method} {explained.path}: {_verdict(explained)}"
    yield f"rule: {'; '.join(map(_rule, explained.rules)) or 'none matches'}"
    if (caller := explained.caller) is not None:
        account = "" if caller.account is None else f", account {caller.account}"
        plan = "" if caller.plan is None else f", plan {caller.plan}"
        yield f"caller: {caller.subject}{plan}{account}"
    if explained.cost is not None:
        waits = f"; waits up to {durations.wait(explained.wait_ms)} for room" if explained.wait_ms else ""
        yield f"cost: {', '.join(_amount(number, measure) for measure, number in explained.cost.items())}{waits}"
    for budget in explained.budgets:
        yield from _budget_lines(budget)
    if explained.is_fallback:
        yield "the backend is unavailable: its guard decides without it"
    if explained.unknown_keys_wait_ms:
        wait = durations.wait(explained.unknown_keys_wait_ms)
        yield f"the address has sent too many unknown keys: for {wait}, a key that is not in memory is refused"


def _verdict(explained: Explanation) -> str:
    if explained.has_route_limits:
        return "exempt, but the route has its own limits, which are not shown"
    if explained.outcome != "refused":
        return explained.outcome
    wait = "" if not explained.retry_after_ms else f"; retry after {durations.wait(explained.retry_after_ms)}"
    return f"refused with {explained.status} {explained.code}: {explained.reason}{wait}"


def _rule(rule: ExplainedRule) -> str:
    methods = "every method" if rule.methods is None else ", ".join(rule.methods)
    budget = "" if rule.budget is None else f", budget {rule.budget}"
    return f"{rule.path} ({methods}{budget}{', exempt' if rule.exempts else ''})"


def _budget_lines(budget: ExplainedBudget) -> Iterator[str]:
    scope = "" if budget.scope is None else f" ({budget.scope})"
    statuses = "" if budget.charge_on is None else f", charged on {', '.join(map(str, budget.charge_on))}"
    yield f"{budget.subject}{scope}: plan {budget.plan}{statuses}"
    for limit in budget.limits:
        left = f"{limit.remaining} of {_amount(limit.capacity, limit.counts)} left"
        full = f", full again in {durations.wait(limit.reset_after_ms)}" if limit.reset_after_ms else ""
        yield f"  {limit.limit}: {left}{full}{_refusal(limit)}"
    if not budget.limits:
        yield "  no limits"


def _refusal(limit: ExplainedLimit) -> str:
    if not limit.refuses:
        return ", in shadow" if limit.shadow else ""
    wait = f", room in {durations.wait(limit.retry_after_ms)}" if limit.retry_after_ms else ""
    return f"; {'would refuse, in shadow' if limit.shadow else 'refuses'}{wait}"


def _amount(number: int, measure: str) -> str:
    if measure == REQUESTS:
        return f"{number} request{'' if number == 1 else 's'}"
    return f"{number} {measure.replace('concurrent-requests', 'slots')}"
