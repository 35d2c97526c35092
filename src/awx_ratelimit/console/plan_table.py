"""The table of plans: a row for each key's limits, and one for the limits that all keys of an account share. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from awx_ratelimit.console import formatting, limit_words
from awx_ratelimit.core.plan import PERIODS_MS, Plan
from awx_ratelimit.core.rate import REQUESTS, Rate

_COLUMNS: Final = ("minute", "day", "week", "month")
#: The table always has these columns, and the others if a plan needs them.
_ALWAYS: Final = ("minute", "day")


class PlanCell(NamedTuple):
    """One number of the table, and when it resets."""

    text: str
    note: str


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A row of the table. `is_own` marks the plan of the account; `is_shared` the limits that all its keys share."""

    name: str
    cells: tuple[PlanCell, ...]
    other: str
    is_own: bool
    is_shared: bool


@dataclass(frozen=True, slots=True)
class PlanTableView:
    """The headings of the columns of numbers, and the rows."""

    columns: tuple[str, ...]
    rows: tuple[PlanRow, ...]

    @property
    def has_shared(self) -> bool:
        """Whether a plan has limits that all keys of an account share."""
        return any(row.is_shared for row in self.rows)


def plan_table(plans: Sequence[Plan], own: Plan | None) -> PlanTableView:
    """Describe `plans`. `own` is the plan of the account, with its overrides applied."""
    needed = {_column(rate) for plan in plans for each in _with_account(plan) for rate in each.rates}
    columns = tuple(column for column in _COLUMNS if column in _ALWAYS or column in needed)
    rows = [
        _row(plan.name, each, columns, is_own=own is not None and plan.name == own.name, is_shared=each is not plan)
        for plan in plans
        for each in _with_account(plan)
    ]
    headings = (*(f"Requests per {column}" for column in columns), "Requests in flight")
    return PlanTableView(headings, tuple(rows))


def _with_account(plan: Plan) -> Sequence[Plan]:
    return (plan,) if plan.account is None else (plan, plan.account)


def _column(rate: Rate) -> str | None:
    """The column of a rate; None if it has none."""
    if rate.measure != REQUESTS:
        return None
    if rate.period is not None:
        return rate.period if rate.period in _COLUMNS else None
    return next((unit for unit in _ALWAYS if PERIODS_MS[unit] == rate.period_ms), None)


def _row(name: str, plan: Plan, columns: Sequence[str], *, is_own: bool, is_shared: bool) -> PlanRow:
    by_column: dict[str, Rate] = {}
    other = []
    for rate in plan.rates:
        column = _column(rate)
        if column is None or column in by_column:
            other.append(limit_words.allowance(rate))
        else:
            by_column[column] = rate
    # An account without a shared limit is limited by those of its keys.
    nothing = PlanCell("no limit" if is_shared else "unlimited", "")
    cells = [_cell(by_column[column]) if column in by_column else nothing for column in columns]
    slots = PlanCell(formatting.number(plan.concurrency.slots), "") if plan.concurrency else nothing
    return PlanRow(name, (*cells, slots), ", ".join(other), is_own, is_shared)


def _cell(rate: Rate) -> PlanCell:
    return PlanCell(limit_words.amount_of(rate), limit_words.reset_rule(rate))
