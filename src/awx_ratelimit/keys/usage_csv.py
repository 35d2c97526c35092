"""The usage history as CSV."""

from collections.abc import Iterable, Sequence

from awx_ratelimit.keys.csv_text import csv_text
from awx_ratelimit.keys.usage_reports import BusyKey, UsagePeriod
from awx_ratelimit.runtime.clock import rfc3339


def usage_csv(periods: Sequence[UsagePeriod]) -> str:
    """Return a line for each period, with a column for each measure (``cost.``) and each limit (``refused.``)."""
    measures = sorted({measure for period in periods for measure in period.costs})
    limits = sorted({limit for period in periods for limit in period.refusals})
    return csv_text(
        [
            "begins_at", "allowed", "refused", "peak_concurrent", "last_used_at",
            *(f"cost.{measure}" for measure in measures), *(f"refused.{limit}" for limit in limits),
        ],
        (
            [
                rfc3339(period.begins_at), period.allowed, period.refused, period.peak_concurrent,
                "" if period.last_used_at is None else rfc3339(period.last_used_at),
                *(period.costs.get(measure, 0) for measure in measures),
                *(period.refusals.get(limit, 0) for limit in limits),
            ]
            for period in periods
        ),
    )  # fmt: skip


def busy_keys_csv(keys: Iterable[BusyKey]) -> str:
    """Return a line for each key."""
    return csv_text(
        ["key", "name", "prefix", "revoked", "allowed", "refused", "peak_concurrent", "last_used_at"],
        (
            [
                key.key_id, key.name, key.masked, str(key.revoked).lower(), key.allowed, key.refused,
                key.peak_concurrent, rfc3339(key.last_used_at),
            ]
            for key in keys
        ),
    )  # fmt: skip
