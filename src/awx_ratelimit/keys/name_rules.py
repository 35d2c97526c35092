"""What people write: names of keys, and ids of accounts. What is shown must be what is stored.

A name that a reader cannot see whole is a name that deceives: control characters, marks that turn the direction of
writing (Trojan Source, CVE-2021-42574) and invisible ones are refused, not stripped.
"""

import re
import unicodedata
from typing import Final

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.scanner import FINDER, KeyFinder

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
#: What `str.strip` strips. Not ``\s``, which is another set in each dialect of regular expressions.
_WHITE: Final = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
#: What cannot be seen of the Basic Multilingual Plane, as a character class has it in ECMA-262, with and without the
#: flag `u`, in Python and in Rust. Without the flag there is no range beyond that plane: 360 characters are left out.
_NOT_SEEN: Final = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5"
    r"\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\u2800\u3164\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff9-\ufffb"
)
#: What a name is, for documents of an API: something that can be seen, and white space around it, in MOST_SENT.
READABLE: Final = (
    rf"^[{_WHITE}]*[^{_WHITE}{_NOT_SEEN}]([^{_NOT_SEEN}]{{0,{MOST_CHARACTERS - 2}}}[^{_WHITE}{_NOT_SEEN}])?[{_WHITE}]*$"
)
#: Private use of the supplementary planes: drawn as something, if only as a box, and allowed because a pattern that is
#: valid everywhere cannot exclude it.
_SUPPLEMENTARY_PRIVATE = "\U000f0000"
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
        if _is_unseen(character):
            what = f"contains U+{ord(character):04X}, which cannot be seen"
            raise InvalidKeyRequest(what, remedy="leave it out", field=field)
    _refuse_key(text, field, finder)
    return text


def _is_unseen(character: str) -> bool:
    if character >= _SUPPLEMENTARY_PRIVATE:
        return False
    return unicodedata.category(character) in _UNSEEN or _IGNORED.match(character) is not None


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
