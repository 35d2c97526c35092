"""``GET /usage/history``: what its query may contain, and its replies, as JSON and as CSV.

Ambiguous input is an error. No error message quotes the input.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.header_values import prefers_csv
from awx_ratelimit.http.message import FullRequest, Reply
from awx_ratelimit.keys.models import Page
from awx_ratelimit.keys.usage_csv import usage_csv
from awx_ratelimit.keys.usage_reports import UsagePeriod
from awx_ratelimit.management import formats
from awx_ratelimit.runtime.clock import rfc3339

FORMATS: Final = ("json", "csv")
_TEXTS: Final = ("key", "from", "to", "by", "format")
_PAGE: Final = ("page_num", "page_size")
_DAY: Final = (
    "((19[7-9][0-9]|2[0-9]{3})-"
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    "|(19(72|76|8[048]|9[26])|2[0-9](0[48]|[2468][048]|[13579][26])|2[048]00)-02-29)"
)
#: Exactly the dates and times from 1970 to 2999, so that a client can check them.
TIME_PATTERN: Final = f"^{_DAY}(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?$"
_is_time: Final = re.compile(TIME_PATTERN).fullmatch


class HistoryRequest(NamedTuple):
    """The arguments of `UsageReports.history`, and whether the reply is CSV."""

    arguments: Mapping[str, Any]
    is_csv: bool

    @classmethod
    def of(cls, request: FullRequest) -> "HistoryRequest":
        """Read the query and the Accept header. Raises InvalidKeyRequest."""
        texts = formats.texts(request.query, (*_TEXTS, *_PAGE))
        form = texts.get("format")
        if form is not None and form not in FORMATS:
            raise InvalidKeyRequest("not a format", remedy="expected json or csv", field="format")
        arguments: dict[str, Any] = {name: formats.number(name, texts[name]) for name in _PAGE if name in texts}
        arguments |= {f"{name}_" if name == "from" else name: sent_time(name, texts[name])
                      for name in ("from", "to") if name in texts}  # fmt: skip
        arguments |= {"key_id": texts.get("key"), "by": texts.get("by", "day")}
        return cls(arguments, form == "csv" or (form is None and prefers_csv(request.request.values(b"accept"))))

    def reply(self, page: Page[UsagePeriod]) -> Reply:
        """The reply with one page of the history."""
        by = self.arguments["by"]
        if self.is_csv:
            return error_responses.download(usage_csv(page.items), b"text/csv; charset=utf-8", f"usage-by-{by}.csv")
        is_paged = any(name in self.arguments for name in _PAGE)
        page_fields = {"total": page.total, "has_more": page.has_more} if is_paged else {}
        data = [period_json(period) for period in page.items]
        return error_responses.document(HTTPStatus.OK, {"by": by, "data": data, **page_fields})


def period_json(period: UsagePeriod) -> dict[str, Any]:
    """Return the usage of one hour or day."""
    return {
        "begins_at": rfc3339(period.begins_at),
        "allowed": period.allowed,
        "refused": period.refused,
        "costs": dict(period.costs),
        "refusals": dict(period.refusals),
        "peak_concurrent": period.peak_concurrent,
        "last_used_at": None if period.last_used_at is None else rfc3339(period.last_used_at),
    }


def sent_time(name: str, text: object) -> datetime:
    """Return the time in a field. Raises InvalidKeyRequest unless it matches `TIME_PATTERN`."""
    if not isinstance(text, str) or not _is_time(text):
        remedy = "expected a date such as 2025-06-01, or a time such as 2025-06-01T10:00:00Z"
        raise InvalidKeyRequest("not a time from 1970 to 2999", remedy=remedy, field=name)
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
