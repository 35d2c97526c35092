"""What requests to the REST API may contain, and the JSON of keys and their usage in its replies.

Ambiguous input is an error: duplicate names, malformed numbers, unknown fields. No error message quotes the input. The
JSON of a reply has exactly the fields given here, in this order.
"""

import json
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from awx_ratelimit.errors import InvalidKeyRequest, KeyRequestRefused
from awx_ratelimit.http.header_values import only_value
from awx_ratelimit.http.message import FullRequest
from awx_ratelimit.keys.models import ApiKey, CreatedKey
from awx_ratelimit.management.usage import KeyUsage, LimitUsage
from awx_ratelimit.runtime.clock import rfc3339

_MAX_QUERY_BYTES: Final = 1_024
_is_json = re.compile(
    rb"application/json[ \t]*(;[ \t]*charset[ \t]*=[ \t]*\"?utf-8\"?[ \t]*)?", re.IGNORECASE
).fullmatch
_is_number = re.compile(r"[0-9]{1,9}").fullmatch


class NotJson(KeyRequestRefused):
    """The body is not JSON in UTF-8, or the request has not exactly one Content-Type that says so."""

    code = "unsupported_media_type"


def fields(
    request: FullRequest, allowed: Collection[str], required: Collection[str] = (), nullable: Collection[str] = ()
) -> dict[str, Any]:
    """Return the fields of the JSON object in the body; only `nullable` ones are null. An empty body has no fields.

    Raises InvalidKeyRequest and NotJson.
    """
    found = _object(request) if request.body else {}
    if not found.keys() <= set(allowed):
        raise InvalidKeyRequest("the body has unknown fields", remedy=f"allowed are {', '.join(allowed)}")
    for field in allowed:
        if field in required and field not in found:
            raise InvalidKeyRequest("is missing", remedy="this field is required", field=field)
        if field in found and found[field] is None and field not in nullable:
            raise InvalidKeyRequest("is null", remedy="set a value, or omit the field", field=field)
    return found


def numbers(query: bytes, allowed: Collection[str]) -> dict[str, int]:
    """Return the numbers in a query, by name. Raises InvalidKeyRequest."""
    return {name: number(name, text) for name, text in texts(query, allowed).items()}


def number(name: str, text: str) -> int:
    """Return the number in a field of a query. Raises InvalidKeyRequest."""
    if not _is_number(text):
        raise InvalidKeyRequest("not a number", remedy="expected an integer of at most 9 digits", field=name)
    return int(text)


def texts(query: bytes, allowed: Collection[str]) -> dict[str, str]:
    """Return the fields of a query, by name. Raises InvalidKeyRequest."""
    try:
        # The length check below refuses longer queries, so do not parse the rest.
        text = query[: _MAX_QUERY_BYTES + 1].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=10)
    except ValueError:
        raise InvalidKeyRequest("the query is malformed", remedy="write name=value&name=value") from None
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= set(allowed) or len(query) > _MAX_QUERY_BYTES:
        remedy = f"allowed are {', '.join(allowed)}, each once" if allowed else "remove the query"
        raise InvalidKeyRequest("the query has unknown or duplicate names", remedy=remedy)
    return found


def _object(request: FullRequest) -> dict[str, Any]:
    kind = only_value(request.request.values(b"content-type"))
    if kind is None or not _is_json(kind.strip(b" \t")):
        raise NotJson("the body is not declared as JSON", remedy="send one Content-Type header: application/json")
    try:
        # By default, `json` also accepts UTF-16 and NaN.
        text = request.body.decode("utf-8")
        found = json.loads(text, object_pairs_hook=_unique, parse_float=_number, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise InvalidKeyRequest("the body is not valid JSON", remedy="send one object, in UTF-8") from None
    if not isinstance(found, dict):
        raise InvalidKeyRequest("the body is not a JSON object", remedy="send one object, such as {}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _number(text: str) -> float | int:
    """Return an int for an integral number: JSON has one type of number, so 30.0 is 30."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _refused(_: str) -> NoReturn:
    raise ValueError


def key_json(key: ApiKey) -> dict[str, Any]:
    """Return a key without its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.masked,
        "created_at": _time(key.created_at),
        "last_used_at": _time(key.last_used_at),
    }


def created_key_json(created: CreatedKey) -> dict[str, Any]:
    """Return a new key with its secret."""
    key = created.key
    return {
        "id": key.id,
        "name": key.name,
        "key": created.secret.reveal(),
        "prefix": key.masked,
        "created_at": _time(key.created_at),
        "last_used_at": None,
    }


def usage_json(usage: KeyUsage) -> dict[str, Any]:
    """Return how much of its plan a key has used."""
    key = usage.key
    limits = [limit_json(limit) for limit in usage.limits]
    shown = {"id": key.id, "name": key.name, "prefix": key.masked}
    state = {"status": key.status, "expires_at": _time(key.expires_at)}
    return {**shown, **state, "plan": usage.plan.name, "limits": limits}


def limit_json(limit: LimitUsage) -> dict[str, Any]:
    """`capacity` is the burst of a rate or the number of slots. After `reset_seconds` the limit is fully available.

    An overdraft has used more than the capacity; it shows as fully used.
    """
    usage = limit.usage
    return {
        "name": usage.limit,
        "measure": limit.measure,
        "capacity": usage.capacity,
        "used": usage.capacity - usage.remaining,
        "remaining": usage.remaining,
        "reset_seconds": -(-usage.reset_after_ms // 1000),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
