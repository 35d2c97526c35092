"""The usage history as CSV (RFC 4180), for people with a spreadsheet.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and a customer chooses the names
of keys. So such cells get an apostrophe, which makes them text (OWASP, CSV injection).
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

from awx_ratelimit.keys.usage_reports import BusyKey, UsagePeriod
from awx_ratelimit.runtime.clock import rfc3339

#: Some spreadsheets take the wide forms for the same.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def usage_csv(periods: Sequence[UsagePeriod]) -> str:
    """Return a line for each period, with a column for each measure (``cost.``) and each limit (``refused.``)."""
    measures = sorted({measure for period in periods for measure in period.costs})
    limits = sorted({limit for period in periods for limit in period.refusals})
    return _csv(
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
    return _csv(
        ["key", "name", "prefix", "revoked", "allowed", "refused", "peak_concurrent", "last_used_at"],
        (
            [
                key.key_id, key.name, key.masked, str(key.revoked).lower(), key.allowed, key.refused,
                key.peak_concurrent, rfc3339(key.last_used_at),
            ]
            for key in keys
        ),
    )  # fmt: skip


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
