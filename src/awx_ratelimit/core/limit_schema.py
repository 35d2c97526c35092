"""How the limits of a plan are written in a plan table. Each error names its place in the table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from awx_ratelimit.core.notation import ParsedRate, parse_notation, spelled
from awx_ratelimit.core.option_names import did_you_mean
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import REQUESTS, Concurrency, Rate, is_name
from awx_ratelimit.core.validation import escape_unprintable, short_repr
from awx_ratelimit.errors import InvalidLimit

_UNITS: Final = ("second", "minute", "hour", "day", "week", "month", "year")
_PER: Final = {f"per_{unit}": unit for unit in _UNITS}
#: The keys of all rates.
PER_KEYS: Final = tuple(_PER)
_FIELDS: Final = {"limit": "tokens"}
_RATE_KEYS: Final = ("limit", "burst", "refill", "measure", "name", "shadow")
#: The keys that only calendar periods have, by the unit.
_CALENDAR_KEYS: Final = {
    "day": ("timezone",),
    "week": ("anchor_day", "timezone"),
    "month": ("anchor_day", "timezone"),
    "year": ("anchor_day", "anchor_month", "timezone"),
}
_IS_PERIOD: Final = re.compile(r"\s*(?:[0-9]+\s*)?[A-Za-z]+\s*").fullmatch
_SLOT_KEYS: Final = {"slots": "slots", "ttl_seconds": "ttl_ms", "max_hold_seconds": "max_hold_ms", "shadow": "shadow"}
_MAX_SECONDS: Final = 10**9
#: The largest number that limits are multiplied by.
MAX_TIMES: Final = 1_000
_Limit = TypeVar("_Limit", Rate, Concurrency, Plan)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a plan table, for error messages."""

    source: str
    path: str = ""

    def at(self, key: object) -> "Place":
        """The place of `key` in this place."""
        escaped = escape_unprintable(str(key))
        return Place(self.source, f"{self.path}.{escaped}" if self.path else escaped)

    def error(self, what: object) -> InvalidLimit:
        """The error to raise for a mistake at this place."""
        return InvalidLimit(f"{self.path}: {what}" if self.path else what, source=self.source)

    def table(self, value: object, allowed: tuple[str, ...] | None = None) -> Mapping[str, Any]:
        """Return `value` if it is a mapping with keys from `allowed` (None: any strings); else raise InvalidLimit."""
        if not isinstance(value, Mapping):
            keys = ", ".join(allowed or ("<name>",))
            raise self.error(f"expected a table with the keys {keys}, got {short_repr(value)}")
        for key in value:
            if not isinstance(key, str) or (allowed is not None and key not in allowed):
                near = did_you_mean(key, allowed or ())
                raise self.at(key).error(f"unknown key; allowed are {', '.join(allowed or ('strings',))}{near}")
        return value


def read_rates(table: Mapping[str, Any], place: Place) -> tuple[Rate, ...]:
    """The rates of the keys ``per_second`` to ``per_year`` and ``rates``. Raises InvalidLimit for two of one name."""
    rates: dict[str, Rate] = {}
    for value, unit, here in _written_rates(table, place):
        rate = _read_rate(value, unit, here)
        if rate.name in rates:
            raise here.error(f"two limits are named {rate.name!r}; write name = '...' in the table of one of them")
        rates[rate.name] = rate
    return tuple(rates.values())


def _written_rates(table: Mapping[str, Any], place: Place) -> list[tuple[Any, str | None, Place]]:
    """Each rate as it is written, its unit (None: the value tells), and its place."""
    written = [(table[key], unit, place.at(key)) for key, unit in _PER.items() if key in table]
    more = table.get("rates", [])
    if not isinstance(more, list | tuple):
        raise place.at("rates").error(f"expected a list of texts such as '60/minute', got {short_repr(more)}")
    return [*written, *((value, None, place.at(f"rates[{index}]")) for index, value in enumerate(more))]


