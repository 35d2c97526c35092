"""`Accounts`: who owns keys, by which plan, and whether any of them is accepted.

The plan is the account's, and every change of it reaches the keys that are in use within a second.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from awx_ratelimit.core.plan_schema import Place, read_override
from awx_ratelimit.errors import AccountExists, AccountNotFound, InvalidKeyRequest, InvalidLimit
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.clock import Clock
from awx_ratelimit.keys.models import Account, AccountStatus, Page
from awx_ratelimit.keys.name_rules import account_id as checked_id
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.keys.storage.store import KeyStore
from awx_ratelimit.keys.storage.unit_of_work import Act

MAX_KEYS: Final = 100
_MOST_MAX_KEYS = 1_000_000
CheckPlan = Callable[[str | None, Mapping[str, Any] | None], object]


class Accounts:
    """Made by KeyService, which has it as `accounts`. An id is 1 to 128 visible ASCII characters, as your users have.

    Every call raises InvalidKeyRequest for an argument that is not allowed, AccountNotFound for an id that is none, and
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
        """A new account, active, that may have `max_keys` keys at once. Raises AccountExists."""
        plan, overrides = self._checked(validation.plan(plan), validation.overrides(overrides), "plan")
        max_keys = validation.whole_number(max_keys, "max_keys", 0, _MOST_MAX_KEYS)
        with self._store.act(checked_id(account_id), now_ms=self._clock.now_ms(), actor=validation.actor(actor)) as act:
            if act.account is not None or not act.add_account(plan, overrides, max_keys):
                raise AccountExists("there is such an account already", remedy="take another id", field="account_id")
            act.record("account.created", details={"plan": plan, "overrides": overrides, "max_keys": max_keys})
            return act.present_account()

    def ensure(self, account_id: str, *, plan: str | None = None, actor: str | None = None) -> Account:
        """The account of this id, as it is; made with `plan` where there is none."""
        found = self._store.account(checked_id(account_id))
        if found is not None:
            return found
        try:
            return self.create(account_id, plan=plan, actor=actor)
        except AccountExists:
            # Somebody else was faster.
            return self.get(account_id)

    def get(self, account_id: str) -> Account:
        """The account of this id."""
        account = self._store.account(checked_id(account_id))
        if account is None:
            raise not_found()
        return account

    def list(self, *, page_num: int = 1, page_size: int = 20) -> Page[Account]:
        """All accounts, by id: for who runs the store, and for no customer."""
        return self._store.ask(queries.accounts, *validation.page(page_num, page_size))

    def set_plan(self, account_id: str, plan: str | None, *, actor: str | None = None) -> Account:
        """Give all keys of the account another plan; None is the table's default. What was used stays used."""
        plan = validation.plan(plan)
        return self._set(
            account_id, actor, "account.plan_set", "plan", lambda found: self._checked(plan, found.overrides, "plan")[0]
        )

    def set_overrides(
        self, account_id: str, overrides: Mapping[str, Any] | None, *, actor: str | None = None
    ) -> Account:
        """Give the account numbers of its own, as an override is written in a plan table; None takes them back."""
        kept = validation.overrides(overrides)
        return self._set(
            account_id,
            actor,
            "account.overrides_set",
            "overrides",
            lambda found: self._checked(found.plan, kept, "overrides")[1],
        )

    def set_max_keys(self, account_id: str, max_keys: int, *, actor: str | None = None) -> Account:
        """How many keys the account may have at once. Keys that it has beyond that stay; it makes no more."""
        number = validation.whole_number(max_keys, "max_keys", 0, _MOST_MAX_KEYS)
        return self._set(account_id, actor, "account.max_keys_set", "max_keys", lambda _: number)

    def suspend(self, account_id: str, *, actor: str | None = None) -> Account:
        """Accept no key of the account until it is activated again; its keys can still be listed and revoked."""
        return self._set_status(account_id, actor, "account.suspended", "suspended")

    def activate(self, account_id: str, *, actor: str | None = None) -> Account:
        """Accept the account's keys again."""
        return self._set_status(account_id, actor, "account.activated", "active")

    def _set_status(self, account_id: str, actor: str | None, action: str, status: AccountStatus) -> Account:
        return self._set(account_id, actor, action, "status", lambda _: status)

    def _set(
        self, account_id: str, actor: str | None, action: str, column: str, value_for: Callable[[Account], object]
    ) -> Account:
        """Write one column, with its audit row and its news; nothing of that where it is so already."""
        with self._store.act(checked_id(account_id), now_ms=self._clock.now_ms(), actor=validation.actor(actor)) as act:
            found = _found(act)
            before, after = getattr(found, column), value_for(found)
            if before == after:
                return found
            act.record(action, details={"before": before, "after": after})
            act.change_account(column, after)
            act.announce()
            return act.present_account()

    def _checked(
        self, plan: str | None, overrides: Mapping[str, Any] | None, field: str
    ) -> tuple[str | None, Mapping[str, Any] | None]:
        """Both, where they make a plan together: an account whose plan does not exist would be refused everything."""
        try:
            if self._check_plan is not None:
                self._check_plan(plan, overrides)
            elif overrides is not None:
                _check_limits(overrides)
        except InvalidLimit as error:
            raise InvalidKeyRequest("there is no such plan", remedy=str(error), field=field) from error
        return plan, overrides


def _check_limits(overrides: Mapping[str, Any]) -> None:
    """Raise InvalidKeyRequest for overrides that no plan table would take, whatever its plans are."""
    try:
        read_override(overrides, Place("account"))
    except InvalidLimit as error:
        what, _, allowed = str(error).removeprefix("account: ").partition("; ")
        raise InvalidKeyRequest(what, remedy=allowed or "correct the overrides", field="overrides") from error


def _found(act: Act) -> Account:
    if act.account is None:
        raise not_found()
    return act.account


def not_found() -> AccountNotFound:
    """The error for an id that is no account's."""
    return AccountNotFound("there is no such account", remedy="create it first", field="account_id")
