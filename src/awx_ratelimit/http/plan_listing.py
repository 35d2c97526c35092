"""`PlanListing`: all limits of a plan table or a gate, as the commands of operators print them."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Self

from awx_ratelimit.core import plan_words
from awx_ratelimit.core.budget import ACCOUNT_SCOPE, SERVICE_SCOPE, scoped_name
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.http.explaining import GateParts
from awx_ratelimit.http.known_callers import known_plans
from awx_ratelimit.http.rules.rule import Rule

COLUMNS: Final = ("plan", "limit", "allows")
#: The headings of limits that are no plan's: those that all callers share, and those of requests without a key.
_EVERYBODY: Final = "(everybody)"
_ANONYMOUS: Final = "(anonymous)"


class PlanListing(NamedTuple):
    """The `plans`, the plan that everybody shares, and what only a gate has. `is_of_gate`: whether there is one."""

    plans: Sequence[Plan]
    service: Plan | None
    is_of_gate: bool = False
    anonymous: Plan | None = None
    #: The first rule with each budget, by its name.
    budgets: Sequence[Rule] = ()

    @classmethod
    def of(cls, table: PlanTable, parts: GateParts | None = None) -> Self:
        """The limits of `table`, and of the gate with `parts`."""
        if parts is None:
            return cls(table.plans, table.service)
        in_code = [plan for plan in known_plans(parts).values() if plan not in (parts.anonymous, *table.plans)]
        budgets = {rule.budget: rule for rule in reversed(parts.rules) if rule.budget is not None}
        service = parts.service or table.service
        return cls([*table.plans, *in_code], service, True, parts.anonymous, tuple(reversed(budgets.values())))

    def rows(self) -> list[tuple[str, str, str]]:
        """A row for each limit, in `COLUMNS`."""
        return [
            (name, scoped_name(scope, limit), allows)
            for name, scope, plan in self._scoped()
            for limit, allows in plan_words.limits(plan)
        ]

    def lines(self) -> Iterator[str]:
        """`COLUMNS` and the rows as aligned text."""
        rows = [COLUMNS, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    def fields(self) -> dict[str, Any]:
        """The listing in JSON."""
        of_table = {"plans": [plan_words.plan_fields(plan) for plan in self.plans], "service": _fields(self.service)}
        if not self.is_of_gate:
            return of_table
        budgets = [{"budget": rule.budget, "path": rule.path, "plan": _fields(rule.plan)} for rule in self.budgets]
        return {**of_table, "anonymous": _fields(self.anonymous), "budgets": budgets}

    def _scoped(self) -> Iterator[tuple[str, str | None, Plan]]:
        named = [*((plan.name, plan) for plan in self.plans)]
        if self.anonymous is not None:
            named.append((_ANONYMOUS, self.anonymous))
        yield from ((name, None, plan) for name, plan in named)
        yield from ((name, ACCOUNT_SCOPE, plan.account) for name, plan in named if plan.account is not None)
        if self.service is not None:
            yield _EVERYBODY, SERVICE_SCOPE, self.service
        yield from ((f"(rule {rule.path})", rule.budget, rule.plan) for rule in self.budgets if rule.plan is not None)


def _fields(plan: Plan | None) -> dict[str, Any] | None:
    return None if plan is None else plan_words.plan_fields(plan)
