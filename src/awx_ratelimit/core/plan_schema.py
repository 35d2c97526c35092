"""The format of a plan table: reads plans and overrides from mappings. Each error names its place in the table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from awx_ratelimit.core.plan import PERIODS_MS, Plan
from awx_ratelimit.core.rate import CONCURRENT, Concurrency, Rate
from awx_ratelimit.core.validation import escape_unprintable, short_repr
from awx_ratelimit.errors import InvalidLimit

_PER = {f"per_{unit}": (unit, period_ms) for unit, period_ms in PERIODS_MS.items()}
_LIMIT_KEYS = (*_PER, "rates", CONCURRENT, "shadow")
_REFUSAL_KEYS = ("status", "body", "content_type")
#: The statuses of errors (RFC 9110).
_STATUSES = range(400, 600)
_RATE_KEYS = {"limit": "tokens", "burst": "burst", "refill": "refill", "shadow": "shadow"}
_SLOT_KEYS = {"slots": "slots", "ttl_seconds": "ttl_ms", "max_hold_seconds": "max_hold_ms", "shadow": "shadow"}
_MAX_SECONDS = 10**9
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
                raise self.at(key).error(f"unknown key; allowed are {', '.join(allowed or ('strings',))}")
        return value


class RefusalText(NamedTuple):
    """What a refused caller of a plan gets instead of the usual body. `status` None is the usual status."""

    status: int | None
    body: str
    content_type: str


class ReadTable(NamedTuple):
    """The content of a plan table. The overrides are not parsed yet."""

    plans: list[Plan]
    default: str | None
    overrides: Mapping[str, Any]
    refusals: Mapping[str, RefusalText]


def read_table(mapping: Mapping[str, Any], source: str) -> ReadTable:
    """Read a plan table from a mapping. Raises InvalidLimit with the place of a mistake."""
    root = Place(source)
    table = root.table(mapping, ("default", "plans", "overrides"))
    plans = root.at("plans").table(table.get("plans", {}))
    if not plans:
        raise root.at("plans").error("the table has no plan; add at least one, such as [plans.starter]")
    read = [_read_plan(name, value, root.at("plans").at(name)) for name, value in plans.items()]
    refusals = {
        name: _read_refusal(value["refusal"], root.at("plans").at(name).at("refusal"))
        for name, value in plans.items()
        if "refusal" in value
    }
    overrides = root.at("overrides").table(table.get("overrides", {}))
    return ReadTable(read, table.get("default"), overrides, refusals)


class Override(NamedTuple):
    """The limits of an override. They replace limits of the same name and add the others."""

    rates: tuple[Rate, ...]
    concurrency: Concurrency | None
    shadow: bool | None

    def applied_to(self, base: Plan) -> Plan:
        """The plan `base` with these limits."""
        rates = {rate.name: rate for rate in base.rates} | {rate.name: rate for rate in self.rates}
        shadow = base.shadow if self.shadow is None else self.shadow
        slots = self.concurrency or base.concurrency
        is_unlimited = base.is_unlimited and not (rates or slots)
        return Plan(base.name, tuple(rates.values()), slots, base.account, shadow, is_unlimited)


def read_override(value: object, place: Place) -> Override:
    """Parse the limits of an override. `PlanTable` reads its key ``plan``."""
    return _read_limits(value, place, ("plan", *_LIMIT_KEYS))


def _read_plan(name: str, value: Any, place: Place) -> Plan:
    limits = _read_limits(value, place, (*_LIMIT_KEYS, "unlimited", "refusal"))
    unlimited = _read_flag(value.get("unlimited", False), place.at("unlimited"))
    fields = limits._asdict() | {"shadow": bool(limits.shadow), "is_unlimited": unlimited}
    return _make(Plan, place, name=name, **fields)


def _read_limits(value: object, place: Place, keys: tuple[str, ...]) -> Override:
    table = place.table(value, keys)
    concurrency = _read_slots(table[CONCURRENT], place.at(CONCURRENT)) if CONCURRENT in table else None
    shadow = _read_flag(table.get("shadow", False), place.at("shadow"))
    return Override(tuple(_read_rates(table, place)), concurrency, shadow if "shadow" in table else None)


def _read_refusal(value: object, place: Place) -> RefusalText:
    table = place.table(value, _REFUSAL_KEYS)
    status, body = table.get("status"), table.get("body")
    content_type = table.get("content_type", "application/json")
    if "status" in table and (isinstance(status, bool) or not isinstance(status, int) or status not in _STATUSES):
        raise place.at("status").error(f"expected a status from 400 to 599, got {short_repr(status)}")
    if not isinstance(body, str):
        raise place.at("body").error(f"expected a text, got {short_repr(body)}")
    if not isinstance(content_type, str) or not content_type.isascii() or not content_type.isprintable():
        raise place.at("content_type").error(
            f"expected a media type such as 'application/json', got {short_repr(content_type)}"
        )
    return RefusalText(status, body, content_type)


def _read_flag(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.error(f"expected true or false, got {short_repr(value)}")
    return value


def _read_rates(table: Mapping[str, Any], place: Place) -> list[Rate]:
    rates = [_read_per(table[key], *_PER[key], place.at(key)) for key in _PER if key in table]
    texts = table.get("rates", [])
    if not isinstance(texts, list | tuple):
        raise place.at("rates").error(f"expected a list of texts such as '60/minute', got {short_repr(texts)}")
    for index, text in enumerate(texts):
        here = place.at(f"rates[{index}]")
        try:
            rates.append(Rate.parse(text))
        except InvalidLimit as error:
            raise here.error(error) from error
        if [rate.name for rate in rates].count(rates[-1].name) > 1:
            raise here.error(f"two limits are named {rates[-1].name!r}; names must be unique in a plan")
    return rates


def _read_per(value: object, unit: str, period_ms: int, place: Place) -> Rate:
    fields = value if isinstance(value, Mapping) else {"limit": value}
    fields_given = _renamed_fields(fields, _RATE_KEYS, place)
    if "tokens" not in fields_given:
        raise place.error("the limit is missing; write { limit = 60 }, or only the number")
    return _make(Rate, place, name=unit, period_ms=period_ms, **fields_given)


def _read_slots(value: object, place: Place) -> Concurrency:
    fields = value if isinstance(value, Mapping) else {"slots": value}
    fields_given = _renamed_fields(fields, _SLOT_KEYS, place)
    if "slots" not in fields_given:
        raise place.error("the slots are missing; write { slots = 5 }, or only the number")
    for key in [key for key in fields if key.endswith("_seconds")]:
        fields_given[_SLOT_KEYS[key]] = _milliseconds(fields[key], place.at(key))
    return _make(Concurrency, place, **fields_given)


def _renamed_fields(fields: Mapping[str, Any], keys: Mapping[str, str], place: Place) -> dict[str, Any]:
    return {keys[key]: value for key, value in place.table(fields, tuple(keys)).items()}


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
