"""What requests to the operator's API may contain. Ambiguous input is an error, and no message quotes it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.budget import MAX_SCOPE_LENGTH, is_scope
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.http.message import FullRequest
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.accounts import account_not_found
from awx_ratelimit.keys.scanner import KeyFinder
from awx_ratelimit.management import formats
from awx_ratelimit.management.limits import OWN_SUBJECTS
from awx_ratelimit.management.usage_history import sent_time

TIMES: Final = ("from", "to", "by")
PAGE: Final = ("page_num", "page_size")
#: The names of plans in a query: a document cannot say which other characters are visible.
PLAN_PATTERN: Final = "^[!-~]([ -~]{0,126}[!-~])?$"
_is_plan: Final = re.compile(PLAN_PATTERN).fullmatch
_CHANGES: Final = ("plan", "overrides", "max_keys")
_OVERRIDE: Final = ("overrides", "times", "until")
#: A path has no slash in a segment, and clients resolve ``.`` and ``..``. As in a JSON Pointer (RFC 6901).
_ESCAPES: Final = {"~0": "~", "~1": "/", "~2": "."}
_is_segment: Final = re.compile(r"([^~]|~[012])+").fullmatch


class OperatorRequest(NamedTuple):
    """A request of `actor`. `segment` is the part of the path that names an account."""

    actor: str
    segment: str
    full_request: FullRequest

    @property
    def account_id(self) -> str:
        """The id of the account in the path. Raises AccountNotFound if no account can have it."""
        if _is_segment(self.segment) is None:
            raise account_not_found()
        try:
            return validation.account_id(re.sub("~[012]", lambda escape: _ESCAPES[escape[0]], self.segment))
        except InvalidKeyRequest:
            raise account_not_found() from None

    def query(self, *allowed: str, numbers: Sequence[str] = ()) -> dict[str, Any]:
        """Return the texts and the `numbers` of the query, with `from` and `to` as times, by names of arguments."""
        found = formats.texts(self.full_request.query, (*allowed, *numbers))
        return {_argument(name): _value(name, text, numbers) for name, text in found.items()}

    def nothing(self) -> None:
        """Check that there is neither a query nor a field in the body."""
        self.query()
        formats.fields(self.full_request, ())

    def changes(self) -> Mapping[str, Any]:
        """Return the arguments of `Accounts.change`."""
        self.query()
        found = formats.fields(self.full_request, _CHANGES, nullable=("plan", "overrides"))
        if not found:
            raise InvalidKeyRequest("the body has no fields", remedy=f"send one of {', '.join(_CHANGES)}")
        return found

    def override(self) -> Mapping[str, Any]:
        """Return the arguments of `Accounts.override`."""
        self.query()
        found = formats.fields(self.full_request, _OVERRIDE, required=["until"])
        if ("times" in found) == ("overrides" in found):
            got = "both times and overrides" if "times" in found else "neither times nor overrides"
            remedy = "send either overrides, or times for a multiple of all limits"
            raise InvalidKeyRequest(f"the body has {got}", remedy=remedy)
        overrides = found["overrides"] if "overrides" in found else {"times": found["times"]}
        return {"overrides": overrides, "until": sent_time("until", found["until"])}

    def reset(self, finder: KeyFinder) -> tuple[str, str | None]:
        """Return the subject whose usage is to be reset, and the scope. `finder` finds keys of the service."""
        self.query()
        found = formats.fields(self.full_request, ("subject", "scope"), required=["subject"])
        subject, scope = _subject(found["subject"], finder), found.get("scope")
        if scope is not None and not (isinstance(scope, str) and is_scope(scope)):
            remedy = f"expected 1 to {MAX_SCOPE_LENGTH} of a-z, 0-9, _ and -"
            raise InvalidKeyRequest("not a scope", remedy=remedy, field="scope")
        return subject, scope


def _subject(value: object, finder: KeyFinder) -> str:
    subject = validation.subject(value, finder)
    if subject.startswith(OWN_SUBJECTS):
        # Else operators would have no limit.
        what = "is that of a limit of the REST APIs, which cannot be reset"
        remedy = "expected a key, an account or another subject of your app"
        raise InvalidKeyRequest(what, remedy=remedy, field="subject")
    return subject


def _argument(name: str) -> str:
    return f"{name}_" if name == "from" else name


def _value(name: str, text: str, numbers: Sequence[str]) -> Any:
    if name in numbers:
        return formats.number(name, text)
    if name == "plan" and _is_plan(text) is None:
        raise InvalidKeyRequest("not a name", remedy="expected 1 to 128 ASCII characters", field=name)
    return sent_time(name, text) if name in ("from", "to") else text
