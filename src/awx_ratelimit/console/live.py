"""The current usage of an account and its keys, and the event that brings it to an open page."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from secrets import choice
from typing import Any, Final, NamedTuple

from awx_ratelimit.console import view_models
from awx_ratelimit.console.page_request import LiveEvent
from awx_ratelimit.console.quota_notes import QuotaNotes, quota_notes
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import BackendUnavailable, InvalidLimit
from awx_ratelimit.keys.models import Account, ApiKey
from awx_ratelimit.management.limits import BlockingLimiter
from awx_ratelimit.management.usage import KeyUsage, LimitUsage, live_usage

#: How often an open page asks for its usage. The value varies, so that pages opened together spread out.
LIVE_INTERVALS_MS: Final = range(1_800, 2_200)


class ShownUsage(NamedTuple):
    """The usage of each key by its id, None if it is unknown; and of the limits that all keys of the account share."""

    by_key: Mapping[str, KeyUsage] | None
    shared: tuple[LimitUsage, ...]

    @property
    def quotas(self) -> QuotaNotes:
        """Notes on the quotas that are nearly or fully used."""
        return quota_notes(self.shared, (self.by_key or {}).values())


def shown_usage(account: Account, keys: Sequence[ApiKey], plans: PlanTable, limiter: BlockingLimiter) -> ShownUsage:
    """The usage of the account and of `keys`. Without the backend or the plan, pages show that it is unknown."""
    try:
        shared, usages = live_usage(account, keys, plans, limiter.peek_many)
    except (BackendUnavailable, InvalidLimit):
        return ShownUsage(None, ())
    return ShownUsage({usage.key.id: usage for usage in usages}, shared or ())


def live_event(keys: Sequence[ApiKey], usage: ShownUsage, now: datetime) -> LiveEvent:
    """What changes on a page with `keys` that is open."""
    rows = [view_models.key_row(key, usage.by_key, now) for key in keys]
    keys_data = {row.key.id: {"last_used": row.last_used, "bars": _live_bars(row.bars or ())} for row in rows}
    data: dict[str, Any] = {"known": usage.by_key is not None, "keys": keys_data}
    if usage.shared:
        data["shared"] = _live_bars(view_models.usage_bars(usage.shared))
    return LiveEvent(data, choice(LIVE_INTERVALS_MS))


def _live_bars(bars: Sequence[view_models.UsageBar]) -> dict[str, list[Any]]:
    """What changes of each bar, by its limit: the value, the text, and the note if it has one."""
    return {bar.limit: [bar.used, bar.text, *([bar.note] if bar.note else [])] for bar in bars}
