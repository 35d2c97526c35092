"""Rates in the notations of other programs, such as ``5r/s`` or ``100/hr``, and how to write them here.

They are not accepted: a unit such as ``m`` has other meanings elsewhere. Errors propose the text to write.
"""

import re
from fractions import Fraction
from typing import Final

from awx_ratelimit.core.option_names import nearest

_UNITS: Final = {
    "second": ("s", "sec", "secs"),
    "minute": ("m", "min", "mins"),
    "hour": ("h", "hr", "hrs"),
    "day": ("d",),
    "week": ("w", "wk", "wks"),
    "month": ("mo", "mon", "mth", "mos"),
    "year": ("y", "yr", "yrs"),
}
_UNIT_OF: Final = {short: unit for unit, shorts in _UNITS.items() for short in (unit, f"{unit}s", *shorts)}
_AMOUNT: Final = r"\s*(?P<amount>[0-9]{1,3}(?:[,_][0-9]{3}){1,4}|[0-9]{1,15}(?:\.[0-9]{1,3})?)\s*(?P<thousands>k?)\s*"
_COUNTED: Final = r"(?:r|reqs?|requests?|calls?|hits?|times)?\s*"
_RATE: Final = re.compile(
    rf"{_AMOUNT}(?:{_COUNTED}(?:[/:-]|\b(?:per|an?|each|every)\b)\s*(?P<every>[0-9]{{0,9}})\s*(?P<unit>[a-z]{{1,20}})"
    r"|[a-z]?p(?P<short>[smhd]))\s*",
    re.IGNORECASE,
)
_MAX_LENGTH: Final = 64


def in_our_notation(text: str) -> str:
    """The rate that `text` probably means, as ``60/minute`` or ``1/2 seconds``; empty if nobody can know."""
    # One space where there are many: the time of a match is bounded.
    shortened = " ".join(text.split()) if len(text) <= _MAX_LENGTH else ""
    found = _RATE.fullmatch(shortened)
    unit = found and _unit(found["unit"] or found["short"])
    if not found or not unit:
        return ""
    amount = Fraction(re.sub("[,_]", "", found["amount"])) * (1_000 if found["thousands"] else 1)
    tokens, every = amount.numerator, amount.denominator * int(found["every"] or 1)
    if not tokens or not every:
        return ""
    return f"{tokens}/{unit}" if every == 1 else f"{tokens}/{every} {unit}s"


def _unit(word: str) -> str:
    """The unit that `word` means; empty if it means none."""
    return _UNIT_OF.get(word.lower()) or nearest(word, _UNITS)
