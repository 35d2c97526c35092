"""`Changing`: the forms that were sent. Each is looked at before anything is done; a key is told in one answer.

What the store refuses of a field is said beside it, with what was written still there; unless it may be a key.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from awx_ratelimit.console import activity, form_parsing
from awx_ratelimit.console.csrf import Forms
from awx_ratelimit.console.page_context import Sources
from awx_ratelimit.console.page_handlers import EMPTY_FORM, Reading
from awx_ratelimit.console.page_request import Answered, Page, SeeOther, Visit
from awx_ratelimit.console.routes import Shown
from awx_ratelimit.errors import InvalidKeyRequest, KeyExists
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.keys.name_rules import readable_text
from awx_ratelimit.keys.scanner import FINDER
from awx_ratelimit.management.issuing import Made

_SHOWN_AGAIN: Final = 1_024


class Changing:
    """Create, rename, rotate and delete."""

    def __init__(self, sources: Sources, forms: Forms) -> None:
        self._sources = sources
        self._forms = forms
        self._reading = Reading(sources)
        self.acts: Mapping[Shown, Callable[[Visit], Answered]] = {
            "create": self._create,
            "rename": self._rename,
            "rotate": self._rotate,
            "delete": self._delete,
        }

    def _create(self, visit: Visit) -> Answered:
        key_id, found = self._sent(visit, "create", "name", "expires_in_days")
        days = found["expires_in_days"]
        try:
            readable_text(found["name"])
            asked = {"expires_in_days": form_parsing.number(days, "expires_in_days")} if days else {}
            return self._made(
                visit,
                key_id,
                lambda: self._sources.making.create(visit.owner, name=found["name"], key_id=key_id, **asked),
            )
        except InvalidKeyRequest as error:
            return Page("new.html", _again(error, found), HTTPStatus.BAD_REQUEST)

    def _rotate(self, visit: Visit) -> Answered:
        successor_id, found = self._sent(visit, "rotate", "grace_period_seconds")
        try:
            grace = form_parsing.number(found["grace_period_seconds"], "grace_period_seconds")
            return self._made(
                visit,
                successor_id,
                lambda: self._sources.making.rotate(
                    visit.owner, visit.key_id, grace_period_seconds=grace, successor_id=successor_id
                ),
            )
        except InvalidKeyRequest as error:
            page = self._reading.form_page(visit, "rotate.html", _again(error, found))
            return Page(page.template, page.shown, HTTPStatus.BAD_REQUEST)

    def _made(self, visit: Visit, key_id: str, make: Callable[[], Made]) -> Page:
        """The page with the new key; of a form that was sent before the page that says so."""
        known = self._sources.key(visit.owner, key_id)
        if known is not None:
            return _already(known)
        try:
            decision, created = make()
        except KeyExists:
            return _already(self._sources.key(visit.owner, key_id))
        if created is None:
            refusal = limit_headers.refusal(decision)
            later = tuple(line for line in refusal.headers if line[0] == error_responses.RETRY_HEADER)
            wait_s = -(-decision.retry_after_ms // 1000)
            return Page("wait.html", {"wait_s": wait_s}, HTTPStatus(refusal.status), later)
        now, key = self._sources.now(), created.key
        old = self._sources.key(visit.owner, key.rotated_from)
        steps = () if key.rotated_from is None else activity.steps(old, key, now)
        return Page("created.html", {"key": key, "secret": created.secret, "old": old, "steps": steps})

    def _rename(self, visit: Visit) -> Answered:
        _, found = self._sent(visit, "rename", "name")
        try:
            self._sources.keys.rename(visit.owner.account_id, visit.key_id, found["name"], actor=visit.owner.actor)
        except InvalidKeyRequest as error:
            page = self._reading.key_page(visit, _again(error, found) | {"name": _shown_again(found["name"])})
            return Page(page.template, page.shown, HTTPStatus.BAD_REQUEST)
        return SeeOther(f"/keys/{visit.key_id}?note=renamed")

    def _delete(self, visit: Visit) -> Answered:
        _, found = self._sent(visit, "delete", "name")
        account_id, actor = visit.owner
        key = self._sources.keys.get(account_id, visit.key_id)
        if not _is_name_of(key, found["name"]):
            error = InvalidKeyRequest("is not the name of this key", remedy="write it as it stands above", field="name")
            page = self._reading.form_page(visit, "delete.html", _again(error, found))
            return Page(page.template, page.shown, HTTPStatus.BAD_REQUEST)
        self._sources.keys.revoke(account_id, visit.key_id, actor=actor)
        return SeeOther("/?note=deleted")

    def _sent(self, visit: Visit, act: str, *fields: str) -> tuple[str, Mapping[str, str]]:
        """The id of the key that the form will make, and its fields, of a form that is ours."""
        found = form_parsing.fields(visit.whole, fields)
        return self._forms.check(visit, act, found[form_parsing.TOKEN]), found


def _already(key: ApiKey | None) -> Page:
    return Page("already.html", {"key": key}, HTTPStatus.CONFLICT)


def _is_name_of(key: ApiKey, text: str) -> bool:
    try:
        return readable_text(text) == key.name
    except InvalidKeyRequest:
        return False


def _again(error: InvalidKeyRequest, found: Mapping[str, str]) -> dict[str, Any]:
    """What the form is shown with once more."""
    if error.field not in found:
        raise error
    return {**EMPTY_FORM, "error": error, "sent": {name: _shown_again(text) for name, text in found.items()}}


def _shown_again(text: str) -> str:
    """What was written, unless it may be a key that somebody pasted into the wrong field."""
    return "" if len(text) > _SHOWN_AGAIN or FINDER.suspects(text) else text
