"""What may be asked with: each argument is what it may be, or an InvalidKeyRequest that says what is allowed.

No error quotes what was given: it may be a key in the wrong place.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.name_rules import readable_text
from awx_ratelimit.keys.scanner import FINDER

DAY_MS: Final = 86_400_000
MOST_DAYS: Final = 3_650
#: How long a key that was rotated is still accepted, unless it is said.
GRACE_SECONDS: Final = 86_400
MOST_GRACE_SECONDS: Final = 2_592_000
MOST_PAGE_SIZE: Final = 100
MOST_AT_ONCE: Final = 1_000
_MOST_PAGE_NUM = 1_000_000
_MOST_CHARACTERS = 128
_MOST_OVERRIDES_BYTES = 8_192


def whole_number(value: object, field: str, least: int, most: int) -> int:
    """`value`, where it is an int (a bool is none) from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidKeyRequest(
            "is no such number", remedy=f"allowed are whole numbers from {least} to {most}", field=field
        )
    return value


def page(page_num: object, page_size: object) -> tuple[int, int]:
    """The page to give: from 1, and at most 100 items of it."""
    return (
        whole_number(page_num, "page_num", 1, _MOST_PAGE_NUM),
        whole_number(page_size, "page_size", 1, MOST_PAGE_SIZE),
    )


def actor(name: object) -> str | None:
    """Who acts: a text of 1 to 128 visible characters, or None where that is not said."""
    return None if name is None else readable_text(name, field="actor", most=_MOST_CHARACTERS)


def plan(name: object) -> str | None:
    """The name of a plan: a text of 1 to 128 visible characters, or None for the table's default."""
    return None if name is None else readable_text(name, field="plan", most=_MOST_CHARACTERS)


def overrides(mapping: object) -> Mapping[str, Any] | None:
    """Numbers of an account's own, as JSON keeps them: a mapping of at most 8 KiB, or None for none."""
    remedy = "allowed is a mapping as an override is written in a plan table, such as {'per_minute': 120}, or None"
    if mapping is None:
        return None
    if not isinstance(mapping, Mapping):
        raise InvalidKeyRequest("is no mapping", remedy=remedy, field="overrides")
    try:
        text = json.dumps(dict(mapping), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidKeyRequest("cannot be kept as JSON", remedy=remedy, field="overrides") from error
    if len(text) > _MOST_OVERRIDES_BYTES or FINDER.suspects(text):
        raise InvalidKeyRequest("is too long, or contains an API key", remedy=remedy, field="overrides")
    kept: dict[str, Any] = json.loads(text)
    return kept or None
