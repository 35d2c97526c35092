"""Checks of arguments and names. A bad value raises InvalidKeyRequest, which says what is allowed.

No error quotes text that was given: it may be a key in the wrong field. `finder` finds such keys. The default one
knows only the default prefix; a KeyService and all its parts use the `finder` of that service.

A name must look like what is stored. Control characters, bidirectional marks (Trojan Source, CVE-2021-42574) and
invisible characters are therefore refused, not removed.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from awx_ratelimit.core.validation import describe, type_name
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.scanner import FINDER, KeyFinder

DAY_MS: Final = 86_400_000
MAX_DAYS: Final = 3_650
#: The default grace period of a rotated key.
GRACE_SECONDS: Final = 86_400
MAX_GRACE_SECONDS: Final = 2_592_000
MAX_PAGE_SIZE: Final = 100
MAX_UNPAGED_KEYS: Final = 1_000
MAX_NAME_CHARACTERS: Final = 64
#: Before normalization and trimming, so that nobody can make us normalize a megabyte.
MAX_UNTRIMMED_CHARACTERS: Final = 1_024
_MAX_PAGE_NUM = 1_000_000
_MAX_ID_CHARACTERS = 128
_MAX_OVERRIDES_BYTES = 8_192
#: Unicode general categories: control, format (with the bidirectional marks), surrogate, private use, line and
#: paragraph separators.
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
#: Default_Ignorable_Code_Point of other categories, and the Braille blank: fonts draw nothing for them.
_is_ignorable = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
).match
#: Private use in the supplementary planes is allowed: fonts draw at least a box, and no pattern that is valid in every
#: dialect can exclude it.
_SUPPLEMENTARY_PRIVATE = "\U000f0000"
#: What `str.strip` strips. ``\s`` is a different set in each dialect of regular expressions.
_WHITE: Final = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
#: The invisible characters of the Basic Multilingual Plane, as a character class that ECMA-262 (with and without the
#: flag `u`), Python and Rust read alike. Without the flag there are no ranges beyond that plane: 360 characters of
#: other planes are missing here, and only `readable_text` refuses them.
_INVISIBLE: Final = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5"
    r"\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\u2800\u3164\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff9-\ufffb"
)
_EDGE: Final = f"[^{_WHITE}{_INVISIBLE}]"
#: The pattern of a name, for API documents: visible characters, with optional white space around them.
NAME_PATTERN: Final = rf"^[{_WHITE}]*{_EDGE}([^{_INVISIBLE}]{{0,{MAX_NAME_CHARACTERS - 2}}}{_EDGE})?[{_WHITE}]*$"
MAX_SUBJECT_CHARACTERS: Final = 256
#: The pattern of a subject, for API documents: visible characters, without white space around them.
SUBJECT_PATTERN: Final = rf"^{_EDGE}([^{_INVISIBLE}]{{0,{MAX_SUBJECT_CHARACTERS - 2}}}{_EDGE})?$"
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(3000, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_is_id = re.compile(rf"[!-~]{{1,{_MAX_ID_CHARACTERS}}}").fullmatch


def integer(value: object, field: str, minimum: int, maximum: int) -> int:
    """Return `value` if it is an int from `minimum` to `maximum`. A bool is not an int here."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        got = describe(value) if isinstance(value, int | float) else type_name(value)
        raise InvalidKeyRequest(f"got {got}", remedy=f"expected an integer from {minimum} to {maximum}", field=field)
    return value


def time_ms(at: object, field: str) -> int:
    """Return a datetime with a time zone, from 1970 to 2999, in milliseconds since the epoch."""
    is_time = isinstance(at, datetime) and at.tzinfo is not None
    if not isinstance(at, datetime) or at.tzinfo is None or not _EARLIEST <= at <= _LATEST:
        remedy = "expected a time from 1970 to 2999 with a time zone"
        raise InvalidKeyRequest("not a valid time" if is_time else f"got {describe(at)}", remedy=remedy, field=field)
    return (at - _EARLIEST) // _MILLISECOND


def later_time_ms(at: object, field: str, now_ms: int) -> int:
    """Return a datetime with a time zone, in the next 3,650 days, in milliseconds since the epoch."""
    at_ms = time_ms(at, field)
    if not now_ms < at_ms <= now_ms + MAX_DAYS * DAY_MS:
        what = "has passed" if at_ms <= now_ms else "is too late"
        raise InvalidKeyRequest(what, remedy=f"expected a time in the next {MAX_DAYS} days", field=field)
    return at_ms


