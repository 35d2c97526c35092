"""`Accounts`: the owners of API keys, with their plan, their overrides and their status.

The plan belongs to the account. A change reaches all its keys, in every process, within a second.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from types import EllipsisType
from typing import Any, Final

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.limit_schema import Place
from awx_ratelimit.core.plan_schema import read_override
from awx_ratelimit.errors import (
    AccountChanged,
    AccountExists,
    AccountNotFound,
    InvalidKeyRequest,
    InvalidLimit,
    KeyNotFound,
)
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.format import is_key_id
from awx_ratelimit.keys.models import Account, Page, TemporaryOverride, utc_datetime
from awx_ratelimit.keys.scanner import KeyFinder
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.keys.storage.store import Change, KeyStore
from awx_ratelimit.keys.storage.unit_of_work import UnitOfWork
from awx_ratelimit.keys.verification.cache import KnownKey
from awx_ratelimit.runtime.clock import Clock, rfc3339

MAX_KEYS: Final = 100
_MAX_MAX_KEYS = 1_000_000
_ACTIONS: Final = {"plan": "account.plan_set", "overrides": "account.overrides_set", "max_keys": "account.max_keys_set"}
CheckPlan = Callable[[str | None, Mapping[str, Any] | None], object]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Accounts:
    """The accounts of a KeyService, as its attribute `accounts`.

    An account id has 1 to 128 visible ASCII characters. You choose it; the id of your user or customer will do.
    `actor` in each call is the name to write into the audit trail. Every call raises InvalidKeyRequest for an invalid
    argument, AccountNotFound for an unknown id, and KeyStoreUnavailable.
    """

    _store: KeyStore
    _clock: Clock
    _change: Change
    _finder: KeyFinder
    _check_plan: CheckPlan | None
    _expected: Account | None = None

    def checked_by(self, check_plan: CheckPlan) -> "Accounts":
        """Return these accounts with `check_plan`, unless they have one. See KeyService."""
        return self if self._check_plan is not None else replace(self, _check_plan=check_plan)

    def if_unchanged(self, account: Account) -> "Accounts":
        """Return these accounts for changes to `account` as it was read.

        If it has changed since, they change nothing and raise AccountChanged.
        """
        return replace(self, _expected=account)

    def create(
        self,
        account_id: str,
        *,
        plan: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        max_keys: int = MAX_KEYS,
        actor: str | None = None,
    ) -> Account:
        """Create an active account that may have `max_keys` keys at once. Raises AccountExists."""
        plan = validation.optional_name(plan, "plan", self._finder)
        overrides = validation.overrides(overrides, self._finder)
        self._check(plan, overrides, "plan")
        max_keys = validation.integer(max_keys, "max_keys", 0, _MAX_MAX_KEYS)
        with self._change(account_id, actor) as work:
            if work.account is not None or not work.add_account(plan, overrides, max_keys):
                raise AccountExists("the account already exists", remedy="use another id", field="account_id")
            work.record("account.created", details={"plan": plan, "overrides": overrides, "max_keys": max_keys})
            return work.current_account()

    def ensure(self, account_id: str, *, plan: str | None = None, actor: str | None = None) -> Account:
        """Return the account, unchanged if it exists. If not, create it with `plan`."""
        with suppress(AccountNotFound):
            return self.get(account_id)
        try:
            return self.create(account_id, plan=plan, actor=actor)
        except AccountExists:
            # Another thread or process has created it meanwhile.
            return self.get(account_id)

    def get(self, account_id: str) -> Account:
        """Return the account."""
        account_id = validation.account_id(account_id, self._finder)
        account = self._store.query(queries.account, account_id, self._clock.now_ms())
        if account is None:
            raise account_not_found()
        return account

    def list(self, *, page_num: int = 1, page_size: int = 20) -> Page[Account]:
        """Return one page of all accounts, ordered by id. This is for operators. Never show it to customers."""
        return self._store.query(queries.accounts, *validation.page(page_num, page_size), self._clock.now_ms())

    def change(
        self,
        account_id: str,
        *,
        plan: str | EllipsisType | None = ...,
        overrides: Mapping[str, Any] | EllipsisType | None = ...,
        max_keys: int | EllipsisType = ...,
        actor: str | None = None,
    ) -> Account:
        """Change what is given, in one step. See `set_plan`, `set_overrides` and `set_max_keys`."""
        new: dict[str, Any] = {}
        if plan is not ...:
            new["plan"] = validation.optional_name(plan, "plan", self._finder)
        if overrides is not ...:
            new["overrides"] = validation.overrides(overrides, self._finder)
        if max_keys is not ...:
            new["max_keys"] = validation.integer(max_keys, "max_keys", 0, _MAX_MAX_KEYS)
        return self._set(account_id, actor, **new)

    def caller(self, key_id: str, account_id: str | None = None) -> Caller:
        """Return what a verifier returns for the text of a key. It is not a use of the key.

        With `account_id` None, which is for operators alone, the key may belong to any account. Raises KeyNotFound, and
        KeyRefused with the code of the response if the key was revoked or has expired, or its account is suspended.
        """
        account_id = None if account_id is None else validation.account_id(account_id, self._finder)
        record = self._store.query(queries.key_record_of, key_id, account_id) if is_key_id(key_id) else None
        if record is None:
            raise KeyNotFound("there is no such key", remedy="list the account's keys")
        return KnownKey(record).caller_at(self._clock.now_ms())

    def set_plan(self, account_id: str, plan: str | None, *, actor: str | None = None) -> Account:
        """Set the plan of all keys of the account. None means the table's default. Usage so far stays counted."""
        return self.change(account_id, plan=plan, actor=actor)

    def set_overrides(
        self, account_id: str, overrides: Mapping[str, Any] | None, *, actor: str | None = None
    ) -> Account:
        """Set the account's own limits, written as in a plan table's ``overrides``. None removes them.

        They apply to each key. The limits in ``{"account": {...}}`` are shared by all its keys.
        """
        return self.change(account_id, overrides=overrides, actor=actor)

    def override(
        self, account_id: str, overrides: Mapping[str, Any], *, until: datetime, actor: str | None = None
    ) -> Account:
        """Set limits that apply until just before `until`, a time with a time zone in the next 3,650 days.

        They are written as in `set_overrides`, and apply over those: each replaces the limit of the same name.
        ``{"times": 2}`` doubles all limits. In every process they end at `until` by its clock, without another call.
        They replace earlier temporary limits.
        """
        valid = validation.overrides(overrides, self._finder)
        if valid is None:
            raise InvalidKeyRequest("has no limit", remedy="write one, such as {'times': 2}", field="overrides")
        with self._change(account_id, actor) as work:
            temporary = TemporaryOverride(valid, utc_datetime(validation.later_time_ms(until, "until", work.now_ms)))
            return self._set_temporary(work, temporary, "account.override_set")

    def end_override(self, account_id: str, *, actor: str | None = None) -> Account:
        """End the temporary limits now, if there are any."""
        with self._change(account_id, actor) as work:
            return self._set_temporary(work, None, "account.override_ended")

    def set_max_keys(self, account_id: str, max_keys: int, *, actor: str | None = None) -> Account:
        """Set how many keys the account may have at once. Existing keys stay, even if they are more."""
        return self.change(account_id, max_keys=max_keys, actor=actor)

    def suspend(self, account_id: str, *, actor: str | None = None) -> Account:
        """Refuse all keys of the account until `activate`. Its keys can still be listed and revoked."""
        return self._set(account_id, actor, status="suspended")

    def activate(self, account_id: str, *, actor: str | None = None) -> Account:
        """Accept the account's keys again."""
        return self._set(account_id, actor, status="active")

    def _set(self, account_id: str, actor: str | None, **new: Any) -> Account:
        """Write columns, their audit rows and the change row. Of values that stay the same, write nothing."""
        with self._change(account_id, actor) as work:
            account = self._existing(work)
            changed = {name: value for name, value in new.items() if value != getattr(account, name)}
            if "plan" in new or "overrides" in new:  # also if they stay the same: the table may have lost the plan
                self._check_limits(replace(account, **new), "plan" if "plan" in (changed or new) else "overrides")
            if not changed:
                return account
            for name, after in changed.items():
                of_status = f"account.{'activated' if after == 'active' else after}"
                work.record(_ACTIONS.get(name, of_status), details={"before": getattr(account, name), "after": after})
            work.change_account(**changed)
            work.announce_change()
            return work.current_account()

    def _set_temporary(self, work: UnitOfWork, temporary: TemporaryOverride | None, action: str) -> Account:
        account = self._existing(work)
        if temporary == account.temporary:
            return account
        if temporary is not None:
            self._check_limits(replace(account, temporary=temporary), "overrides")
        work.record(action, details={"before": _details(account.temporary), "after": _details(temporary)})
        work.change_account(
            temporary_overrides=None if temporary is None else temporary.overrides,
            temporary_until_ms=None if temporary is None else validation.time_ms(temporary.until, "until"),
        )
        work.announce_change()
        return work.current_account()

    def _existing(self, work: UnitOfWork) -> Account:
        if work.account is None:
            raise account_not_found()
        if self._expected is not None and work.account != self._expected:
            raise AccountChanged("the account has changed", remedy="read it again")
        return work.account

    def _check_limits(self, account: Account, field: str) -> None:
        """Refuse what is no plan now, or will be none when the temporary limits end."""
        self._check(account.plan, account.overrides, field)
        if account.temporary is not None:
            self._check(account.plan, account.temporary.overrides, field)
            self._check(account.plan, account.current_overrides, field)

    def _check(self, plan: str | None, overrides: Mapping[str, Any] | None, field: str) -> None:
        """Refuse what together makes no plan: every request of the account would be refused."""
        try:
            if self._check_plan is not None:
                self._check_plan(plan, overrides)
            elif overrides is not None:
                read_override(overrides, Place("account"))
        except InvalidLimit as error:
            if self._check_plan is not None:
                raise validation.refused_by_table(error.reason, field) from error
            raise InvalidKeyRequest("not a valid override", remedy=error.reason, field="overrides") from error


def _details(temporary: TemporaryOverride | None) -> Mapping[str, Any] | None:
    return None if temporary is None else {"overrides": temporary.overrides, "until": rfc3339(temporary.until)}


def account_not_found() -> AccountNotFound:
    """Return the error for an unknown account."""
    remedy = "create it first, with KeyService.accounts.ensure(account_id, plan=...)"
    return AccountNotFound("there is no such account", remedy=remedy, field="account_id")
