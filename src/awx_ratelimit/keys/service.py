"""`KeyService`: make, list, rename, rotate and revoke API keys, each act with its audit row.

A key is told once, in the answer to the call that makes it. What a call refuses is a KeyRequestRefused with a code
for machines, the field and a remedy, and then nothing was changed. Unknown, revoked and another account's ids are one
KeyNotFound.
"""

from contextlib import AbstractContextManager
from typing import Any

from awx_ratelimit.errors import InvalidKeyRequest, KeyExists, KeyLimitReached, KeyNotActive, KeyNotFound
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.accounts import Accounts, CheckPlan, not_found
from awx_ratelimit.keys.clock import Clock, WallClock
from awx_ratelimit.keys.format import PREFIX, KeyFormat, is_key_id, new_key_id
from awx_ratelimit.keys.models import Account, ApiKey, CreatedKey, Event, Page
from awx_ratelimit.keys.name_rules import account_id as checked_id
from awx_ratelimit.keys.name_rules import readable_text
from awx_ratelimit.keys.scanner import KeyFinder
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.keys.storage.store import KeyStore, checked_store
from awx_ratelimit.keys.storage.unit_of_work import Act


class KeyService:
    """The acts on API keys; `accounts` has those on the accounts that own them. From any thread.

    `keys` is the form of new keys, the same that the KeyVerifier was given. `check_plan` is called with a plan's name
    and overrides before they are written, and raises InvalidLimit where they make no plan:
    ``lambda plan, overrides: table.resolve(Caller("check", plan, overrides=overrides))``. `clock` has
    ``now_ms() -> int``; None is the machine's time. `actor` in each call is who is to stand in the audit trail.

    Every call raises InvalidKeyRequest for an argument that is not allowed, and KeyStoreUnavailable.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        keys: KeyFormat | None = None,
        check_plan: CheckPlan | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = checked_store(store, "KeyService")
        self._keys = keys or KeyFormat()
        self._finder = KeyFinder((PREFIX, self._keys.prefix))
        self._clock = clock or WallClock()
        self.accounts = Accounts(store, self._clock, check_plan)

    def create(
        self,
        account_id: str,
        name: str,
        *,
        expires_in_days: int | None = None,
        actor: str | None = None,
        key_id: str | None = None,
    ) -> CreatedKey:
        """A new key, and the only sight of it. `expires_in_days` is 1 to 3650; None is never.

        Names are 1 to 64 characters that can be seen. `key_id` is the id that the key is to have, for a call that may
        come twice: the second raises KeyExists. Raises AccountNotFound, KeyNotActive for a suspended account, and
        KeyLimitReached.
        """
        name = readable_text(name, finder=self._finder)
        days = (
            None
            if expires_in_days is None
            else validation.whole_number(expires_in_days, "expires_in_days", 1, validation.MOST_DAYS)
        )
        with self._store.act(checked_id(account_id), now_ms=self._clock.now_ms(), actor=validation.actor(actor)) as act:
            _refuse_again(act, key_id)
            account = _active(act)
            if act.active_keys() >= account.max_keys:
                raise _limit_reached(account)
            return self._made(act, name, None if days is None else days * validation.DAY_MS, key_id=key_id)

    def list(self, account_id: str, *, page_num: int = 1, page_size: int = 20) -> Page[ApiKey]:
        """The keys of the account that are not revoked, newest first: `page_size`, at most 100, of them."""
        num, size = validation.page(page_num, page_size)
        return self._store.ask(queries.keys, checked_id(account_id), num, size, self._clock.now_ms())

    def all(self, account_id: str) -> tuple[ApiKey, ...]:
        """Every key of the account that is not revoked, newest first, read at one moment.

        Raises InvalidKeyRequest where there are more than 1,000: then ask for pages of them.
        """
        found = self._store.ask(queries.keys, checked_id(account_id), 1, validation.MOST_AT_ONCE, self._clock.now_ms())
        if found.has_more:
            what = f"the account has more than {validation.MOST_AT_ONCE:,} keys"
            raise InvalidKeyRequest(what, remedy="ask for pages of them, by page_num and page_size")
        return found.items

    def get(self, account_id: str, key_id: str) -> ApiKey:
        """One key of the account. Raises KeyNotFound."""
        key = self._store.key(checked_id(account_id), _checked_key_id(key_id), self._clock.now_ms())
        if key is None:
            raise _no_such_key()
        return key

    def rename(self, account_id: str, key_id: str, name: str, *, actor: str | None = None) -> ApiKey:
        """The key under another name. Raises KeyNotFound."""
        name = readable_text(name, finder=self._finder)
        with self._act_on(account_id, key_id, actor) as act:
            found = _found(act, key_id)
            if found.name == name:
                return found
            act.record("key.renamed", key_id, {"before": found.name, "after": name})
            act.change_key(key_id, name=name)
            return act.present_key(key_id)

    def rotate(
        self,
        account_id: str,
        key_id: str,
        *,
        grace_period_seconds: int = validation.GRACE_SECONDS,
        actor: str | None = None,
        successor_id: str | None = None,
    ) -> CreatedKey:
        """A successor of the key, and the only sight of it; the old one is accepted to the end of its grace.

        The successor has the name, the budget (`family_id`) and the length of life of the old one. The grace is 0 to
        2,592,000 s, a day if it is not given. `successor_id` is as `key_id` of `create`. Of two rotations of one key
        one wins. Raises KeyNotFound, KeyNotActive for a key that was rotated already (unless its successor was revoked:
        then it may be rotated again) or has expired, and for a suspended account, and KeyLimitReached where as many
        keys as the account may have are in their grace.
        """
        most = validation.MOST_GRACE_SECONDS
        grace_ms = validation.whole_number(grace_period_seconds, "grace_period_seconds", 0, most) * 1000
        with self._act_on(account_id, key_id, actor) as act:
            _refuse_again(act, successor_id)
            old = _found(act, key_id)
            _refuse_second_successor(act, old)
            if grace_ms and act.others_in_grace(key_id) >= _active(act).max_keys:
                raise _limit_reached(_active(act))
            created = self._made(act, old.name, act.life_of_key_ms(key_id), old, key_id=successor_id)
            act.change_key(key_id, replaced_by=created.key.id, grace_ends_at_ms=act.now_ms + grace_ms)
            act.record(
                "key.rotated", key_id, {"replaced_by": created.key.id, "grace_period_seconds": grace_period_seconds}
            )
            act.announce()
            return created

    def revoke(self, account_id: str, key_id: str, *, actor: str | None = None) -> None:
        """Accept the key no more: in this process at once, in others within a second.

        Raises KeyNotFound, for a key that was revoked already too.
        """
        with self._act_on(account_id, key_id, actor) as act:
            found = _found(act, key_id)
            act.change_key(key_id, revoked_at_ms=act.now_ms)
            act.record("key.revoked", key_id, {"name": found.name})
            act.announce()

    def stale(self, account_id: str, *, older_than_days: int = 90) -> tuple[ApiKey, ...]:
        """The keys that should be rotated: accepted, without a successor, and made so long ago. Oldest first."""
        days = validation.whole_number(older_than_days, "older_than_days", 0, validation.MOST_DAYS)
        now_ms = self._clock.now_ms()
        before_ms = now_ms - days * validation.DAY_MS
        return self._store.ask(queries.keys_made_before, checked_id(account_id), before_ms, now_ms)

    def unused(self, account_id: str, *, for_days: int = 30) -> tuple[ApiKey, ...]:
        """The keys that should be deleted: accepted, and neither made nor used for so long. Oldest first."""
        days = validation.whole_number(for_days, "for_days", 0, validation.MOST_DAYS)
        now_ms = self._clock.now_ms()
        before_ms = now_ms - days * validation.DAY_MS
        return self._store.ask(queries.keys_not_used_since, checked_id(account_id), before_ms, now_ms)

    def events(
        self, account_id: str, *, key_id: str | None = None, page_num: int = 1, page_size: int = 20
    ) -> Page[Event]:
        """The audit trail of the account, or of one of its keys (a revoked one too), newest first."""
        num, size = validation.page(page_num, page_size)
        of_key = None if key_id is None else _checked_key_id(key_id)
        return self._store.ask(queries.events, checked_id(account_id), of_key, num, size)

    def _act_on(self, account_id: str, key_id: str, actor: str | None) -> AbstractContextManager[Act]:
        _checked_key_id(key_id)
        return self._store.act(checked_id(account_id), now_ms=self._clock.now_ms(), actor=validation.actor(actor))

    def _made(
        self, act: Act, name: str, life_ms: int | None, old: ApiKey | None = None, *, key_id: str | None
    ) -> CreatedKey:
        # Its text is in no variable, so that no report of an error shows it.
        secret, key_id = self._keys.new(), key_id or new_key_id()
        key = act.add_key(
            id=key_id,
            family_id=key_id if old is None else old.family_id,
            name=name,
            prefix=self._keys.prefix,
            last4=secret.last4,
            key_hash=self._keys.digest(secret.reveal().encode()),
            expires_at_ms=None if life_ms is None else act.now_ms + life_ms,
            rotated_from=None if old is None else old.id,
        )
        details: dict[str, Any] = {"name": name, "masked": key.masked, "rotated_from": key.rotated_from}
        act.record("key.created", key_id, details)
        return CreatedKey(key, secret)


def _refuse_again(act: Act, key_id: str | None) -> None:
    if key_id is not None and act.has_had(_checked_key_id(key_id)):
        raise KeyExists("the key was made already", remedy="look for it among the account's keys")


def _active(act: Act) -> Account:
    if act.account is None:
        raise not_found()
    if act.account.status != "active":
        raise KeyNotActive("the account is suspended", remedy="activate it first")
    return act.account


def _refuse_second_successor(act: Act, old: ApiKey) -> None:
    account = _active(act)
    if old.status == "expired":
        raise KeyNotActive("the key has expired", remedy="create a new one")
    if old.replaced_by is None:
        return
    if act.key(old.replaced_by) is not None:
        raise KeyNotActive("the key was rotated already", remedy=f"rotate its successor, {old.replaced_by}")
    # Its successor was revoked, and may have had successors of its own: this one more counts as a new key does.
    if act.active_keys() >= account.max_keys:
        raise _limit_reached(account)


def _found(act: Act, key_id: str) -> ApiKey:
    key = act.key(key_id)
    if key is None:
        raise _no_such_key()
    return key


def _checked_key_id(key_id: object) -> str:
    if not isinstance(key_id, str) or not is_key_id(key_id):
        raise _no_such_key()
    return key_id


def _no_such_key() -> KeyNotFound:
    return KeyNotFound("the account has no such key", remedy="list the account's keys")


def _limit_reached(account: Account) -> KeyLimitReached:
    what = f"the account has the {account.max_keys} keys that it may have at once"
    return KeyLimitReached(what, remedy="revoke one that is not used")
