"""`KeyService`: create, list, rename, rotate and revoke API keys. Every change writes an audit row.

A key is shown once, in the result of the call that creates it. If a call fails with a KeyRequestRefused, nothing has
changed. Unknown ids, revoked keys and other accounts' keys all raise the same KeyNotFound.
"""

from awx_ratelimit.errors import InvalidKeyRequest, KeyExists, KeyLimitReached, KeyNotActive, KeyNotFound
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.accounts import Accounts, CheckPlan, account_not_found
from awx_ratelimit.keys.format import PREFIX, KeyFormat, is_key_id, new_key_id
from awx_ratelimit.keys.models import Account, ApiKey, CreatedKey, Event, Page
from awx_ratelimit.keys.operator_reports import OperatorReports
from awx_ratelimit.keys.scanner import KeyFinder
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.keys.storage.store import KeyStore, checked_store
from awx_ratelimit.keys.storage.unit_of_work import UnitOfWork
from awx_ratelimit.keys.usage_reports import UsageReports
from awx_ratelimit.runtime.clock import Clock, WallClock


class KeyService:
    """Manages the API keys of accounts; `accounts` manages the accounts. You may call it from any thread.

    `keys` is the format of new keys; give the KeyVerifier the same one. `check_plan` is called with a plan's name and
    overrides before they are written, and raises InvalidLimit if they are not a plan:
    ``lambda plan, overrides: table.resolve(Caller("check", plan, overrides=overrides))``. `clock` has
    ``now_ms() -> int``; None is the system time. `actor` in each call is the name to write into the audit trail.

    Every call raises InvalidKeyRequest for an invalid argument, and KeyStoreUnavailable.
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
        #: Finds keys of this service in a string, and keys with the default prefix.
        self.finder = KeyFinder((PREFIX, self._keys.prefix))
        self._clock = clock or WallClock()
        self._change = store.changes(self._clock, self.finder)
        #: The owners of the keys.
        self.accounts = Accounts(store, self._clock, self._change, self.finder, check_plan)
        #: What accounts and keys have used, if a `UsageHistory` records it.
        self.usage = UsageReports(store, self._clock)
        #: What only the operator of the service may see: all accounts and all events.
        self.operator = OperatorReports(store, self._clock, self._keys, self.finder)

    def create(
        self,
        account_id: str,
        name: str,
        *,
        expires_in_days: int | None = None,
        actor: str | None = None,
        key_id: str | None = None,
    ) -> CreatedKey:
        """Create a key and return it with its secret, which no later call returns.

        `name` has 1 to 64 visible characters. `expires_in_days` is 1 to 3650; None means never. Give a `key_id` to
        make the call safe to repeat: the second call raises KeyExists. Raises AccountNotFound, KeyNotActive for a
        suspended account, and KeyLimitReached.
        """
        name = validation.readable_text(name, finder=self.finder)
        life_ms = None
        if expires_in_days is not None:
            life_ms = validation.DAY_MS * validation.integer(expires_in_days, "expires_in_days", 1, validation.MAX_DAYS)
        with self._change(account_id, actor) as work:
            _check_unused(work, key_id)
            _check_free_slot(work, _active_account(work))
            return self._add_key(work, name, life_ms, key_id=key_id)

    def list(self, account_id: str, *, page_num: int = 1, page_size: int = 20) -> Page[ApiKey]:
        """Return one page of the account's unrevoked keys, newest first. `page_size` is at most 100."""
        page, account_id = validation.page(page_num, page_size), validation.account_id(account_id, self.finder)
        return self._store.query(queries.keys, account_id, *page, self._clock.now_ms())

    def all(self, account_id: str) -> tuple[ApiKey, ...]:
        """Return all unrevoked keys of the account, newest first, read at one moment.

        Raises InvalidKeyRequest if there are more than 1,000. Use `list` for such accounts.
        """
        account_id, size = validation.account_id(account_id, self.finder), validation.MAX_UNPAGED_KEYS
        page = self._store.query(queries.keys, account_id, 1, size, self._clock.now_ms())
        if page.has_more:
            what = f"the account has more than {size:,} keys"
            raise InvalidKeyRequest(what, remedy="request pages with page_num and page_size")
        return page.items

    def get(self, account_id: str, key_id: str) -> ApiKey:
        """Return one key of the account. Raises KeyNotFound."""
        account_id, key_id = validation.account_id(account_id, self.finder), _checked_key_id(key_id)
        key = self._store.query(queries.key, account_id, key_id, self._clock.now_ms())
        if key is None:
            raise _key_not_found()
        return key

    def rename(self, account_id: str, key_id: str, name: str, *, actor: str | None = None) -> ApiKey:
        """Rename a key and return it. Raises KeyNotFound."""
        name = validation.readable_text(name, finder=self.finder)
        _checked_key_id(key_id)
        with self._change(account_id, actor) as work:
            key = _existing_key(work, key_id)
            if key.name == name:
                return key
            work.record("key.renamed", key_id, {"before": key.name, "after": name})
            work.change_key(key_id, name=name)
            return work.current_key(key_id)

    def rotate(
        self,
        account_id: str,
        key_id: str,
        *,
        grace_period_seconds: int = validation.GRACE_SECONDS,
        actor: str | None = None,
        successor_id: str | None = None,
    ) -> CreatedKey:
        """Create the successor of a key and return it with its secret. The old key works until its grace period ends.

        The successor has the name, the budget (`family_id`) and the lifetime of the old key. `grace_period_seconds` is
        0 to 2,592,000; the default is a day. `successor_id` is like `key_id` of `create`. If several callers rotate
        one key at once, one of them succeeds.

        Raises KeyNotFound; KeyNotActive for an expired key, a suspended account, and a key that already has an
        unrevoked successor; and KeyLimitReached if `max_keys` other keys of the account are in their grace period.
        """
        grace_s = validation.integer(grace_period_seconds, "grace_period_seconds", 0, validation.MAX_GRACE_SECONDS)
        _checked_key_id(key_id)
        with self._change(account_id, actor) as work:
            _check_unused(work, successor_id)
            old = _existing_key(work, key_id)
            account = _active_account(work)
            _check_rotatable(work, account, old)
            if grace_s and work.count_others_in_grace(key_id) >= account.max_keys:
                raise _limit_reached(account)
            created = self._add_key(work, old.name, work.lifetime_ms(key_id), old, key_id=successor_id)
            work.change_key(key_id, replaced_by=created.key.id, grace_ends_at_ms=work.now_ms + grace_s * 1000)
            work.record("key.rotated", key_id, {"replaced_by": created.key.id, "grace_period_seconds": grace_s})
            work.announce_change()
            return created

    def revoke(self, account_id: str, key_id: str, *, actor: str | None = None) -> None:
        """Revoke a key: in this process at once, in all others within a second.

        Raises KeyNotFound, also if the key is already revoked.
        """
        _checked_key_id(key_id)
        with self._change(account_id, actor) as work:
            key = _existing_key(work, key_id)
            work.change_key(key_id, revoked_at_ms=work.now_ms)
            work.record("key.revoked", key_id, {"name": key.name})
            work.announce_change()

    def stale(self, account_id: str, *, older_than_days: int = 90) -> tuple[ApiKey, ...]:
        """Return the keys to rotate: accepted, without a successor, and at least this old. Oldest first."""
        return self._accepted_before(queries.keys_created_before, account_id, older_than_days, "older_than_days")

    def unused(self, account_id: str, *, for_days: int = 30) -> tuple[ApiKey, ...]:
        """Return the keys to revoke: accepted, without a successor, neither created nor used since. Oldest first."""
        return self._accepted_before(queries.keys_unused_since, account_id, for_days, "for_days")

    def events(
        self, account_id: str, *, key_id: str | None = None, page_num: int = 1, page_size: int = 20
    ) -> Page[Event]:
        """Return one page of the audit trail of the account or of one of its keys, newest first.

        `key_id` may be the id of a revoked key.
        """
        page = validation.page(page_num, page_size)
        checked_key_id = None if key_id is None else _checked_key_id(key_id)
        return self._store.query(queries.events, validation.account_id(account_id, self.finder), checked_key_id, *page)

    def _accepted_before(self, query: queries.KeysBefore, account_id: str, days: int, field: str) -> tuple[ApiKey, ...]:
        age_ms = validation.integer(days, field, 0, validation.MAX_DAYS) * validation.DAY_MS
        now_ms = self._clock.now_ms()
        return self._store.query(query, validation.account_id(account_id, self.finder), now_ms - age_ms, now_ms)

    def _add_key(
        self, work: UnitOfWork, name: str, life_ms: int | None, old: ApiKey | None = None, *, key_id: str | None
    ) -> CreatedKey:
        # The key's text is in no local variable, so no error report with local variables shows it.
        secret, key_id = self._keys.new(), key_id or new_key_id()
        key = work.add_key(
            id=key_id,
            family_id=key_id if old is None else old.family_id,
            name=name,
            prefix=self._keys.prefix,
            last4=secret.last4,
            key_hash=self._keys.digest(secret.reveal().encode()),
            expires_at_ms=None if life_ms is None else work.now_ms + life_ms,
            rotated_from=None if old is None else old.id,
        )
        work.record("key.created", key_id, {"name": name, "masked": key.masked, "rotated_from": key.rotated_from})
        return CreatedKey(key, secret)


