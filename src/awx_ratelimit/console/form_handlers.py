"""`FormHandlers`: create, rename, rotate and delete. Each checks the form completely before it changes anything.

An invalid field is shown again with its error, unless it may contain a key. A new key is in one response only.
"""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from awx_ratelimit.console import view_models
from awx_ratelimit.console.csrf import CsrfProtection
from awx_ratelimit.console.page_context import PageContext
from awx_ratelimit.console.page_handlers import EMPTY_FORM, PageHandlers
from awx_ratelimit.console.page_request import Action, Page, PageRequest, PageResponse, SeeOther
from awx_ratelimit.errors import InvalidKeyRequest, KeyExists
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.http.header_values import only_value
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.keys.scanner import FINDER
from awx_ratelimit.keys.validation import readable_text
from awx_ratelimit.management.limits import IssuedKey

_TOKEN_FIELD: Final = "form"  # noqa: S105  # the name of a field
_MAX_FIELDS: Final = 10
_MAX_DIGITS: Final = 9
#: Longer values are not shown again.
_MAX_SHOWN_CHARACTERS: Final = 1_024
_is_form = re.compile(rb"application/x-www-form-urlencoded[ \t]*(;.*)?", re.IGNORECASE).fullmatch


class FormHandlers:
    """Handles the submitted forms."""

    def __init__(self, context: PageContext, csrf: CsrfProtection, pages: PageHandlers) -> None:
        self._context = context
        self._csrf = csrf
        self._pages = pages
        self.handlers: Mapping[Action, Callable[[PageRequest], PageResponse]] = {
            "create": self._create,
            "rename": self._rename,
            "rotate": self._rotate,
            "delete": self._delete,
        }

    def _create(self, request: PageRequest) -> PageResponse:
        key_id, fields = self._checked(request, "create", "name", "expires_in_days")
        days = fields["expires_in_days"]
        try:
            readable_text(fields["name"])
            options = {"expires_in_days": _number(days, "expires_in_days")} if days else {}
            return self._issue(
                request,
                key_id,
                lambda: self._context.issuer.create(request.owner, name=fields["name"], key_id=key_id, **options),
            )
        except InvalidKeyRequest as error:
            return Page("new.html", _invalid_form(error, fields), HTTPStatus.BAD_REQUEST)

    def _rotate(self, request: PageRequest) -> PageResponse:
        new_id, fields = self._checked(request, "rotate", "grace_period_seconds")
        try:
            grace_seconds = _number(fields["grace_period_seconds"], "grace_period_seconds")
            return self._issue(
                request,
                new_id,
                lambda: self._context.issuer.rotate(
                    request.owner, request.key_id, grace_period_seconds=grace_seconds, successor_id=new_id
                ),
            )
        except InvalidKeyRequest as error:
            form = _invalid_form(error, fields)
            return self._pages.form_page(request, form, HTTPStatus.BAD_REQUEST, template="rotate.html")

    def _issue(self, request: PageRequest, key_id: str, issue: Callable[[], IssuedKey]) -> Page:
        """The page that shows the new key; for a form that was submitted before, the page that says so."""
        existing = self._context.key(request.owner, key_id)
        if existing is not None:
            return _already_created(existing)
        try:
            decision, created = issue()
        except KeyExists:
            return _already_created(self._context.key(request.owner, key_id))
        if created is None:
            refusal = limit_headers.refusal(decision)
            retry_header = tuple(line for line in refusal.headers if line[0] == error_responses.RETRY_HEADER)
            wait_seconds = -(-decision.retry_after_ms // 1000)
            return Page("wait.html", {"wait_seconds": wait_seconds}, HTTPStatus(refusal.status), retry_header)
        now, key = self._context.now(), created.key
        old = self._context.key(request.owner, key.rotated_from)
        steps = () if key.rotated_from is None else view_models.rotation_steps(old, key, now)
        return Page("created.html", {"key": key, "secret": created.secret, "old": old, "steps": steps})

    def _rename(self, request: PageRequest) -> PageResponse:
        _, fields = self._checked(request, "rename", "name")
        account_id, actor = request.owner
        try:
            self._context.keys.rename(account_id, request.key_id, fields["name"], actor=actor)
        except InvalidKeyRequest as error:
            return self._pages.key_page(request, _invalid_form(error, fields), HTTPStatus.BAD_REQUEST)
        return SeeOther(f"/keys/{request.key_id}?note=renamed")

    def _delete(self, request: PageRequest) -> PageResponse:
        _, fields = self._checked(request, "delete", "name")
        account_id, actor = request.owner
        key = self._context.keys.get(account_id, request.key_id)
        if not _is_name_of(key, fields["name"]):
            error = InvalidKeyRequest("not the name of this key", remedy="type the name shown above", field="name")
            form = _invalid_form(error, fields)
            return self._pages.form_page(request, form, HTTPStatus.BAD_REQUEST, template="delete.html")
        self._context.keys.revoke(account_id, request.key_id, actor=actor)
        return SeeOther("/?note=deleted")

    def _checked(self, request: PageRequest, action: str, *names: str) -> tuple[str, Mapping[str, str]]:
        """The id of the key that the form creates, and its fields. Raises AccessRefused if the CSRF check fails."""
        fields = _parsed(request, names)
        return self._csrf.check(request, action, fields[_TOKEN_FIELD]), fields


def _parsed(request: PageRequest, names: tuple[str, ...]) -> Mapping[str, str]:
    """The fields of the form; a missing one is empty. Raises InvalidKeyRequest for repeated or unknown fields."""
    remedy = "submit the form on the page"
    content_type = only_value(request.full_request.request.values(b"content-type"))
    if content_type is None or not _is_form(content_type.strip()):
        raise InvalidKeyRequest("the body is not a form", remedy=remedy)
    try:
        text = request.full_request.body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidKeyRequest("the form cannot be parsed", remedy=remedy) from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or not fields.keys() <= {_TOKEN_FIELD, *names}:
        raise InvalidKeyRequest("the form has repeated or unknown fields", remedy=remedy)
    return {name: fields.get(name, "") for name in (_TOKEN_FIELD, *names)}


def _number(text: str, field: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise InvalidKeyRequest("not a whole number", remedy="enter a whole number", field=field)
    return int(text)


def _already_created(key: ApiKey | None) -> Page:
    return Page("already.html", {"key": key}, HTTPStatus.CONFLICT)


def _is_name_of(key: ApiKey, text: str) -> bool:
    try:
        return readable_text(text) == key.name
    except InvalidKeyRequest:
        return False


def _invalid_form(error: InvalidKeyRequest, fields: Mapping[str, str]) -> dict[str, Any]:
    """The form with its error, for another try. Raises `error` again if it concerns none of the fields."""
    if error.field not in fields:
        raise error
    return {**EMPTY_FORM, "error": error, "values": {name: _shown_again(text) for name, text in fields.items()}}


def _shown_again(text: str) -> str:
    """The submitted text; empty if it is long, or may be a key that was pasted into the wrong field."""
    return "" if len(text) > _MAX_SHOWN_CHARACTERS or FINDER.may_contain_key(text) else text
