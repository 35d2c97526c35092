"""The results of the key service: frozen values. Only `CreatedKey` contains a key."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Literal, TypeVar

from awx_ratelimit.core.merged_overrides import merged_overrides
from awx_ratelimit.keys.format import Secret

KeyStatus = Literal["active", "rotated", "expired"]
AccountStatus = Literal["active", "suspended"]
#: What is in the audit trail. An override without "s" is a temporary one.
ACTIONS: Final = (
    "key.created",
    "key.renamed",
    "key.rotated",
    "key.revoked",
    "key.usage_reset",
    "account.created",
    "account.plan_set",
    "account.overrides_set",
    "account.max_keys_set",
    "account.override_set",
    "account.override_ended",
    "account.suspended",
    "account.activated",
    "account.usage_reset",
)
_Item = TypeVar("_Item")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def utc_datetime(at_ms: int) -> datetime:
    """Return the UTC time of milliseconds since the epoch, without rounding."""
    return _EPOCH + at_ms * _MILLISECOND


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner sees it. Times are in UTC.

    `masked` is the form to show (``awx_...x4f2``). `family_id` names the budget: a rotated key and its successors share
    one. `status` is ``active``, ``rotated`` (it has a successor, and works until its grace period ends at `expires_at`)
    or ``expired``. `last_used_at` may be 10 seconds late.
    """

    id: str
    account_id: str
    family_id: str
    name: str
    masked: str
    status: KeyStatus
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    last_used_at: datetime | None
    rotated_from: str | None
    replaced_by: str | None


@dataclass(frozen=True, slots=True)
class TracedKey:
    """A key as the operator finds it, also a revoked one. `revoked_at` is None for one that is not revoked."""

    key: ApiKey
    revoked_at: datetime | None
    account_status: AccountStatus

    @property
    def state(self) -> str:
        """Why its requests are refused: ``revoked``, ``expired`` or ``suspended``; else ``active`` or ``rotated``."""
        if self.revoked_at is not None:
            return "revoked"
        is_refused = self.account_status == "suspended" and self.key.status != "expired"
        return "suspended" if is_refused else self.key.status


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key with its secret. No other result contains the secret."""

    key: ApiKey
    secret: Secret


@dataclass(frozen=True, slots=True)
class TemporaryOverride:
    """Overrides that apply until just before the time `until` (UTC), over the permanent ones."""

    overrides: Mapping[str, Any]
    until: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """An owner of keys. `plan` is the name of the plan of all its keys; None means the table's default.

    `overrides` are the account's own limits, written as in a plan table. `temporary` applies now; None if nothing does.
    The keys of a suspended account are refused.
    """

    id: str
    plan: str | None
    overrides: Mapping[str, Any] | None
    status: AccountStatus
    max_keys: int
    created_at: datetime
    temporary: TemporaryOverride | None = None

    @property
    def current_overrides(self) -> Mapping[str, Any] | None:
        """The overrides that apply now: the temporary ones over the permanent ones."""
        return merged_overrides(self.overrides, None if self.temporary is None else self.temporary.overrides)


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the audit trail. `actor` may be None (unknown), and so may `key_id` (it concerns the account).

    `action` is one of `ACTIONS`. `details` contain the values before and after, as JSON types.
    """

    number: int
    account_id: str
    key_id: str | None
    action: str
    actor: str | None
    at: datetime
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page(Generic[_Item]):
    """One page of `total` items: page number `page_num`, counted from 1, with at most `page_size` items."""

    items: tuple[_Item, ...]
    total: int
    page_num: int
    page_size: int

    @property
    def has_more(self) -> bool:
        """Whether there is a next page."""
        return self.page_num * self.page_size < self.total
