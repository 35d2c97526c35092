"""The grammar of a plan table: a mapping in, plans out; every mistake is one InvalidLimit that names its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from awx_ratelimit.core.plan import PERIODS_MS, Plan
from awx_ratelimit.core.printable import visible
from awx_ratelimit.core.rate import CONCURRENT, Concurrency, Rate, shown
from awx_ratelimit.errors import InvalidLimit

_PER = {f"per_{unit}": (unit, period_ms) for unit, period_ms in PERIODS_MS.items()}
_PLAN_KEYS = (*_PER, "rates", CONCURRENT, "shadow")
_RATE_KEYS = {"limit": "tokens", "burst": "burst", "refill": "refill", "shadow": "shadow"}
_SLOT_KEYS = {"slots": "slots", "ttl_seconds": "ttl_ms", "max_hold_seconds": "max_hold_ms", "shadow": "shadow"}
_MOST_SECONDS = 10**9
_Limit = TypeVar("_Limit", Rate, Concurrency)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which table: what an error names."""

    source: str
    path: str = ""

    def at(self, key: object) -> "Place":
        """The place of `key` inside this one."""
        shown_key = visible(str(key))
        return Place(self.source, f"{self.path}.{shown_key}" if self.path else shown_key)

    def wrong(self, what: object) -> InvalidLimit:
        """The error to raise for a mistake here."""
        return InvalidLimit(f"{self.source}: {self.path}: {what}" if self.path else f"{self.source}: {what}")

    def table(self, value: object, allowed: tuple[str, ...] | None = None) -> Mapping[str, Any]:
        """`value`, which must be a table with keys of `allowed`; with None, of any text."""
        if not isinstance(value, Mapping):
            raise self.wrong(
                f"{shown(value)} is no table; allowed is a mapping with the keys {', '.join(allowed or ('<name>',))}"
            )
        for key in value:
            if not isinstance(key, str) or (allowed is not None and key not in allowed):
                raise self.at(key).wrong(f"unknown key; allowed are {', '.join(allowed or ('strings',))}")
        return value


def read_table(mapping: Mapping[str, Any], source: str) -> tuple[list[Plan], str | None, Mapping[str, Any]]:
    """The plans, the default's name and the overrides (still unread: they need the plans) of a whole table."""
    root = Place(source)
    table = root.table(mapping, ("default", "plans", "overrides"))
    plans = root.at("plans").table(table.get("plans", {}))
    if not plans:
        raise root.at("plans").wrong("the table has no plan; give it at least one, such as [plans.starter]")
    read = [_read_plan(name, value, root.at("plans").at(name)) for name, value in plans.items()]
    return read, table.get("default"), root.at("overrides").table(table.get("overrides", {}))


class Limits(NamedTuple):
    """What an override gives: limits in place of a plan's own of the same names, and beside the others."""

    rates: tuple[Rate, ...]
    concurrency: Concurrency | None
    shadow: bool | None

    def over(self, base: Plan) -> Plan:
        """`base` with these limits."""
        rates = {rate.name: rate for rate in base.rates} | {rate.name: rate for rate in self.rates}
        shadow = base.shadow if self.shadow is None else self.shadow
        return Plan(base.name, tuple(rates.values()), self.concurrency or base.concurrency, shadow)


def read_override(value: object, place: Place) -> Limits:
    """The limits of an override; its plan is read by who knows the plans."""
    table = place.table(value, ("plan", *_PLAN_KEYS))
    concurrency = _read_slots(table[CONCURRENT], place.at(CONCURRENT)) if CONCURRENT in table else None
    shadow = _read_flag(table["shadow"], place.at("shadow")) if "shadow" in table else None
    return Limits(tuple(_read_rates(table, place)), concurrency, shadow)


def _read_plan(name: str, value: object, place: Place) -> Plan:
    table = place.table(value, _PLAN_KEYS)
    concurrency = _read_slots(table[CONCURRENT], place.at(CONCURRENT)) if CONCURRENT in table else None
    shadow = _read_flag(table.get("shadow", False), place.at("shadow"))
    rates = tuple(_read_rates(table, place))
    try:
        return Plan(name, rates, concurrency, shadow)
    except InvalidLimit as error:
        raise place.wrong(error) from error


def _read_flag(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.wrong(f"{shown(value)} is neither; allowed are true and false")
    return value


def _read_rates(table: Mapping[str, Any], place: Place) -> list[Rate]:
    rates = [_read_per(table[key], *_PER[key], place.at(key)) for key in _PER if key in table]
    texts = table.get("rates", [])
    if not isinstance(texts, list | tuple):
        raise place.at("rates").wrong(f"{shown(texts)} is no list; allowed is one of texts such as '60/minute'")
    for index, text in enumerate(texts):
        here = place.at(f"rates[{index}]")
        try:
            rates.append(Rate.parse(text))
        except InvalidLimit as error:
            raise here.wrong(error) from error
        if [rate.name for rate in rates].count(rates[-1].name) > 1:
            raise here.wrong(f"two limits are named {rates[-1].name!r}; a name stands once in a plan")
    return rates


def _read_per(value: object, unit: str, period_ms: int, place: Place) -> Rate:
    fields = value if isinstance(value, Mapping) else {"limit": value}
    given = _renamed(fields, _RATE_KEYS, place)
    if "tokens" not in given:
        raise place.wrong("the limit is missing; write { limit = 60 }, or the number alone")
    return _born(Rate, place, name=unit, period_ms=period_ms, **given)


def _read_slots(value: object, place: Place) -> Concurrency:
    fields = value if isinstance(value, Mapping) else {"slots": value}
    given = _renamed(fields, _SLOT_KEYS, place)
    if "slots" not in given:
        raise place.wrong("the slots are missing; write { slots = 5 }, or the number alone")
    for key in [key for key in fields if key.endswith("_seconds")]:
        given[_SLOT_KEYS[key]] = _milliseconds(fields[key], place.at(key))
    return _born(Concurrency, place, **given)


def _renamed(fields: Mapping[str, Any], keys: Mapping[str, str], place: Place) -> dict[str, Any]:
    return {keys[key]: value for key, value in place.table(fields, tuple(keys)).items()}


def _milliseconds(seconds: object, place: Place) -> int:
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < _MOST_SECONDS:
        milliseconds = round(seconds * 1000)
        if milliseconds / 1000 == seconds:
            return milliseconds
    raise place.wrong(f"{shown(seconds)} is no time in whole milliseconds; allowed are seconds, such as 30 or 0.5")


def _born(kind: type[_Limit], place: Place, **fields: Any) -> _Limit:
    try:
        return kind(**fields)
    except InvalidLimit as error:
        raise place.wrong(error) from error
