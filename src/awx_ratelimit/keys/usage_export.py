"""`UsageExport`: what accounts have used, as CloudEvents for a billing system.

Hours are sealed before they are exported. What comes later counts in the first open hour, so that every export of an
hour has the same events.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.accounts import account_not_found
from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.keys.storage import queries, usage_sealing
from awx_ratelimit.keys.storage.store import KeyStore, checked_store
from awx_ratelimit.keys.storage.usage_sealing import HourCost
from awx_ratelimit.runtime.clock import Clock, WallClock, rfc3339

SOURCE: Final = "awx-ratelimit"
TYPE: Final = "awx.usage"
GRACE_SECONDS: Final = 3_600
_MAX_GRACE_SECONDS: Final = 604_800
_HOUR_MS: Final = 3_600_000
_PAGE: Final = 1_000
#: A URI reference, and a reverse-DNS name: as CloudEvents want them, and short enough for every meter.
_is_source: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,256}").fullmatch
_is_type: Final = re.compile(r"[!-~]{1,128}").fullmatch


class UsageExport:
    """Exports what the accounts in a store have used, by hour, key and measure. It is for the operator of a service.

    `source` and `type` are attributes of the events: a URI reference, and a name. `grace_seconds` (0 to 604,800) is how
    long after its end an hour stays open for amounts that come late. `clock` has ``now_ms() -> int``; None is the
    system time. Raises TypeError for anything but a KeyStore, and InvalidKeyRequest for other invalid arguments.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        source: str = SOURCE,
        type: str = TYPE,
        grace_seconds: int = GRACE_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self._store = checked_store(store, "UsageExport")
        self._attributes = {
            "source": _matching(source, "source", _is_source, "a URI such as https://api.example.com"),
            "type": _matching(type, "type", _is_type, "a name such as awx.usage"),
        }
        self._grace_ms = validation.integer(grace_seconds, "grace_seconds", 0, _MAX_GRACE_SECONDS) * 1_000
        self._clock = clock or WallClock()

    def since(self, at: datetime, *, account_id: str | None = None) -> "ExportedHours":
        """Seal all hours that ended before the grace period, and return those from `at` on, of all accounts or of one.

        `at` has a time zone and is rounded down to a whole hour. Raises InvalidKeyRequest if it is in the future or if
        its hour is no longer stored, AccountNotFound, and KeyStoreUnavailable.
        """
        now_ms = self._clock.now_ms()
        at_ms = validation.time_ms(at, "since")
        if at_ms > now_ms:
            raise InvalidKeyRequest("in the future", remedy="expected a time that has passed", field="since")
        if account_id is not None:
            account_id = validation.account_id(account_id)
            if self._store.query(queries.account, account_id, now_ms) is None:
                raise account_not_found()
        begins_ms = at_ms // _HOUR_MS * _HOUR_MS
        _check_stored(self._store, begins_ms)
        sealed_ms = self._store.write(usage_sealing.seal, (now_ms - self._grace_ms) // _HOUR_MS * _HOUR_MS)
        return ExportedHours(self._store, begins_ms, max(begins_ms, sealed_ms), account_id, self._attributes)


class ExportedHours:
    """The events of the sealed hours from a time on, until before `ends_at`. You may iterate over it several times.

    An event is a CloudEvent as a dictionary for JSON. Export the next time since `ends_at`.
    """

    def __init__(
        self, store: KeyStore, begins_ms: int, ends_ms: int, account_id: str | None, attributes: dict[str, str]
    ) -> None:
        self._store = store
        self._begins_ms = begins_ms
        self._ends_ms = ends_ms
        self._account_id = account_id
        self._attributes = attributes
        #: The end of the last hour, where the next export continues.
        self.ends_at = utc_datetime(ends_ms)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the events, by hour. Raises KeyStoreUnavailable, and InvalidKeyRequest if hours are removed."""
        last = HourCost(self._begins_ms, "", "", "", 0)
        while True:
            costs = self._store.query(usage_sealing.page, last, self._ends_ms, self._account_id, _PAGE)
            # After the page was read: they may have been removed just before.
            _check_stored(self._store, self._begins_ms)
            for cost in costs:
                yield self._event(cost)
            if len(costs) < _PAGE:
                return
            last = costs[-1]

    def _event(self, cost: HourCost) -> dict[str, Any]:
        begins_at, ends_at = (rfc3339(utc_datetime(cost.begins_ms + ms)) for ms in (0, _HOUR_MS))
        return {
            "specversion": "1.0",
            "id": f"{cost.family_id}.{cost.measure}.{begins_at}",
            **self._attributes,
            "subject": cost.account_id,
            "time": begins_at,
            "datacontenttype": "application/json",
            "data": {
                "key_id": cost.family_id,
                "measure": cost.measure,
                "value": cost.amount,
                "begins_at": begins_at,
                "ends_at": ends_at,
            },
        }


def _check_stored(store: KeyStore, begins_ms: int) -> None:
    removed_ms = store.query(usage_sealing.removed_until)
    if begins_ms < removed_ms:
        earliest = rfc3339(utc_datetime(removed_ms))
        what = f"hours before {earliest} are no longer stored"
        raise InvalidKeyRequest(what, remedy=f"expected {earliest} or later", field="since")


def _matching(value: Any, field: str, matches: Any, expected: str) -> str:
    if not isinstance(value, str) or not matches(value):
        got = "not valid" if isinstance(value, str) else f"got {type_name(value)}"
        raise InvalidKeyRequest(got, remedy=f"expected {expected}", field=field)
    return value
