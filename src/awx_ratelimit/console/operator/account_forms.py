"""`AccountForms`: what operators do to an account. Each form is checked completely before it changes anything.

A form works once: it is valid for the state of the account that its page has shown, and each act changes that state.
So a second operator, or a form that is submitted again, does not undo an act that came in between.
"""

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from types import EllipsisType
from typing import Any, Final
from urllib.parse import urlencode

from awx_ratelimit.console.forms import Forms, whole_number
from awx_ratelimit.console.operator import temporary
from awx_ratelimit.console.operator.account_pages import AccountPages
from awx_ratelimit.console.operator.context import OperatorContext, state_of
from awx_ratelimit.console.operator.identity import OperatorRequest
from awx_ratelimit.console.operator.override_text import MAX_CHARACTERS, overrides_from
from awx_ratelimit.console.operator.routes import OperatorAction
from awx_ratelimit.console.page_request import PageResponse, SeeOther
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.merged_overrides import merged_overrides
from awx_ratelimit.errors import AccountChanged, InvalidKeyRequest, InvalidLimit
from awx_ratelimit.keys.models import Account

_STATE_FIELD: Final = "state"
_Fields = Mapping[str, str]
#: Changes the account, or raises InvalidKeyRequest, which names a field, or AccountChanged.
_Change = Callable[[Account, _Fields, str], object]


class AccountForms:
    """Handles the submitted forms."""

    def __init__(self, context: OperatorContext, forms: Forms, pages: AccountPages) -> None:
        self._context = context
        self._accounts = context.keys.accounts
        self._forms = forms
        self._pages = pages
        act = self._act
        self.handlers: Mapping[OperatorAction, Callable[[OperatorRequest], PageResponse]] = {
            "set_plan": partial(
                act, "plan", ("plan", "max_keys"), self._set_plan, template="account_plan.html", note="plan"
            ),
            "set_temporary": partial(
                act, "temporary", temporary.FIELDS, self._set_temporary, template="account_temporary.html",
                note="temporary",
            ),
            "end_temporary": partial(act, "end", (), self._end_temporary, note="ended"),
            "set_overrides": partial(
                act, "overrides", ("limits",), self._set_overrides, template="account_overrides.html", note="overrides"
            ),
            "suspend": partial(
                act, "suspend", ("account",), self._suspend, template="account_suspend.html", note="suspended"
            ),
            "resume": partial(act, "resume", (), self._resume, note="resumed"),
        }  # fmt: skip

    def _act(
        self,
        action: str,
        names: tuple[str, ...],
        change: _Change,
        request: OperatorRequest,
        *,
        note: str,
        template: str = "",
    ) -> PageResponse:
        """Check the form, then do what it says. Without a `template` the form is a single button."""
        _, fields = self._forms.checked(request, action, _STATE_FIELD, *names)
        account = self._pages.account(request)
        try:
            if fields[_STATE_FIELD] != state_of(account):
                return self._outdated(request, account, template)
            change(account, fields, request.operator.actor)
        except AccountChanged:
            return self._outdated(request, account, template)
        except InvalidKeyRequest as error:
            if not template:
                raise
            form = self._forms.invalid(error, fields, max_characters=MAX_CHARACTERS)
            return self._pages.form_page(request, form, HTTPStatus.BAD_REQUEST, template=template)
        return _back(account, note)

    def _outdated(self, request: OperatorRequest, account: Account, template: str) -> PageResponse:
        if not template:
            return _back(account, "changed")
        return self._pages.form_page(request, status=HTTPStatus.CONFLICT, template=template, has_changed=True)

    def _set_plan(self, account: Account, fields: _Fields, actor: str) -> None:
        plan: str | EllipsisType | None = fields["plan"] or None
        max_keys = whole_number(fields["max_keys"], "max_keys")
        if plan == account.plan:
            plan = ...
        elif plan is not None and plan not in self._context.plan_names:
            raise InvalidKeyRequest("there is no such plan", remedy="choose one from the list", field="plan")
        else:
            self._check(account, plan, account.current_overrides, "plan")
        self._accounts.if_unchanged(account).change(account.id, plan=plan, max_keys=max_keys, actor=actor)

    def _set_temporary(self, account: Account, fields: _Fields, actor: str) -> None:
        overrides, until = temporary.temporary_from(fields, self._context.now(), self._context.keys.finder)
        self._check(account, account.plan, overrides, "limits")
        self._check(account, account.plan, merged_overrides(account.overrides, overrides), "limits")
        self._accounts.if_unchanged(account).override(account.id, overrides, until=until, actor=actor)

    def _end_temporary(self, account: Account, _: _Fields, actor: str) -> None:
        self._accounts.if_unchanged(account).end_override(account.id, actor=actor)

    def _set_overrides(self, account: Account, fields: _Fields, actor: str) -> None:
        overrides = overrides_from(fields["limits"], "limits", self._context.keys.finder) or None
        self._check(account, account.plan, overrides, "limits")
        self._accounts.if_unchanged(account).set_overrides(account.id, overrides, actor=actor)

    def _suspend(self, account: Account, fields: _Fields, actor: str) -> None:
        if fields["account"].strip() != account.id:
            remedy = "type the id shown above"
            raise InvalidKeyRequest("not the id of this account", remedy=remedy, field="account")
        self._accounts.if_unchanged(account).suspend(account.id, actor=actor)

    def _resume(self, account: Account, _: _Fields, actor: str) -> None:
        self._accounts.if_unchanged(account).activate(account.id, actor=actor)

    def _check(self, account: Account, plan: str | None, overrides: Mapping[str, Any] | None, field: str) -> None:
        """Refuse limits that the plan table cannot apply: each request of the account would be refused."""
        try:
            self._context.plans.resolve(Caller(account.id, plan, account.id, overrides))
        except InvalidLimit as error:
            place = error.reason.removeprefix("overrides.")
            raise InvalidKeyRequest(f"in {place}", remedy="nothing was changed", field=field) from error


def _back(account: Account, note: str) -> SeeOther:
    return SeeOther(f"/account?{urlencode({'id': account.id, 'note': note})}")
