"""`OperatorContext`: the accounts, plans and limits behind all pages of the operator, and what several pages read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple

from awx_ratelimit.console.live import ShownUsage, shown_usage
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.keys.models import Account, ApiKey, utc_datetime
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.management.limits import BlockingLimiter
from awx_ratelimit.runtime.clock import Clock

_DIGEST_CHARACTERS: Final = 16


class PlanName(NamedTuple):
    """The plan of an account. `is_default`: the account names none. `is_known`: the plan table has it."""

    name: str
    is_default: bool
    is_known: bool


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """The keys, the plans, the limiter and the clock."""

    keys: KeyService
    plans: PlanTable
    limiter: BlockingLimiter
    clock: Clock

    def now(self) -> datetime:
        """The current time."""
        return utc_datetime(self.clock.now_ms())

    def plan(self, account: Account) -> Plan | None:
        """The plan of the account's keys with its overrides; None if the table has no plan of that name."""
        try:
            return self.plans.resolve(Caller(account.id, account.plan, account.id, account.current_overrides))
        except InvalidLimit:
            return None

    def plan_name(self, plan: str | None) -> PlanName:
        """The plan that is stored as `plan`."""
        if plan is not None:
            return PlanName(plan, is_default=False, is_known=plan in self.plan_names)
        try:
            return PlanName(self.plans.resolve(Caller("default")).name, is_default=True, is_known=True)
        except InvalidLimit:
            return PlanName("none", is_default=True, is_known=False)

    @property
    def plan_names(self) -> tuple[str, ...]:
        """The names of the plans in the table."""
        return tuple(plan.name for plan in self.plans.plans)

    def usage(self, account: Account, keys: Sequence[ApiKey]) -> ShownUsage:
        """The current usage of the account and of `keys`."""
        return shown_usage(account, keys, self.plans, self.limiter)


def state_of(account: Account) -> str:
    """A digest of what operators can change. A form is valid for the state that its page has shown."""
    temporary = account.temporary and (account.temporary.overrides, account.temporary.until.isoformat())
    parts = (account.plan, account.overrides, temporary, account.status, account.max_keys)
    return sha256(json.dumps(parts, default=dict, sort_keys=True).encode()).hexdigest()[:_DIGEST_CHARACTERS]
