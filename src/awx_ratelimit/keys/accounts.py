"""`Accounts`: the owners of API keys, with their plan, their overrides and their status.

The plan belongs to the account. A change reaches all its keys, in every process, within a second.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.limit_schema import Place
from awx_ratelimit.core.plan_schema import read_override
from awx_ratelimit.errors import AccountExists, AccountNotFound, InvalidKeyRequest, InvalidLimit, KeyNotFound
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.format import is_key_id
from awx_ratelimit.keys.models import Account, Page
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.keys.storage.store import KeyStore
from awx_ratelimit.keys.verification.cache import KnownKey
from awx_ratelimit.runtime.clock import Clock

MAX_KEYS: Final = 100
_MAX_MAX_KEYS = 1_000_000
CheckPlan = Callable[[str | None, Mapping[str, Any] | None], object]


class Accounts:
    """The accounts of a KeyService, as its attribute `accounts`.

    An account id has 1 to 128 visible ASCII characters. You choose it; the id of your user or customer will do.
    `actor` in each call is the name to write into the audit trail.

    Every call raises InvalidKeyRequest for an invalid argument, AccountNotFound for an unknown id, and
    KeyStoreUnavailable.
    """

    def __init__(self, store: KeyStore, clock: Clock, check_plan: CheckPlan | None) -> None:
        self._store = store
        self._clock = clock
        self._check_plan = check_plan

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
        plan, overrides = self._checked(validation.optional_name(plan, "plan"), validation.overrides(overrides), "plan")
        max_keys = validation.integer(max_keys, "max_keys", 0, _MAX_MAX_KEYS)
        with self._store.unit_of_work(account_id, now_ms=self._clock.now_ms(), actor=actor) as work:
            if work.account is not None or not work.add_account(plan, overrides, max_keys):
                raise AccountExists("the account already exists", remedy="use another id", field="account_id")
            work.record("account.created", details={"plan": plan, "overrides": overrides, "max_keys": max_keys})
            return work.current_account()

    def ensure(self, account_id: str, *, plan: str | None = None, actor: str | None = None) -> Account:
        """Return the account, unchanged if it exists. If not, create it with `plan`."""
        found = self._store.query(queries.account, validation.account_id(account_id))
        if found is not None:
            return found
        try:
            return self.create(account_id, plan=plan, actor=actor)
        except AccountExists:
            # Another thread or process has created it meanwhile.
            return self.get(account_id)

    def get(self, account_id: str) -> Account:
        """Return the account."""
        account = self._store.query(queries.account, validation.account_id(account_id))
        if account is None:
            raise account_not_found()
        return account

    def list(self, *, page_num: int = 1, page_size: int = 20) -> Page[Account]:
        """Return one page of all accounts, ordered by id. This is for operators: no customer may see it."""
        return self._store.query(queries.accounts, *validation.page(page_num, page_size))

    def caller(self, key_id: str, account_id: str | None = None) -> Caller:
        """Return what a verifier returns for the text of a key. It is not a use of the key.

        `account_id` None: of any account. This is for operators: no customer may choose it. Raises KeyNotFound, and
        KeyRefused with the code of the response if the key was revoked or has expired, or its account is suspended.
        """
        account_id = None if account_id is None else validation.account_id(account_id)
        record = self._store.query(queries.key_record_of, key_id, account_id) if is_key_id(key_id) else None
        if record is None:
            raise KeyNotFound("there is no such key", remedy="list the account's keys")
        return KnownKey(record).checked(self._clock.now_ms())

    def set_plan(self, account_id: str, plan: str | None, *, actor: str | None = None) -> Account:
        """Set the plan of all keys of the account. None means the table's default. Usage so far stays counted."""
        plan = validation.optional_name(plan, "plan")
        return self._set(
            account_id, actor, "account.plan_set", "plan", lambda found: self._checked(plan, found.overrides, "plan")[0]
        )

    def set_overrides(
        self, account_id: str, overrides: Mapping[str, Any] | None, *, actor: str | None = None
    ) -> Account:
        """Set the account's own limits, written as in a plan table's ``overrides``. None removes them.

        They are limits of each key. Those in ``{"account": {...}}`` are limits that all its keys share.
        """
        valid = validation.overrides(overrides)
        return self._set(
            account_id,
            actor,
            "account.overrides_set",
            "overrides",
            lambda found: self._checked(found.plan, valid, "overrides")[1],
        )

    def set_max_keys(self, account_id: str, max_keys: int, *, actor: str | None = None) -> Account:
        """Set how many keys the account may have at once. Existing keys stay, even if they are more."""
        number = validation.integer(max_keys, "max_keys", 0, _MAX_MAX_KEYS)
        return self._set(account_id, actor, "account.max_keys_set", "max_keys", lambda _: number)

    def suspend(self, account_id: str, *, actor: str | None = None) -> Account:
        """Refuse all keys of the account until `activate`. Its keys can still be listed and revoked."""
        return self._set(account_id, actor, "account.suspended", "status", lambda _: "suspended")

    def activate(self, account_id: str, *, actor: str | None = None) -> Account:
        """Accept the account's keys again."""
        return self._set(account_id, actor, "account.activated", "status", lambda _: "active")

    def _set(
        self, account_id: str, actor: str | None, action: str, column: str, value_for: Callable[[Account], object]
    ) -> Account:
        """Write one column, the audit row and the change row. If the value is the same, write nothing."""
        with self._store.unit_of_work(account_id, now_ms=self._clock.now_ms(), actor=actor) as work:
            account = work.account
            if account is None:
                raise account_not_found()
            before, after = getattr(account, column), value_for(account)
            if before == after:
                return account
            work.record(action, details={"before": before, "after": after})
            work.change_account(column, after)
            work.announce_change()
            return work.current_account()

    def _checked(
        self, plan: str | None, overrides: Mapping[str, Any] | None, field: str
    ) -> tuple[str | None, Mapping[str, Any] | None]:
        """Return both if together they make a plan. Otherwise every request of the account would be refused."""
        try:
            if self._check_plan is not None:
                self._check_plan(plan, overrides)
            elif overrides is not None:
                read_override(overrides, Place("account"))
        except InvalidLimit as error:
            if self._check_plan is not None:
                raise InvalidKeyRequest("there is no such plan", remedy=str(error), field=field) from error
            raise InvalidKeyRequest("not a valid override", remedy=error.reason, field="overrides") from error
        return plan, overrides


def account_not_found() -> AccountNotFound:
    """Return the error for an unknown account."""
    return AccountNotFound("there is no such account", remedy="create it first", field="account_id")
