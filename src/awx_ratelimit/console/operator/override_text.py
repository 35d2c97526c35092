"""Overrides as TOML, as a plan table writes them: ``per_minute = 120``. Pure."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.scanner import KeyFinder

#: As long as the store keeps.
MAX_CHARACTERS: Final = 8_192
_SHARED: Final = "account"
_SHARED_TABLE: Final = f"[{_SHARED}]"
_EXAMPLE: Final = "write one limit per line, such as per_minute = 120"
_is_bare = re.compile(r"[A-Za-z0-9_-]+").fullmatch


def overrides_from(text: str, field: str, finder: KeyFinder) -> Mapping[str, Any]:
    """Read overrides; without a limit they are empty. Raises InvalidKeyRequest, which names the line and the column."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidKeyRequest(f"longer than {MAX_CHARACTERS:,} characters", remedy=_EXAMPLE, field=field)
    # First, because errors about TOML and about limits quote what is wrong.
    validation.refuse_key(text, field, finder)
    try:
        # Browsers send lines that end with CR LF, which TOML reads too.
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The message may be a sentence of its own, such as "Cannot overwrite a value (at line 2, column 18)".
        raise InvalidKeyRequest(str(error).rstrip("."), remedy=_EXAMPLE, field=field) from None
    except RecursionError:
        raise InvalidKeyRequest("too many brackets", remedy=_EXAMPLE, field=field) from None
    return validation.overrides(found, finder, field=field) or {}


def text_of(overrides: Mapping[str, Any] | None) -> str:
    """Write overrides, one limit per line, so that `overrides_from` reads the same."""
    own, shared = _parts(overrides)
    lines = [*own, *(["", _SHARED_TABLE, *shared] if shared else [])]
    return "\n".join(lines).lstrip()


def line_of(overrides: Mapping[str, Any] | None) -> str:
    """Write overrides in one line: ``per_minute = 120, account.per_day = 5_000``."""
    own, shared = _parts(overrides)
    return ", ".join((*own, *(f"{_SHARED}.{line}" for line in shared)))


def _parts(overrides: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
    """The lines of each key's limits, and of those that all keys share."""
    own = {key: value for key, value in (overrides or {}).items() if key != _SHARED}
    shared = (overrides or {}).get(_SHARED) or {}
    return [_line(*item) for item in own.items()], [_line(*item) for item in shared.items()]


def _line(key: str, value: Any) -> str:
    return f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if _is_bare(key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _string(text: str) -> str:
    # A JSON string is a TOML string, but for DEL. TOML has no escapes for pairs of surrogates.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
