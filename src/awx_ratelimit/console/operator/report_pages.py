"""`ReportPages`: what limits in shadow would have refused, and the audit trail, of all accounts."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from awx_ratelimit.console import usage_view
from awx_ratelimit.console.forms import EMPTY_FORM, invalid_form
from awx_ratelimit.console.operator import words
from awx_ratelimit.console.operator.context import OperatorContext
from awx_ratelimit.console.operator.identity import OperatorRequest
from awx_ratelimit.console.operator.routes import OperatorAction
from awx_ratelimit.console.page_request import Page, PageResponse
from awx_ratelimit.console.view_models import EVENT_TITLES
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.models import ACTIONS, Event
from awx_ratelimit.keys.models import Page as ItemPage

_PAGE_SIZE: Final = 50


class ReportPages:
    """Handles the pages about all accounts."""

    def __init__(self, context: OperatorContext) -> None:
        self._context = context
        self.handlers: Mapping[OperatorAction, Callable[[OperatorRequest], PageResponse]] = {
            "shadow": self._shadow,
            "activity": self._activity,
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
        account = request.query.get("account", "").strip()
        action = next((action for action in ACTIONS if action == request.query.get("action")), None)
        form, status = {**EMPTY_FORM, "values": {"account": account}}, HTTPStatus.OK
        try:
            page = self._events(account or None, action, request.page_num)
        except InvalidKeyRequest as error:
            page = ItemPage((), 0, 1, _PAGE_SIZE)
            form, status = invalid_form(_at_account(error), {"account": account}), HTTPStatus.BAD_REQUEST
        chosen = {"account": "" if status != HTTPStatus.OK else account, "action": action or ""}
        variables = {
            "entries": [words.audit_entry(event) for event in page.items],
            "page": page,
            "action": action,
            "titles": EVENT_TITLES,
            "link": urlencode({name: value for name, value in chosen.items() if value}),
            **form,
        }
        return Page("audit.html", variables, status)

    def _events(self, account_id: str | None, action: str | None, page_num: int) -> ItemPage[Event]:
        return self._context.keys.operator.events(
            account_id=account_id, action=action, page_num=page_num, page_size=_PAGE_SIZE
        )


def _at_account(error: InvalidKeyRequest) -> InvalidKeyRequest:
    """The error at the field of the form."""
    return InvalidKeyRequest(error.what, remedy=error.remedy, field="account")
