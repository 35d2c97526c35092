"""`FormHandlers`: create, rename, rotate and delete. Each checks the form completely before it changes anything.

A new key is in one response only.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus

from awx_ratelimit.console import view_models
from awx_ratelimit.console.csrf import CsrfProtection
from awx_ratelimit.console.forms import Forms, whole_number
from awx_ratelimit.console.page_context import PageContext
from awx_ratelimit.console.page_handlers import PageHandlers
from awx_ratelimit.console.page_request import Page, PageRequest, PageResponse, SeeOther
from awx_ratelimit.console.routes import Action
from awx_ratelimit.errors import InvalidKeyRequest, KeyExists
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.keys.validation import readable_text
from awx_ratelimit.management.limits import IssuedKey


class FormHandlers:
    """Handles the submitted forms."""

    def __init__(self, context: PageContext, csrf: CsrfProtection, pages: PageHandlers) -> None:
        self._context = context
        self._forms = Forms(csrf, context.keys.finder)
        self._pages = pages
        self.handlers: Mapping[Action, Callable[[PageRequest], PageResponse]] = {
            "create": self._create,
            "rename": self._rename,
            "rotate": self._rotate,
            "delete": self._delete,
        }

    def _create(self, request: PageRequest) -> PageResponse:
        key_id, fields = self._forms.checked(request, "create", "name", "expires_in_days")
        days = fields["expires_in_days"]
        try:
            readable_text(fields["name"], finder=self._context.keys.finder)
            options = {"expires_in_days": whole_number(days, "expires_in_days")} if days else {}
            return self._issue(
                request,
                key_id,
                lambda: self._context.issuer.create(request.owner, name=fields["name"], key_id=key_id, **options),
            )
        except InvalidKeyRequest as error:
            return Page("new.html", self._forms.invalid(error, fields), HTTPStatus.BAD_REQUEST)

    def _rotate(self, request: PageRequest) -> PageResponse:
        new_id, fields = self._forms.checked(request, "rotate", "grace_period_seconds")
        try:
            grace_seconds = whole_number(fields["grace_period_seconds"], "grace_period_seconds")
            return self._issue(
                request,
                new_id,
                lambda: self._context.issuer.rotate(
                    request.owner, request.key_id, grace_period_seconds=grace_seconds, successor_id=new_id
                ),
            )
        except InvalidKeyRequest as error:
            form = self._forms.invalid(error, fields)
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
        _, fields = self._forms.checked(request, "rename", "name")
        account_id, actor = request.owner
        try:
            self._context.keys.rename(account_id, request.key_id, fields["name"], actor=actor)
        except InvalidKeyRequest as error:
            return self._pages.key_page(request, self._forms.invalid(error, fields), HTTPStatus.BAD_REQUEST)
        return SeeOther(f"/keys/{request.key_id}?note=renamed")

    def _delete(self, request: PageRequest) -> PageResponse:
        _, fields = self._forms.checked(request, "delete", "name")
        account_id, actor = request.owner
        key = self._context.keys.get(account_id, request.key_id)
        if not _is_name_of(key, fields["name"]):
            error = InvalidKeyRequest("not the name of this key", remedy="type the name shown above", field="name")
            form = self._forms.invalid(error, fields)
            return self._pages.form_page(request, form, HTTPStatus.BAD_REQUEST, template="delete.html")
        self._context.keys.revoke(account_id, request.key_id, actor=actor)
        return SeeOther("/?note=deleted")


def _already_created(key: ApiKey | None) -> Page:
    return Page("already.html", {"key": key}, HTTPStatus.CONFLICT)


def _is_name_of(key: ApiKey, text: str) -> bool:
    try:
        return readable_text(text) == key.name
    except InvalidKeyRequest:
        return False