def _read_rate(value: Any, unit: str | None, place: Place) -> Rate:
    if unit is not None:
        fields = value if isinstance(value, Mapping) else {"limit": value}
        return _rate(fields, parse_notation(f"1/{unit}"), _RATE_KEYS, place)
    if isinstance(value, Mapping):
        keys = ("limit", "per", *_RATE_KEYS[1:])
        place.table(value, (*keys, *_CALENDAR_KEYS["year"]))
        return _rate(value, _read_period(value, place), keys, place)
    try:
        return Rate.parse(value)
    except InvalidLimit as error:
        raise place.error(error) from error


def _read_period(table: Mapping[str, Any], place: Place) -> ParsedRate:
    if "per" not in table:
        raise place.error("the period is missing; write { limit = 60, per = 'minute' }")
    per, here = table["per"], place.at("per")
    if isinstance(per, str) and _IS_PERIOD(per):
        try:
            return parse_notation(f"1/{per.strip()}")
        except InvalidLimit as error:
            if "the calendar has" in str(error):
                # The table names the period without tokens.
                raise here.error(str(error).replace("1/", "")) from None
    meant = spelled(f"1/{per}").removeprefix("1/")
    remedy = "" if meant == str(per) else f"; write {meant!r}"
    raise here.error(f"expected {', '.join(_UNITS)}, or a period such as '2 hours', got {short_repr(per)}{remedy}")


def _rate(table: Mapping[str, Any], parsed: ParsedRate, keys: tuple[str, ...], place: Place) -> Rate:
    """The rate of a table, whose period is that of `parsed`."""
    unit = parsed.name
    place.table(table, (*keys, *_CALENDAR_KEYS.get(unit, ())))
    if "limit" not in table:
        raise place.error("the limit is missing; write { limit = 60 }, or only the number")
    fields = {_FIELDS.get(key, key): value for key, value in table.items() if key != "per"}
    if "name" not in fields:
        measure = fields.get("measure", REQUESTS)
        # Rate refuses a measure that cannot be part of a name.
        fields["name"] = f"{measure}-{unit}" if is_name(measure) and measure != REQUESTS else unit
    if parsed.period is None and "timezone" not in fields:
        return _make(Rate, place, period_ms=parsed.period_ms, **fields)
    if fields.get("refill", "calendar") != "calendar":
        raise place.at("refill").error(f"expected 'calendar' for a {unit} of the calendar, got {fields['refill']!r}")
    return _make(Rate, place, period=parsed.period or unit, **fields)


def read_slots(value: object, place: Place) -> Concurrency:
    """The slots of a plan: a number, or a table. Raises InvalidLimit for a mistake."""
    fields = place.table(value if isinstance(value, Mapping) else {"slots": value}, tuple(_SLOT_KEYS))
    given = {_SLOT_KEYS[key]: field for key, field in fields.items()}
    if "slots" not in given:
        raise place.error("the slots are missing; write { slots = 5 }, or only the number")
    for key in [key for key in fields if key.endswith("_seconds")]:
        given[_SLOT_KEYS[key]] = _milliseconds(fields[key], place.at(key))
    return _make(Concurrency, place, **given)


def read_flag(value: object, place: Place) -> bool:
    """`value`. Raises InvalidLimit unless it is true or false."""
    if not isinstance(value, bool):
        raise place.error(f"expected true or false, got {short_repr(value)}")
    return value


def read_times(value: object, place: Place) -> float:
    """`value`. Raises InvalidLimit unless it is a number above 0, up to 1,000."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_TIMES:
        raise place.error(f"expected a number above 0, up to {MAX_TIMES}, such as 2 or 0.5, got {short_repr(value)}")
    return value


def make_plan(place: Place, **fields: Any) -> Plan:
    """A Plan of these fields. Raises InvalidLimit with its place."""
    return _make(Plan, place, **fields)


def _milliseconds(seconds: object, place: Place) -> int:
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < _MAX_SECONDS:
        milliseconds = round(seconds * 1000)
        if milliseconds / 1000 == seconds:
            return milliseconds
    raise place.error(f"expected seconds such as 30 or 0.5, in whole milliseconds, got {short_repr(seconds)}")


def _make(kind: type[_Limit], place: Place, **fields: Any) -> _Limit:
    try:
        return kind(**fields)
    except InvalidLimit as error:
        raise place.error(error) from error
