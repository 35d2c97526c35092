"""`Forms`: reads submitted forms, completely or not at all, and prepares invalid ones for another try.

An invalid field is shown again with its error, unless it may contain a key.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from awx_ratelimit.console.csrf import CsrfProtection
from awx_ratelimit.console.page_request import ConsoleRequest
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.http.header_values import only_value
from awx_ratelimit.keys.scanner import KeyFinder

EMPTY_FORM: Final[Mapping[str, Any]] = {"error": None, "values": {}}
_TOKEN_FIELD: Final = "form"  # noqa: S105  # the name of a field
_MAX_FIELDS: Final = 10
_MAX_DIGITS: Final = 9
_MAX_SHOWN_CHARACTERS: Final = 1_024
_is_form = re.compile(rb"application/x-www-form-urlencoded[ \t]*(;.*)?", re.IGNORECASE).fullmatch


class Forms:
    """Reads forms, and checks that they come from the console's own pages. `finder` finds keys in wrong fields."""

    def __init__(self, csrf: CsrfProtection, finder: KeyFinder) -> None:
        self._csrf = csrf
        self._finder = finder

    def checked(self, request: ConsoleRequest, action: str, *names: str) -> tuple[str, Mapping[str, str]]:
        """The id of the key that the form creates, if any, and the fields `names`; a missing one is empty.

        Raises AccessRefused if the CSRF check fails, and InvalidKeyRequest for repeated or unknown fields.
        """
        fields = _parsed(request, names)
        return self._csrf.check(request, action, fields[_TOKEN_FIELD]), fields

    def invalid(
        self, error: InvalidKeyRequest, fields: Mapping[str, str], *, max_characters: int = _MAX_SHOWN_CHARACTERS
    ) -> dict[str, Any]:
        """The form with its error, for another try. Raises `error` again if it concerns none of the fields.

        Longer values than `max_characters`, and what may be a key, are not shown again.
        """
        if error.field not in fields:
            raise error
        values = {name: self._shown_again(text, max_characters) for name, text in fields.items()}
        return {**EMPTY_FORM, "error": error, "values": values}

    def _shown_again(self, text: str, max_characters: int) -> str:
        return "" if len(text) > max_characters or self._finder.may_contain_key(text) else text


def whole_number(text: str, field: str) -> int:
    """The number in a field. Raises InvalidKeyRequest."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise InvalidKeyRequest("not a whole number", remedy="enter a whole number", field=field)
    return int(text)


def _parsed(request: ConsoleRequest, names: tuple[str, ...]) -> Mapping[str, str]:
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
