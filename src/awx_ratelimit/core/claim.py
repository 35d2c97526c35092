"""`Caller`: whose limits a request uses. `Claim`: a request for tokens and a slot, with the checks of all backends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import EXACT_MAX
from awx_ratelimit.core.validation import check_whole_number, describe, short_repr


@dataclass(frozen=True, slots=True)
class Claim:
    """`subject` asks for `cost` tokens of every rate of `plan`, and for one slot.

    `cost` is a number of requests, or tokens by measure. A cost of 0 asks for the slot only. Raises TypeError for a
    subject that is not a non-empty string and for a plan that is not a Plan. Raises InvalidLimit for a cost that is not
    an integer of at least 0, nor a mapping of them.
    """

    subject: str
    plan: Plan
    cost: int | Mapping[str, int] = 1

    def __post_init__(self) -> None:
        check_claim(self.subject, self.plan)
        for cost in self.cost.values() if isinstance(self.cost, Mapping) else (self.cost,):
            check_whole_number(cost, "cost", minimum=0)


def check_claim(subject: object, plan: object) -> None:
    """Raise TypeError unless `subject` is a non-empty string and `plan` a Plan."""
    check_subject(subject)
    check_plan(plan)


def check_subject(subject: object, name: str = "subject") -> None:
    """Raise TypeError unless `subject` is a non-empty string. `name` is the name of the argument."""
    if isinstance(subject, str) and subject:
        return
    remedy = "acquire(subject, plan)" if isinstance(subject, Plan) else 'f"user_{user.id}"'
    # `describe` does not show bytes: they may be an API key.
    raise TypeError(f"{name}: expected a non-empty string, got {describe(subject)}; write {remedy}")


def check_plan(plan: object) -> None:
    """Raise TypeError unless `plan` is a Plan."""
    if not isinstance(plan, Plan):
        by_name = f"table.resolve(Caller(subject, {short_repr(plan)}))"
        remedy = by_name if isinstance(plan, str) else 'Plan.of("api", per_minute=60)'
        raise TypeError(f"plan: expected a Plan, got {describe(plan)}; write {remedy}")


def checked_claim(subject: Any, plan: Any, cost: Any) -> tuple[str, Plan, int]:
    """The claim, with its subject as an exact `str`. Backends call it before they store, count or send anything.

    `cost` is an int from 0 (a slot and no tokens) to 2**53. Of a subclass of `str` only the text counts: its own
    ``__eq__``, ``__hash__`` and ``encode`` are never called. Raises TypeError for a wrong type and ValueError for a
    wrong cost.
    """
    if type(subject) is not str or not subject:
        subject = checked_subject(subject)
    if not isinstance(plan, Plan):
        check_plan(plan)
    if type(cost) is not int or not 0 <= cost <= EXACT_MAX:
        raise ValueError(f"cost: expected an int from 0 to 2**53, got {describe(cost)}")
    return subject, plan, cost


def checked_subject(subject: Any) -> str:
    """`subject` as an exact `str`. Raises TypeError unless it is a non-empty string."""
    if not isinstance(subject, str):
        check_subject(subject)
    text = str.__str__(subject)
    if not text:
        check_subject(text)
    return text


@dataclass(frozen=True, slots=True)
class Caller:
    """Identifies the limits that a request uses.

    `subject` is any stable string, and never an API key. `plan` is a Plan or the name of one in the table; None is the
    table's default. `account` is a second name by which the table's overrides can select this caller. `overrides` are
    limits for this caller only, in the format of an override in a plan table. With `exempt` the caller is not limited.

    Raises TypeError for a field of another type, and for an empty subject or account. The table checks the overrides
    when it resolves the caller.
    """

    subject: str
    plan: str | Plan | None = None
    account: str | None = None
    overrides: Mapping[str, Any] | None = None
    exempt: bool = False

    def __post_init__(self) -> None:
        if self.subject.__class__ is not str or not self.subject:
            check_subject(self.subject)
        plan = self.plan
        if plan is not None and not isinstance(plan, str | Plan):
            raise TypeError(f"plan: expected a Plan, the name of one, or None for the default, got {describe(plan)}")
        if self.account is not None:
            check_subject(self.account, "account")
        if self.exempt.__class__ is not bool:
            raise TypeError(f"exempt: expected True or False, got {describe(self.exempt)}")
