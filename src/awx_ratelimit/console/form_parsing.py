"""What a form has sent, read strictly: each field that was asked for once, and no others. No error quotes it."""

import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.http.header_values import only_value
from awx_ratelimit.http.message import WholeRequest

_is_form = re.compile(rb"application/x-www-form-urlencoded[ \t]*(;.*)?", re.IGNORECASE).fullmatch
_MOST_DIGITS = 9
#: The field that carries a form's token.
TOKEN = "form"  # noqa: S105  # a name, and no secret


def fields(whole: WholeRequest, allowed: Collection[str]) -> Mapping[str, str]:
    """The fields of the form in the body; one that is missing is empty. Raises InvalidKeyRequest."""
    kind = only_value(whole.request.values(b"content-type"))
    if kind is None or not _is_form(kind.strip()):
        raise InvalidKeyRequest("the body is no form", remedy="send the form of the page")
    try:
        pairs = parse_qsl(whole.body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=10)
    except ValueError:
        raise InvalidKeyRequest("the form cannot be read", remedy="send the form of the page") from None
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= {TOKEN, *allowed}:
        raise InvalidKeyRequest("the form has what is not known", remedy="send the form of the page")
    return {name: found.get(name, "") for name in (TOKEN, *allowed)}


def number(text: str, field: str) -> int:
    """The whole number that was written. Raises InvalidKeyRequest."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise InvalidKeyRequest("is no number", remedy="write a whole number", field=field)
    return int(text)
