"""`AccountPages`: the page of one account, and the empty forms that change it.

The number of statements per page does not grow with the keys.
"""

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from awx_ratelimit.console import usage_view, view_models
from awx_ratelimit.console.forms import EMPTY_FORM
from awx_ratelimit.console.live import live_event
from awx_ratelimit.console.operator import words
from awx_ratelimit.console.operator.context import OperatorContext, state_of
from awx_ratelimit.console.operator.identity import OperatorRequest
from awx_ratelimit.console.operator.override_text import text_of
from awx_ratelimit.console.operator.routes import OperatorAction
from awx_ratelimit.console.operator.temporary import ends
from awx_ratelimit.console.page_request import LiveEvent, Page, PageResponse
from awx_ratelimit.keys.models import Account, ApiKey
from awx_ratelimit.keys.models import Page as ItemPage

#: Keys per page. The current usage of each is looked up separately.
_PAGE_SIZE: Final = 50
_HISTORY_SIZE: Final = 10
_CHANGED: Final = "changed"
_NOTES: Final = {
    _CHANGED: "The account had changed since you opened the page, so nothing was done. This is its current state.",
    "plan": "Plan changed. It applies everywhere within a second.",
    "temporary": "Temporary limits set. They apply everywhere within a second.",
    "ended": "Temporary limits ended.",
    "overrides": "Permanent limits changed. They apply everywhere within a second.",
    "suspended": "Account suspended. Requests with its keys are refused within a second.",
    "resumed": "Account resumed. Requests with its keys are accepted again within a second.",
}


class AccountPages:
    """The page of an account, its live usage, and the pages with a form about it."""

    def __init__(self, context: OperatorContext) -> None:
        self._context = context
        self.handlers: Mapping[OperatorAction, Callable[[OperatorRequest], PageResponse]] = {
            "account": self._account_page,
            "live": self._live,
            "plan_form": partial(self.form_page, template="account_plan.html"),
            "temporary_form": partial(self.form_page, template="account_temporary.html"),
            "overrides_form": partial(self.form_page, template="account_overrides.html"),
            "suspension": partial(self.form_page, template="account_suspend.html"),
        }

    def account(self, request: OperatorRequest) -> Account:
        """The account of the request. Raises AccountNotFound, and InvalidKeyRequest for a malformed id."""
        return self._context.keys.accounts.get(request.account_id)

    def form_page(
        self,
        request: OperatorRequest,
        form: Mapping[str, Any] = EMPTY_FORM,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        template: str,
        has_changed: bool = False,
    ) -> Page:
        """A page with a form. `has_changed`: another act came first, so the form was not accepted."""
        context, account = self._context, self.account(request)
        variables = {
            **self._common(account),
            "plan_names": context.plan_names,
            "ends": ends(context.now()),
            "permanent_text": text_of(account.overrides),
            "key_count": context.keys.list(account.id, page_size=1).total if template == "account_plan.html" else 0,
            "has_changed": has_changed,
            **form,
        }
        return Page(template, variables, status)

    def _account_page(self, request: OperatorRequest) -> Page:
        context, account = self._context, self.account(request)
        keys, now = self._keys(request, account), context.now()
        usage, plan = context.usage(account, keys.items), context.plan(account)
        variables = {
            **self._common(account),
            **self._history(request, account),
            "keys": keys,
            "rows": [view_models.key_row(key, usage.by_key, now) for key in keys.items],
            "shared": view_models.usage_bars(usage.shared),
            "limits": words.limits_view(account, plan, now),
            "entries": [
                words.audit_entry(event) for event in context.keys.events(account.id, page_size=_HISTORY_SIZE).items
            ],
            "note": _NOTES.get(request.query.get("note", ""), ""),
            "note_is_bad": request.query.get("note") == _CHANGED,
            "now": now,
        }
        return Page("account.html", variables)

    def _common(self, account: Account) -> dict[str, Any]:
        return {
            "account": account,
            "state": state_of(account),
            "plan_name": self._context.plan_name(account.plan),
            "flags": words.account_flags(account, self._context.now()),
        }

    def _history(self, request: OperatorRequest, account: Account) -> dict[str, Any]:
        """What the account has used in the chosen span."""
        usage, span = self._context.keys.usage, usage_view.span_of(request.query.get("span", ""))
        from_, plan = span.begins_at(self._context.now()), self._context.plan(account)
        view = usage_view.usage_view(span, usage.history(account.id, from_=from_, by=span.by).items, plan)
        shadows = usage.shadow_refusals(account.id, from_=from_, by=span.by)
        return {
            "view": view,
            "shadows": usage_view.limit_shares(shadows, plan),
            "is_recorded": usage.is_recorded(),
            "spans": usage_view.SPANS,
        }

    def _keys(self, request: OperatorRequest, account: Account) -> ItemPage[ApiKey]:
        return self._context.keys.list(account.id, page_num=request.page_num, page_size=_PAGE_SIZE)

    def _live(self, request: OperatorRequest) -> LiveEvent:
        account = self.account(request)
        keys = self._keys(request, account).items
        return live_event(keys, self._context.usage(account, keys), self._context.now())