def page(page_num: object, page_size: object) -> tuple[int, int]:
    """Return a page number, from 1, and a page size, from 1 to 100."""
    return (
        integer(page_num, "page_num", 1, _MAX_PAGE_NUM),
        integer(page_size, "page_size", 1, MAX_PAGE_SIZE),
    )


def optional_name(name: object, field: str, finder: KeyFinder = FINDER) -> str | None:
    """Return the name of a plan or an actor: 1 to 128 visible characters, or None."""
    return None if name is None else readable_text(name, field=field, max_characters=_MAX_ID_CHARACTERS, finder=finder)


def subject(value: object, finder: KeyFinder) -> str:
    """Return the subject of a caller: 1 to 256 visible characters, without white space around them, and no key."""
    readable_text(value, field="subject", max_characters=MAX_SUBJECT_CHARACTERS, finder=finder)
    text = str(value)
    if text != text.strip():
        raise InvalidKeyRequest("has white space around it", remedy="remove it", field="subject")
    return text


def account_id(value: object, finder: KeyFinder = FINDER, *, field: str = "account_id") -> str:
    """Return `value` if it is 1 to 128 visible ASCII characters."""
    if not isinstance(value, str) or not _is_id(value):
        remedy = f"expected 1 to {_MAX_ID_CHARACTERS} visible ASCII characters"
        raise InvalidKeyRequest("not a valid id", remedy=remedy, field=field)
    refuse_key(value, field, finder)
    return value


def overrides(mapping: object, finder: KeyFinder = FINDER, *, field: str = "overrides") -> Mapping[str, Any] | None:
    """Return an account's overrides as JSON stores them: a mapping of at most 8 KiB. None and {} mean no overrides."""
    if mapping is None:
        return None
    remedy = "expected a mapping as in a plan table's overrides, such as {'per_minute': 120}, or None"
    if not isinstance(mapping, Mapping):
        raise InvalidKeyRequest(f"got {type_name(mapping)}", remedy=remedy, field=field)
    try:
        text = json.dumps(dict(mapping), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidKeyRequest("cannot be stored as JSON", remedy=remedy, field=field) from error
    if len(text) > _MAX_OVERRIDES_BYTES:
        raise InvalidKeyRequest(f"longer than {_MAX_OVERRIDES_BYTES} bytes", remedy=remedy, field=field)
    refuse_key(text, field, finder)
    stored: dict[str, Any] = json.loads(text)
    return stored or None


def refused_by_table(reason: str, field: str) -> InvalidKeyRequest:
    """The error for a plan or overrides that the plan table refuses. `reason` begins with the place of the mistake."""
    place, _, rest = reason.partition(": ")
    if place == field == "plan":
        what, _, remedy = rest.partition("; ")
        return InvalidKeyRequest(what, remedy=remedy, field=field)
    remedy = reason.removeprefix("overrides.").removeprefix("overrides: ")
    return InvalidKeyRequest("the plan table refuses these limits", remedy=remedy, field=field)


def readable_text(
    value: object, *, field: str = "name", max_characters: int = MAX_NAME_CHARACTERS, finder: KeyFinder = FINDER
) -> str:
    """Return `value` normalized (NFC) and trimmed, if that is 1 to `max_characters` visible characters.

    Raises InvalidKeyRequest, also for a text that contains a key: someone has pasted it into the wrong field.
    """
    remedy = f"expected 1 to {max_characters} characters, not counting white space around them"
    if not isinstance(value, str):
        raise InvalidKeyRequest(f"got {type_name(value)}", remedy=remedy, field=field)
    text = unicodedata.normalize("NFC", value).strip() if len(value) <= MAX_UNTRIMMED_CHARACTERS else value
    if not 1 <= len(text) <= max_characters:
        raise InvalidKeyRequest(f"has {len(text)} characters", remedy=remedy, field=field)
    for character in text:
        if _is_invisible(character):
            what = f"contains the invisible character U+{ord(character):04X}"
            raise InvalidKeyRequest(what, remedy="remove it", field=field)
    refuse_key(text, field, finder)
    return text


def _is_invisible(character: str) -> bool:
    if character >= _SUPPLEMENTARY_PRIVATE:
        return False
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or _is_ignorable(character) is not None


def refuse_key(
    text: str,
    field: str,
    finder: KeyFinder = FINDER,
    *,
    remedy: str = "remove it, and rotate that key: it is no longer secret",
) -> None:
    """Raise InvalidKeyRequest if `text` contains a key that `finder` finds: by default, one with the default prefix."""
    # Also a key that is cut short or mistyped: it is still most of a secret.
    if finder.may_contain_key(text):
        raise InvalidKeyRequest("contains an API key", remedy=remedy, field=field)
