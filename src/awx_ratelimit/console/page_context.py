"""`PageContext`: the keys, plans and limits behind all pages, and what several pages read from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from awx_ratelimit.console.live import ShownUsage, shown_usage
from awx_ratelimit.console.page_request import Settings
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import AccountNotFound, InvalidLimit, KeyNotFound
from awx_ratelimit.keys.models import Account, ApiKey, utc_datetime
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.management.auth.tokens import Owner
from awx_ratelimit.management.limits import BlockingLimiter, KeyIssuer
from awx_ratelimit.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class ConsoleSettings(Settings):
    """What the application configures for the customer's console."""

    new_account_plan: str | None
    api_base: str
    try_path: str


@dataclass(frozen=True, slots=True)
class PageContext:
    """The keys, the plans, the limiter and the clock."""

    keys: KeyService
    plans: PlanTable
    limiter: BlockingLimiter
    issuer: KeyIssuer
    clock: Clock
    settings: ConsoleSettings

    def now(self) -> datetime:
        """The current time."""
        return utc_datetime(self.clock.now_ms())

    def account(self, owner: Owner) -> Account | None:
        """The owner's account; None before its first key is created."""
        try:
            return self.keys.accounts.get(owner.account_id)
        except AccountNotFound:
            return None

    def key(self, owner: Owner, key_id: str | None) -> ApiKey | None:
        """A key of the owner's account; None if it does not exist or has been revoked."""
        try:
            return None if key_id is None else self.keys.get(owner.account_id, key_id)
        except KeyNotFound:
            return None

    def plan(self, owner: Owner, account: Account | None) -> Plan | None:
        """The plan of the owner's keys; None if the table has no plan of that name."""
        name = self.settings.new_account_plan if account is None else account.plan
        overrides = None if account is None else account.current_overrides
        try:
            return self.plans.resolve(Caller(owner.account_id, name, owner.account_id, overrides))
        except InvalidLimit:
            return None

    def usage(self, account: Account | None, keys: Sequence[ApiKey]) -> ShownUsage:
        """The usage of the account and of `keys`; nothing without an account."""
        if account is None:
            return ShownUsage({}, ())
        return shown_usage(account, keys, self.plans, self.limiter)
