"""What the key lifecycle answers with: frozen values. None of them holds a key but `CreatedKey`, once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, TypeVar

from awx_ratelimit.keys.secret import Secret

KeyStatus = Literal["active", "rotated", "expired"]
AccountStatus = Literal["active", "suspended"]
_Item = TypeVar("_Item")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def utc_datetime(at_ms: int) -> datetime:
    """The time in UTC of a number of milliseconds since the epoch, exactly."""
    return _EPOCH + at_ms * _MILLISECOND


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner sees it, at the moment it was asked for. Times are in UTC.

    `masked` is how the key is shown (``awx_...x4f2``). `family_id` is whose budget it uses: a rotated key and its
    successors have one. `status` is ``active``, ``rotated`` (it has a successor and is accepted to the end of its
    grace, `expires_at`) or ``expired``. `last_used_at` may be 10 seconds late.
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
class CreatedKey:
    """A new key, and its text: the only time that it is told."""

    key: ApiKey
    secret: Secret


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns keys. `plan` is the name of the plan of all of them, None for the table's default.

    `overrides` are numbers of its own, as they are written in a plan table. Of a suspended account no key is accepted.
    """

    id: str
    plan: str | None
    overrides: Mapping[str, Any] | None
    status: AccountStatus
    max_keys: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done, by whom (None: not said) and to which key (None: to the account). Never changed.

    `action` is ``key.created``, ``key.renamed``, ``key.rotated``, ``key.revoked``, ``account.created``,
    ``account.plan_set``, ``account.overrides_set``, ``account.max_keys_set``, ``account.suspended`` or
    ``account.activated``; `details` say what was before and what is now, in JSON's own types.
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
    """Some of `total` items: the `page_num`-th `page_size` of them, counted from 1."""

    items: tuple[_Item, ...]
    total: int
    page_num: int
    page_size: int

    @property
    def has_more(self) -> bool:
        """Whether there is a page after this one."""
        return self.page_num * self.page_size < self.total
