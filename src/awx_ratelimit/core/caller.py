"""`Caller`: who is asking, as an identifier says it and a plan table reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import check_subject, given


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose budget a request uses, and by which plan.

    `subject` is opaque and never an API key. `plan` names a plan of the table, or is one; None is the table's default.
    `account` is whom the overrides of the table may name. `overrides` are this caller's own, as an override is written
    in a plan table.

    Raises TypeError for a field of another type, and for a subject or an account that is empty. A table
    that resolves the caller checks its overrides.
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
            raise TypeError(f"plan is {given(plan)}; use the name of a plan, a Plan, or None for the default")
        if self.account is not None:
            check_subject(self.account, "account")
