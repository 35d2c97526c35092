"""`ExplainPage`: what the gate would do with a request of a method, a path and a key, and why. It charges nothing."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from awx_ratelimit.console.forms import EMPTY_FORM, Forms
from awx_ratelimit.console.operator import words
from awx_ratelimit.console.operator.context import OperatorContext
from awx_ratelimit.console.operator.identity import OperatorRequest
from awx_ratelimit.console.operator.routes import OperatorAction
from awx_ratelimit.console.page_request import Page, PageResponse
from awx_ratelimit.errors import ImpossibleRequest, InvalidKeyRequest, KeyNotFound
from awx_ratelimit.http.explain import AnyGate, explain_path
from awx_ratelimit.http.explanation import Explanation
from awx_ratelimit.keys.format import is_key_id

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_FIELDS: Final = ("method", "path", "key_id", "address")


class ExplainPage:
    """The form, and its result below. It is posted, so that what operators paste into it is in no address."""

    def __init__(self, context: OperatorContext, forms: Forms, gate: AnyGate) -> None:
        self._context = context
        self._forms = forms
        self._gate = gate
        self.handlers: Mapping[OperatorAction, Callable[[OperatorRequest], PageResponse]] = {
            "explain_form": self._form,
            "explain": self._explain,
        }

    def _form(self, request: OperatorRequest) -> Page:
        key_id = request.query.get("key_id", "")
        values = {"key_id": key_id} if is_key_id(key_id) else {}
        return _page({**EMPTY_FORM, "values": values}, None)

    def _explain(self, request: OperatorRequest) -> Page:
        _, fields = self._forms.checked(request, "explain", *_FIELDS)
        try:
            return _page({**EMPTY_FORM, "values": fields}, self._explanation(fields))
        except InvalidKeyRequest as error:
            return _page(self._forms.invalid(error, fields), None, HTTPStatus.BAD_REQUEST)

    def _explanation(self, fields: Mapping[str, str]) -> Explanation:
        key_id, path, address = (fields[name].strip() for name in ("key_id", "path", "address"))
        find_caller = (lambda: self._context.keys.accounts.caller(key_id)) if key_id else None
        try:
            return explain_path(self._gate, fields["method"], path, find_caller, address or None)
        except KeyNotFound as error:
            remedy = "enter the id of a key, which begins with key_, or nothing"
            raise InvalidKeyRequest("there is no such key", remedy=remedy, field="key_id") from error
        except ImpossibleRequest as error:
            what, _, _ = str(error).partition(", got ")
            field = "address" if what.startswith("address: ") else "path"
            raise InvalidKeyRequest(what, remedy="nothing was explained", field=field) from error


def _page(form: Mapping[str, Any], explained: Explanation | None, status: HTTPStatus = HTTPStatus.OK) -> Page:
    return Page("explain.html", {"methods": _METHODS, "explained": explained, "waits": words.wait, **form}, status)
