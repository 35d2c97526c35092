"""What came with a request, read strictly: the fields of a JSON body, the numbers of a query.

What can be read in two ways is read in neither: a name that stands twice, a number that is none, a field that nobody
asked for. No error quotes what was sent.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from awx_ratelimit.errors import InvalidKeyRequest, KeyRequestRefused
from awx_ratelimit.http.header_values import only_value
from awx_ratelimit.http.message import FullRequest

_MOST_QUERY_BYTES: Final = 1_024
_is_json = re.compile(
    rb"application/json[ \t]*(;[ \t]*charset[ \t]*=[ \t]*\"?utf-8\"?[ \t]*)?", re.IGNORECASE
).fullmatch
_is_number = re.compile(r"[0-9]{1,9}").fullmatch


class NotJson(KeyRequestRefused):
    """The body does not come as JSON in UTF-8, or does not say so once."""

    code = "unsupported_media_type"


def fields(whole: FullRequest, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """The fields of the JSON object in the body, none of them null; no body is no fields.

    Raises InvalidKeyRequest for anything else, and NotJson.
    """
    found = _object(whole) if whole.body else {}
    if not found.keys() <= set(allowed):
        raise InvalidKeyRequest("there are fields that are not known", remedy=f"allowed are {', '.join(allowed)}")
    for field in allowed:
        if field in required and field not in found:
            raise InvalidKeyRequest("is missing", remedy="it is required", field=field)
        if field in found and found[field] is None:
            raise InvalidKeyRequest("is null", remedy="give it a value, or leave it out", field=field)
    return found


def numbers(query: bytes, allowed: Collection[str]) -> dict[str, int]:
    """The numbers that a query gives by name. Raises InvalidKeyRequest."""
    try:
        # Nothing beyond the bound is parsed: the list below refuses it anyway.
        text = query[: _MOST_QUERY_BYTES + 1].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=10)
    except ValueError:
        raise InvalidKeyRequest("the query cannot be read", remedy="write it as name=number&name=number") from None
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= set(allowed) or len(query) > _MOST_QUERY_BYTES:
        remedy = f"allowed are {', '.join(allowed)}, each once" if allowed else "allowed is none"
        raise InvalidKeyRequest("the query has what is not known", remedy=remedy)
    for name, text in found.items():
        if not _is_number(text):
            raise InvalidKeyRequest("is no number", remedy="allowed is a whole number of at most 9 digits", field=name)
    return {name: int(text) for name, text in found.items()}


def _object(whole: FullRequest) -> dict[str, Any]:
    kind = only_value(whole.request.values(b"content-type"))
    if kind is None or not _is_json(kind.strip(b" \t")):
        raise NotJson("the body does not come as JSON", remedy="send it once with Content-Type: application/json")
    try:
        # Of itself, `json` also takes UTF-16, and NaN.
        text = whole.body.decode("utf-8")
        found = json.loads(text, object_pairs_hook=_unique, parse_float=_number, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise InvalidKeyRequest("the body is no JSON that can be read", remedy="send one object, in UTF-8") from None
    if not isinstance(found, dict):
        raise InvalidKeyRequest("the body is no JSON object", remedy="send one object, such as {}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _number(text: str) -> float | int:
    """JSON knows one kind of numbers: 30.0 is 30."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _refused(_: str) -> NoReturn:
    raise ValueError
