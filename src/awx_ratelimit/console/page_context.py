"""`Sources`: what pages are made of, and how it is asked; each question is one or two statements, however many keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import AccountNotFound, BackendUnavailable, InvalidLimit, KeyNotFound
from awx_ratelimit.keys.clock import Clock
from awx_ratelimit.keys.models import Account, ApiKey, moment
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.management.auth.claims import Owner
from awx_ratelimit.management.blocking_limiter import Deciding
from awx_ratelimit.management.issuing import Making
from awx_ratelimit.management.usage import KeyUsage, live_usage


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same on every page."""

    base: str
    new_account_plan: str | None
    login_url: str | None
    logout_url: str | None
    api_base: str
    try_path: str


@dataclass(frozen=True, slots=True)
class Sources:
    """The keys, the plans, the limiter and the time."""

    keys: KeyService
    plans: PlanTable
    deciding: Deciding
    making: Making
    clock: Clock
    settings: Settings

    def now(self) -> datetime:
        """The time now."""
        return moment(self.clock.now_ms())

    def account(self, owner: Owner) -> Account | None:
        """The account; None where it has never made a key."""
        try:
            return self.keys.accounts.get(owner.account_id)
        except AccountNotFound:
            return None

    def key(self, owner: Owner, key_id: str | None) -> ApiKey | None:
        """A key of the account; None where there is none, or none any more."""
        try:
            return None if key_id is None else self.keys.get(owner.account_id, key_id)
        except KeyNotFound:
            return None

    def plan(self, owner: Owner, account: Account | None) -> Plan | None:
        """The plan of the account's keys; None where the table has none of that name."""
        named = self.settings.new_account_plan if account is None else account.plan
        overrides = None if account is None else account.overrides
        try:
            return self.plans.resolve(Caller(owner.account_id, named, owner.account_id, overrides))
        except InvalidLimit:
            return None

    def usage(self, account: Account | None, keys: Sequence[ApiKey]) -> Mapping[str, KeyUsage] | None:
        """What each key has used, by its id; None where that cannot be said now: the pages go on without."""
        try:
            used = [] if account is None else live_usage(account, keys, self.plans, self.deciding.peeks)
        except (BackendUnavailable, InvalidLimit):
            return None
        return {usage.key.id: usage for usage in used}
