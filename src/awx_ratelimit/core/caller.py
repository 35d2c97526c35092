"""`Caller`: the subject, plan and account of a request. Identifiers return it and plan tables read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from awx_ratelimit.core.claim import check_subject
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import describe


@dataclass(frozen=True, slots=True)
class Caller:
    """Identifies the limits that a request uses.

    `subject` is any stable text, and never an API key. `plan` is a Plan or the name of one in the table; None is the
    table's default. `account` is a second name by which the table's overrides can select this caller. `overrides` are
    limits for this caller only, in the format of an override in a plan table.

    Raises TypeError for a field of another type, and for an empty subject or account. The table checks the overrides
    when it resolves the caller.
    """

    subject: str
    plan: str | Plan | None = None
    account: str | None = None
    overrides: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.subject.__class__ is not str or not self.subject:
            check_subject(self.subject)
        plan = self.plan
        if plan is not None and not isinstance(plan, str | Plan):
            raise TypeError(f"plan is {describe(plan)}; use the name of a plan, a Plan, or None for the default")
        if self.account is not None:
            check_subject(self.account, "account")
