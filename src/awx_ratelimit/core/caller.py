"""`Caller`: who is asking, as an identifier says it and a plan table reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from awx_ratelimit.core.plans import Plan


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose budget a request uses, and by which plan.

    `subject` is opaque and never an API key. `plan` names a plan of the table, or is one; None is the table's default.
    `account` is whom the overrides of the table may name. `overrides` are this caller's own, as an override is written
    in a plan table.
    """

    subject: str
    plan: str | Plan | None = None
    account: str | None = None
    overrides: Mapping[str, Any] | None = None