def _check_unused(work: UnitOfWork, key_id: str | None) -> None:
    if key_id is not None and work.has_had_key(_checked_key_id(key_id)):
        raise KeyExists("this call has already created a key", remedy="list the account's keys")


def _check_free_slot(work: UnitOfWork, account: Account) -> None:
    if work.count_active_keys() >= account.max_keys:
        raise _limit_reached(account)


def _check_rotatable(work: UnitOfWork, account: Account, old: ApiKey) -> None:
    if old.status == "expired":
        raise KeyNotActive("the key has expired", remedy="create a new key")
    if old.replaced_by is None:
        return
    if work.key(old.replaced_by) is not None:
        raise KeyNotActive("the key is already rotated", remedy=f"rotate its successor, {old.replaced_by}")
    # The successor is revoked but may have successors itself, so this rotation adds a key and counts against the cap.
    _check_free_slot(work, account)


def _active_account(work: UnitOfWork) -> Account:
    if work.account is None:
        raise account_not_found()
    if work.account.status != "active":
        raise KeyNotActive("the account is suspended", remedy="activate it first")
    return work.account


def _existing_key(work: UnitOfWork, key_id: str) -> ApiKey:
    key = work.key(key_id)
    if key is None:
        raise _key_not_found()
    return key


def _checked_key_id(key_id: object) -> str:
    if not isinstance(key_id, str) or not is_key_id(key_id):
        raise _key_not_found()
    return key_id


def _key_not_found() -> KeyNotFound:
    return KeyNotFound("the account has no such key", remedy="list the account's keys")


def _limit_reached(account: Account) -> KeyLimitReached:
    what = f"the account has reached its maximum of {account.max_keys} keys"
    return KeyLimitReached(what, remedy="revoke a key that you no longer use")
