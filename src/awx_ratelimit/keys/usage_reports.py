"""`UsageReports`: what an account and its keys have used, by hour and by day. `UsageHistory` records it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from awx_ratelimit.errors import KeyNotFound
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.format import is_key_id, masked
from awx_ratelimit.keys.models import Page, utc_datetime
from awx_ratelimit.keys.storage import usage_queries
from awx_ratelimit.keys.storage.store import KeyStore
from awx_ratelimit.keys.usage_range import By, usage_range
from awx_ratelimit.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class UsagePeriod:
    """The usage of one hour or day, which begins at `begins_at` (UTC).

    `allowed` and `refused` count requests. `costs` is the cost of the allowed ones by measure, and `refusals` the
    number of refusals by limit; several limits may refuse one request. `peak_concurrent` is the largest number of
    concurrent requests of one key under a plan that limits them. `last_used_at` is the time of the last request, or
    None.
    """

    begins_at: datetime
    allowed: int
    refused: int
    costs: Mapping[str, int]
    refusals: Mapping[str, int]
    peak_concurrent: int
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class BusyKey:
    """A key, with the usage of it, its predecessors and its successors. `key_id` is the newest of them."""

    key_id: str
    name: str
    masked: str
    revoked: bool
    allowed: int
    refused: int
    peak_concurrent: int
    last_used_at: datetime


class UsageReports:
    """The usage of the accounts of a KeyService, as its attribute `usage`.

    A time is a datetime with a time zone, from 1970 to 2999. `from_` and `to` are rounded to whole hours or days in
    UTC, so that both are inside. Without `to` the range ends now; without `from_` it has 30 days or 24 hours. It ends
    now at the latest, and begins 3,650 days or 36 days by the hour ago at the earliest, because nothing else can be
    stored. It is empty if `from_` is not before `to`. `key_id` may be the id of a revoked key. A key shares its usage
    with its predecessors and successors.

    Every call raises InvalidKeyRequest for an invalid argument, KeyNotFound for a key that the account has never had,
    and KeyStoreUnavailable.
    """

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def history(
        self,
        account_id: str,
        *,
        key_id: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        by: By = "day",
        page_num: int | None = None,
        page_size: int | None = None,
    ) -> Page[UsagePeriod]:
        """Return the usage of each hour or day, oldest first, of the account or of one key.

        Periods without usage are there too, with zeros. Without `page_num` and `page_size` all are on one page. A page
        has 20 periods by default, and at most 100.
        """
        account_id, family_id = self._owner(account_id, key_id)
        times = usage_range(self._clock.now_ms(), from_, to, by)
        if page_num is None and page_size is None:
            num, size = 1, max(1, times.number)
        else:
            num, size = validation.page(1 if page_num is None else page_num, 20 if page_size is None else page_size)
        part = times.part(num, size)
        rows = self._store.query(usage_queries.periods, account_id, family_id, by, part.begins_ms, part.ends_ms)
        found = {row.begins_ms: row for row in rows}
        begins = range(part.begins_ms, part.ends_ms, part.length_ms)
        return Page(tuple(_period(at_ms, found.get(at_ms)) for at_ms in begins), times.number, num, size)

    def busiest(
        self,
        account_id: str,
        *,
        from_: datetime | None = None,
        to: datetime | None = None,
        by: By = "day",
        number: int = 10,
    ) -> tuple[BusyKey, ...]:
        """Return the keys of the account with the most requests, at most `number` (1 to 100)."""
        number = validation.integer(number, "number", 1, validation.MAX_PAGE_SIZE)
        times = usage_range(self._clock.now_ms(), from_, to, by)
        rows = self._store.query(
            usage_queries.busiest, validation.account_id(account_id), by, times.begins_ms, times.ends_ms, number
        )
        return tuple(
            BusyKey(
                row.key_id,
                row.name,
                masked(row.prefix, row.last4),
                row.revoked,
                row.allowed,
                row.refused,
                row.peak,
                utc_datetime(row.last_at_ms),
            )
            for row in rows
        )

    def refusals(
        self,
        account_id: str,
        *,
        key_id: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        by: By = "day",
    ) -> Mapping[str, int]:
        """Return the number of refusals by each limit, most first, of the account or of one key."""
        account_id, family_id = self._owner(account_id, key_id)
        times = usage_range(self._clock.now_ms(), from_, to, by)
        return self._store.query(usage_queries.refusals, account_id, family_id, by, times.begins_ms, times.ends_ms)

    def shadow_refusals(
        self,
        account_id: str,
        *,
        key_id: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        by: By = "day",
    ) -> Mapping[str, int]:
        """Return how many allowed requests each shadow limit would have refused, most first.

        They belong to the account or to one key. Several limits may count one request.
        """
        account_id, family_id = self._owner(account_id, key_id)
        times = usage_range(self._clock.now_ms(), from_, to, by)
        return self._store.query(usage_queries.shadows, account_id, family_id, by, times.begins_ms, times.ends_ms)

    def is_recorded(self) -> bool:
        """Return whether a `UsageHistory` has ever written to this store, for any account."""
        return self._store.query(usage_queries.has_writers)

    def _owner(self, account_id: str, key_id: str | None) -> tuple[str, str | None]:
        account_id = validation.account_id(account_id)
        if key_id is None:
            return account_id, None
        is_id = isinstance(key_id, str) and is_key_id(key_id)
        family_id = self._store.query(usage_queries.family_of, account_id, key_id) if is_id else None
        if family_id is None:
            raise KeyNotFound("the account has no such key", remedy="list the account's keys")
        return account_id, family_id


def _period(begins_ms: int, row: usage_queries.PeriodUsage | None) -> UsagePeriod:
    begins_at = utc_datetime(begins_ms)
    if row is None:
        return UsagePeriod(begins_at, 0, 0, {}, {}, 0, None)
    last_used_at = None if row.last_at_ms is None else utc_datetime(row.last_at_ms)
    return UsagePeriod(begins_at, row.allowed, row.refused, row.costs, row.refusals, row.peak, last_used_at)
