"""`UsageHandlers`: the pages of the usage history, of the account and of each key, and the same as CSV.

The number of statements per page does not grow with the keys.
"""

from collections.abc import Callable, Mapping
from typing import Final

from awx_ratelimit.console import usage_view, view_models
from awx_ratelimit.console.page_context import PageContext
from awx_ratelimit.console.page_request import Download, Page, PageRequest, PageResponse
from awx_ratelimit.console.routes import Action
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.keys.usage_csv import usage_csv
from awx_ratelimit.keys.usage_reports import BusyKey, UsagePeriod

_BUSIEST: Final = 10


class UsageHandlers:
    """Handles the pages whose path ends with ``/usage`` and ``/usage.csv``."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self.handlers: Mapping[Action, Callable[[PageRequest], PageResponse]] = {
            "usage": self._page,
            "usage_csv": self._csv,
        }

    def _page(self, request: PageRequest) -> Page:
        context, span = self._context, _span(request)
        account, key = context.account(request.owner), self._key(request)
        view = usage_view.usage_view(span, self._periods(request), context.plan(request.owner, account))
        busiest = () if key or view.is_empty else self._busiest(request)
        variables = {
            "view": view,
            "row": view_models.key_row(key, None, context.now()) if key else None,
            "quotas": context.usage(account, [key] if key else []).quotas,
            "busiest": busiest,
            "busiest_shares": usage_view.shares({each.key_id: each.allowed + each.refused for each in busiest}),
            "is_recorded": not view.is_empty or context.keys.usage.is_recorded(),
            "spans": usage_view.SPANS,
            "now": context.now(),
        }
        return Page("usage.html", variables)

    def _csv(self, request: PageRequest) -> Download:
        self._key(request)
        return Download(
            usage_csv(self._periods(request)), "text/csv; charset=utf-8", f"usage-{_span(request).name}.csv"
        )

    def _key(self, request: PageRequest) -> ApiKey | None:
        """The key in the path. Raises KeyNotFound for one that is revoked, unknown or another account's."""
        return self._context.keys.get(request.owner.account_id, request.key_id) if request.key_id else None

    def _periods(self, request: PageRequest) -> tuple[UsagePeriod, ...]:
        span = _span(request)
        from_ = span.begins_at(self._context.now())
        usage = self._context.keys.usage
        return usage.history(request.owner.account_id, key_id=request.key_id or None, from_=from_, by=span.by).items

    def _busiest(self, request: PageRequest) -> tuple[BusyKey, ...]:
        span = _span(request)
        from_ = span.begins_at(self._context.now())
        return self._context.keys.usage.busiest(request.owner.account_id, from_=from_, by=span.by, number=_BUSIEST)


def _span(request: PageRequest) -> usage_view.Span:
    return usage_view.span_of(request.query.get("span", ""))
