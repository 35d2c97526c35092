"""`OperatorReports`: what the operator of the service may see, and no customer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.merged_overrides import merged_overrides
from awx_ratelimit.errors import InvalidKeyRequest, KeyNotFound
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.accounts import account_not_found
from awx_ratelimit.keys.format import KeyFormat, is_key_id
from awx_ratelimit.keys.key_tracing import KeyTracing
from awx_ratelimit.keys.models import ACTIONS, AccountStatus, Event, Page
from awx_ratelimit.keys.scanner import KeyFinder
from awx_ratelimit.keys.storage import operator_queries as queries
from awx_ratelimit.keys.storage import queries as queries_of_keys
from awx_ratelimit.keys.storage.operator_queries import AccountFilter, AccountShadows, AccountUsage
from awx_ratelimit.keys.storage.store import KeyStore
from awx_ratelimit.keys.usage_range import By, Range, usage_range
from awx_ratelimit.runtime.clock import Clock

Order = Literal["id", "requests", "refusals"]
ORDERS: Final = get_args(Order)
STATUSES: Final = get_args(AccountStatus)
#: Reports of all accounts read every row of the time, so it is shorter than that of one account.
_MAX_PERIODS: Final = {"hour": 48, "day": 31}
_MAX_NUMBER: Final = 2**53


@dataclass(frozen=True, slots=True)
class ShadowRefusals:
    """What shadow limits would have refused: the number of requests by limit, and the accounts with most of them.

    A request counts once for each such limit.
    """

    limits: Mapping[str, int]
    accounts: tuple[AccountShadows, ...]


class OperatorReports:
    """All accounts of a KeyService and its audit trail, as its attribute `operator`. `accounts` changes accounts.

    A time is as in `UsageReports`, but begins at most 31 days, or 48 hours, before its end. A list has at most 100,000
    items.

    Every call raises InvalidKeyRequest for an invalid argument, and KeyStoreUnavailable.
    """

    def __init__(self, store: KeyStore, clock: Clock, keys: KeyFormat, finder: KeyFinder) -> None:
        self._store = store
        self._clock = clock
        self._finder = finder
        #: Finds the owner of a key that a log shows.
        self.keys = KeyTracing(store, clock, keys, finder)

    def accounts(
        self,
        *,
        prefix: str | None = None,
        plan: str | None = None,
        status: AccountStatus | None = None,
        order: Order = "id",
        from_: datetime | None = None,
        to: datetime | None = None,
        by: By = "day",
        page_num: int = 1,
        page_size: int = 20,
    ) -> Page[AccountUsage]:
        """Return one page of the accounts, each with its requests from `from_` until `to`.

        `prefix` is the beginning of the id. The `order` ``id`` is by the bytes of the id. ``requests`` and ``refusals``
        list only accounts with requests in that time, most first.
        """
        asked = AccountFilter(
            None if prefix is None else validation.account_id(prefix, self._finder, field="prefix"),
            validation.optional_name(plan, "plan", self._finder),
            None if status is None else _one_of(status, "status", STATUSES),
        )
        _one_of(order, "order", ORDERS)
        times, page = self.times(from_, to, by), validation.page(page_num, page_size)
        now_ms = self._clock.now_ms()
        if order == "id":
            return self._store.query(queries.accounts, asked, times, *page, now_ms)
        return self._store.query(queries.accounts_by_usage, asked, times, order, *page, now_ms)

    def events(
        self,
        *,
        account_id: str | None = None,
        action: str | None = None,
        before: int | None = None,
        page_num: int = 1,
        page_size: int = 20,
    ) -> Page[Event]:
        """Return one page of the audit trail of all accounts, newest first.

        `action` is one of `models.ACTIONS`. `before` is the number of an event: only older ones are listed.
        """
        return self._store.query(
            queries.events,
            None if account_id is None else validation.account_id(account_id, self._finder),
            None if action is None else _one_of(action, "action", ACTIONS),
            None if before is None else validation.integer(before, "before", 1, _MAX_NUMBER),
            *validation.page(page_num, page_size),
        )

    def shadow_refusals(
        self, *, from_: datetime | None = None, to: datetime | None = None, by: By = "day", number: int = 20
    ) -> ShadowRefusals:
        """Return what shadow limits would have refused, with the `number` (1 to 100) first limits and accounts."""
        number = validation.integer(number, "number", 1, validation.MAX_PAGE_SIZE)
        times = self.times(from_, to, by)
        limits = self._store.query(queries.shadow_limits, times, number)
        return ShadowRefusals(limits, self._store.query(queries.shadow_accounts, times, number))

    def caller_of(self, subject: str, account_id: str | None = None) -> Caller | None:
        """Return the caller with this `subject`, and the overrides that apply now; None if the store does not have it.

        `subject` is the id of a key, even of a revoked one, whose subject is its family; or any subject of the account
        `account_id`. Raises AccountNotFound, and KeyNotFound for a key of another account.
        """
        record = self._store.query(queries_of_keys.key_record_of, subject, None) if is_key_id(subject) else None
        if record is not None and account_id not in (None, record.account_id):
            raise KeyNotFound("the account has no such key", remedy="list the account's keys")
        now_ms = self._clock.now_ms()
        if record is not None:
            temporary = record.temporary_overrides if now_ms < record.temporary_until_ms else None
            overrides = merged_overrides(record.overrides, temporary)
            return Caller(record.family_id, record.plan, record.account_id, overrides)
        if account_id is None:
            return None
        account = self._store.query(queries_of_keys.account, validation.account_id(account_id, self._finder), now_ms)
        if account is None:
            raise account_not_found()
        return Caller(subject, account.plan, account.id, account.current_overrides)

    def record_reset(self, subject: str, scope: str | None = None, *, actor: str | None = None) -> bool:
        """Write into the audit trail that `actor` has reset the usage of `subject`, in all scopes if `scope` is None.

        `subject` is the id of a key or of an account. Returns False, and writes nothing, for any other.
        """
        caller = self.caller_of(subject)
        try:
            owner = subject if caller is None or caller.account is None else caller.account
            account_id = validation.account_id(owner, self._finder)
        except InvalidKeyRequest:
            # No account has such an id.
            return False
        with self._store.changes(self._clock, self._finder)(account_id, actor) as work:
            if work.account is None:
                return False
            if caller is None:
                work.record("account.usage_reset", details={"subject": subject, "scope": scope})
            else:
                work.record("key.usage_reset", subject, {"subject": caller.subject, "scope": scope})
            return True

    def times(self, from_: datetime | None = None, to: datetime | None = None, by: By = "day") -> Range:
        """Return the whole periods that these arguments mean in the other calls."""
        times = usage_range(self._clock.now_ms(), from_, to, by)
        return times._replace(begins_ms=max(times.begins_ms, times.ends_ms - _MAX_PERIODS[by] * times.length_ms))


def _one_of(value: str, field: str, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidKeyRequest("not a valid value", remedy=f"expected {', '.join(allowed)}", field=field)
    return value
