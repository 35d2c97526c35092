"""`AccountList`: all accounts, with a search, filters, orders and pages.

A search is posted, and leads to the address of its result. So a key that is pasted into it is in no address.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, get_args
from urllib.parse import urlencode

from awx_ratelimit.console.forms import EMPTY_FORM, Forms
from awx_ratelimit.console.operator import words
from awx_ratelimit.console.operator.context import OperatorContext, PlanName
from awx_ratelimit.console.operator.identity import OperatorRequest
from awx_ratelimit.console.operator.routes import OperatorAction
from awx_ratelimit.console.page_request import Page, PageResponse, SeeOther
from awx_ratelimit.console.usage_view import SPANS, Span, span_of
from awx_ratelimit.console.view_models import Flag
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.models import Account, AccountStatus
from awx_ratelimit.keys.models import Page as ItemPage
from awx_ratelimit.keys.operator_reports import Order
from awx_ratelimit.keys.storage.operator_queries import AccountUsage
from awx_ratelimit.keys.validation import account_id

_PAGE_SIZE: Final = 50
_FIELDS: Final = ("prefix", "plan", "status", "order", "span")
_ORDERS: Final[Mapping[Order, str]] = {"id": "Id", "requests": "Most requests", "refusals": "Most refusals"}
_STATUSES: Final[tuple[AccountStatus, ...]] = get_args(AccountStatus)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What the list shows. None and empty mean all."""

    prefix: str
    plan: str | None
    status: AccountStatus | None
    order: Order
    span: Span

    def link(self, **changes: Any) -> str:
        """The query of a link to the first page of this list with `changes`."""
        new = replace(self, **changes)
        fields = {"prefix": new.prefix, "plan": new.plan, "status": new.status, "order": new.order}
        return urlencode({name: value for name, value in fields.items() if value} | {"span": new.span.name})

    @property
    def is_filtered(self) -> bool:
        """Whether the list may leave accounts out because of its filters."""
        return bool(self.prefix or self.plan or self.status)


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account in the list, with its requests in the span."""

    account: Account
    plan: PlanName
    flags: tuple[Flag, ...]
    allowed: int
    refused: int


class AccountList:
    """Handles the first page."""

    def __init__(self, context: OperatorContext, forms: Forms) -> None:
        self._context = context
        self._forms = forms
        self.handlers: Mapping[OperatorAction, Callable[[OperatorRequest], PageResponse]] = {
            "accounts": self._page,
            "find": self._find,
        }

    def _page(self, request: OperatorRequest) -> Page:
        query = self._query(request.query)
        try:
            found = self._found(query, request.page_num)
        except InvalidKeyRequest as error:
            return self._invalid(query, error)
        return self._shown(query, found, {**EMPTY_FORM, "values": {"prefix": query.prefix}}, HTTPStatus.OK)

    def _find(self, request: OperatorRequest) -> PageResponse:
        _, fields = self._forms.checked(request, "find", *_FIELDS)
        query = self._query(fields)
        try:
            if query.prefix:
                account_id(query.prefix, self._context.keys.finder, field="prefix")
        except InvalidKeyRequest as error:
            return self._invalid(query, error)
        return SeeOther(f"/?{query.link()}")

    def _invalid(self, query: ListQuery, error: InvalidKeyRequest) -> Page:
        """An empty list, with the error at the search: everything else in the query has a fallback."""
        form = self._forms.invalid(error, {"prefix": query.prefix})
        return self._shown(replace(query, prefix=""), ItemPage((), 0, 1, _PAGE_SIZE), form, HTTPStatus.BAD_REQUEST)

    def _query(self, query: Mapping[str, str]) -> ListQuery:
        plan = query.get("plan")
        return ListQuery(
            query.get("prefix", "").strip(),
            plan if plan in self._context.plan_names else None,
            next((status for status in _STATUSES if status == query.get("status")), None),
            next((order for order in _ORDERS if order == query.get("order")), "id"),
            span_of(query.get("span", "")),
        )

    def _found(self, query: ListQuery, page_num: int) -> ItemPage[AccountUsage]:
        return self._context.keys.operator.accounts(
            prefix=query.prefix or None,
            plan=query.plan,
            status=query.status,
            order=query.order,
            from_=query.span.begins_at(self._context.now()),
            by=query.span.by,
            page_num=page_num,
            page_size=_PAGE_SIZE,
        )

    def _shown(
        self, query: ListQuery, found: ItemPage[AccountUsage], form: Mapping[str, Any], status: HTTPStatus
    ) -> Page:
        variables = {
            "rows": [self._row(item) for item in found.items],
            "found": found,
            "query": query,
            "orders": _ORDERS,
            "statuses": _STATUSES,
            "plans": self._context.plan_names,
            "spans": SPANS,
            **form,
        }
        return Page("accounts.html", variables, status)

    def _row(self, item: AccountUsage) -> AccountRow:
        account = item.account
        flags = words.account_flags(account, self._context.now())
        return AccountRow(account, self._context.plan_name(account.plan), flags, item.allowed, item.refused)
