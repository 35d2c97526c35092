"""`KeySearch`: finds the owner of a key that a log shows, even of a revoked one.

A search is posted, and leads to the address of its result. So a whole key that is pasted into it is in no address.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from awx_ratelimit.console.forms import EMPTY_FORM, Forms
from awx_ratelimit.console.operator.context import OperatorContext
from awx_ratelimit.console.operator.identity import OperatorRequest
from awx_ratelimit.console.operator.routes import OperatorAction
from awx_ratelimit.console.page_request import Page, PageResponse, SeeOther
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.key_tracing import traced
from awx_ratelimit.keys.models import TracedKey


class KeySearch:
    """Handles the search for a key."""

    def __init__(self, context: OperatorContext, forms: Forms) -> None:
        self._context = context
        self._forms = forms
        self.handlers: Mapping[OperatorAction, Callable[[OperatorRequest], PageResponse]] = {
            "keys": self._page,
            "find_key": self._find,
        }

    def _page(self, request: OperatorRequest) -> Page:
        shown = request.query.get("shown", "").strip()
        try:
            found = self._context.keys.operator.keys.shown_as(shown) if shown else None
        except InvalidKeyRequest as error:
            return self._invalid(shown, error)
        return _result(found, {**EMPTY_FORM, "values": {"shown": shown}})

    def _find(self, request: OperatorRequest) -> PageResponse:
        _, fields = self._forms.checked(request, "find_key", "shown")
        shown = fields["shown"].strip()
        try:
            traced(shown, self._context.keys.finder)
        except InvalidKeyRequest as error:
            return self._invalid(shown, error)
        return SeeOther(f"/keys?{urlencode({'shown': shown})}")

    def _invalid(self, shown: str, error: InvalidKeyRequest) -> Page:
        """The form, with the error at its field."""
        at_field = InvalidKeyRequest(error.what, remedy=error.remedy, field="shown")
        return _result(None, self._forms.invalid(at_field, {"shown": shown}), HTTPStatus.BAD_REQUEST)


def _result(found: tuple[TracedKey, ...] | None, form: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Page:
    """The page; `found` is None before a search."""
    return Page("find_key.html", {"found": found, **form}, status)
