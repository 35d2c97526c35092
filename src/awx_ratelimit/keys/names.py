"""What people write: names of keys, and ids of accounts. What is shown must be what is stored.

A name that a reader cannot see whole is a name that deceives: control characters, marks that turn the direction of
writing (Trojan Source, CVE-2021-42574) and invisible ones are refused, not stripped.
"""

import re
import unicodedata
from typing import Final

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.finder import FINDER, KeyFinder

MOST_CHARACTERS: Final = 64
#: Before it is composed and trimmed: nobody has to do that with a megabyte.
MOST_SENT: Final = 1_024
_MOST_ID_CHARACTERS = 128
#: Control, format (bidi among them), surrogate, private, line and paragraph separators: Unicode's general categories.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
#: Default_Ignorable_Code_Point of other categories, and the blank of Braille: they are drawn as nothing.
_IGNORED = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
#: The characters of both, as a character class has them in every dialect of regular expressions.
_NOT_SEEN: Final = (
    "\\x00-\\x1f\\x7f-\\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\u2800\u3164\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f\U000e0100-\U000e01ef\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
#: What a name is, for documents of an API: something that can be seen, and white space around it, in MOST_SENT.
READABLE: Final = rf"^\s*[^\s{_NOT_SEEN}]([^{_NOT_SEEN}]{{0,{MOST_CHARACTERS - 2}}}[^\s{_NOT_SEEN}])?\s*$"
_is_id = re.compile(rf"[!-~]{{1,{_MOST_ID_CHARACTERS}}}").fullmatch


def readable_text(
    value: object, *, field: str = "name", most: int = MOST_CHARACTERS, finder: KeyFinder = FINDER
) -> str:
    """`value` in Unicode's composed form (NFC), without white space around it: 1 to `most` characters that can be seen.

    Raises InvalidKeyRequest, also for a text in which `finder` sees a key: someone has pasted it into the wrong field.
    """
    remedy = f"allowed are 1 to {most} characters, white space around them not counted"
    if not isinstance(value, str):
        raise InvalidKeyRequest("is no text", remedy=remedy, field=field)
    text = unicodedata.normalize("NFC", value).strip() if len(value) <= MOST_SENT else value
    if not 1 <= len(text) <= most:
        raise InvalidKeyRequest(f"has {len(text)} characters", remedy=remedy, field=field)
    for character in text:
        if unicodedata.category(character) in _UNSEEN or _IGNORED.match(character):
            what = f"contains U+{ord(character):04X}, which cannot be seen"
            raise InvalidKeyRequest(what, remedy="leave it out", field=field)
    _refuse_key(text, field, finder)
    return text


def account_id(value: object, *, field: str = "account_id") -> str:
    """`value`, where it can be an account's id: 1 to 128 visible ASCII characters. Raises InvalidKeyRequest."""
    if not isinstance(value, str) or not _is_id(value):
        remedy = f"allowed are 1 to {_MOST_ID_CHARACTERS} visible ASCII characters"
        raise InvalidKeyRequest("is no id", remedy=remedy, field=field)
    _refuse_key(value, field, FINDER)
    return value


def _refuse_key(text: str, field: str, finder: KeyFinder) -> None:
    # Cut short or mistyped, it is still most of a secret.
    if finder.suspects(text):
        remedy = "leave it out, and rotate that key: it has been shown"
        raise InvalidKeyRequest("contains an API key", remedy=remedy, field=field)
