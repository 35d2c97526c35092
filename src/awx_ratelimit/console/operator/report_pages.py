"""`ReportPages`: what shadow limits would have refused, and the audit trail, of all accounts."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from awx_ratelimit.console import usage_view
from awx_ratelimit.console.forms import EMPTY_FORM, Forms
from awx_ratelimit.console.operator import words
from awx_ratelimit.console.operator.context import OperatorContext
from awx_ratelimit.console.operator.identity import OperatorRequest
from awx_ratelimit.console.operator.routes import OperatorAction
from awx_ratelimit.console.page_request import Page, PageResponse, SeeOther
from awx_ratelimit.console.view_models import EVENT_TITLES
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.models import ACTIONS, Event
from awx_ratelimit.keys.models import Page as ItemPage
from awx_ratelimit.keys.validation import account_id

_PAGE_SIZE: Final = 50


class ReportPages:
    """Handles the pages about all accounts."""

    def __init__(self, context: OperatorContext, forms: Forms) -> None:
        self._context = context
        self._forms = forms
        self.handlers: Mapping[OperatorAction, Callable[[OperatorRequest], PageResponse]] = {
            "shadow": self._shadow,
            "activity": self._activity,
            "find_activity": self._find,
        }

    def _shadow(self, request: OperatorRequest) -> Page:
        span = usage_view.span_of(request.query.get("span", ""))
        found = self._context.keys.operator.shadow_refusals(from_=span.begins_at(self._context.now()), by=span.by)
        variables = {
            "limits": usage_view.limit_shares(found.limits, None),
            "accounts": found.accounts,
            "is_recorded": self._context.keys.usage.is_recorded(),
            "span": span,
            "spans": usage_view.SPANS,
        }
        return Page("shadow.html", variables)

    def _activity(self, request: OperatorRequest) -> Page:
        account, action = _chosen(request.query)
        try:
            page = self._events(account or None, action or None, request.page_num)
        except InvalidKeyRequest as error:
            return self._invalid(account, action, error)
        return _trail(page, account, action, {**EMPTY_FORM, "values": {"account": account}})

    def _find(self, request: OperatorRequest) -> PageResponse:
        _, fields = self._forms.checked(request, "find_activity", "account", "action")
        account, action = _chosen(fields)
        try:
            if account:
                account_id(account, self._context.keys.finder)
        except InvalidKeyRequest as error:
            return self._invalid(account, action, error)
        return SeeOther(f"/activity?{_query(account, action)}")

    def _events(self, account_id: str | None, action: str | None, page_num: int) -> ItemPage[Event]:
        return self._context.keys.operator.events(
            account_id=account_id, action=action, page_num=page_num, page_size=_PAGE_SIZE
        )

    def _invalid(self, account: str, action: str, error: InvalidKeyRequest) -> Page:
        """An empty list, with the error at the field of the account."""
        at_field = InvalidKeyRequest(error.what, remedy=error.remedy, field="account")
        form = self._forms.invalid(at_field, {"account": account})
        return _trail(ItemPage((), 0, 1, _PAGE_SIZE), "", action, form, HTTPStatus.BAD_REQUEST)


def _chosen(fields: Mapping[str, str]) -> tuple[str, str]:
    """The account and the action to list; empty for all."""
    action = fields.get("action", "")
    return fields.get("account", "").strip(), action if action in ACTIONS else ""


def _query(account: str, action: str) -> str:
    return urlencode({name: value for name, value in (("account", account), ("action", action)) if value})


def _trail(
    page: ItemPage[Event], account: str, action: str, form: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK
) -> Page:
    variables = {
        "entries": [words.audit_entry(event) for event in page.items],
        "page": page,
        "action": action,
        "titles": EVENT_TITLES,
        "link": _query(account, action),
        **form,
    }
    return Page("audit.html", variables, status)
