"""The format of a plan table: reads plans and overrides from mappings. Each error names its place in the table."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.limit_schema import PER_KEYS, Place, make_plan, read_flag, read_rates, read_slots, read_times
from awx_ratelimit.core.multiplied import multiplied
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, Concurrency, Rate
from awx_ratelimit.core.validation import describe, short_repr
from awx_ratelimit.errors import InvalidLimit

_LIMIT_KEYS: Final = (*PER_KEYS, "rates", CONCURRENT, "shadow")
_REFUSAL_KEYS: Final = ("status", "body", "content_type")
#: The statuses of errors (RFC 9110).
_STATUSES: Final = range(400, 600)


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
    service: Plan | None


def read_table(mapping: Mapping[str, Any], source: str) -> ReadTable:
    """Read a plan table from a mapping. Raises InvalidLimit with the place of a mistake."""
    root = Place(source)
    table = root.table(mapping, ("default", "plans", "service", "overrides"))
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
    service = _read_shared("service", table["service"], root.at("service")) if "service" in table else None
    return ReadTable(read, table.get("default"), overrides, refusals, service)


class Override(NamedTuple):
    """The limits of an override. They replace limits of the same name and add the others.

    `account` are limits that all keys of an account share; None leaves those of the plan. Every limit of the result,
    of the key and of the account, is multiplied by `times`.
    """

    rates: tuple[Rate, ...]
    concurrency: Concurrency | None
    shadow: bool | None
    account: "Override | None" = None
    times: float = 1

    def applied_to(self, base: Plan) -> Plan:
        """The plan `base` with these limits."""
        return multiplied(self._replaced_in(base), self.times)

    def _replaced_in(self, base: Plan) -> Plan:
        account = base.account if self.account is None else self.account.applied_to_account(base)
        rates = {rate.name: rate for rate in base.rates} | {rate.name: rate for rate in self.rates}
        shadow = base.shadow if self.shadow is None else self.shadow
        slots = self.concurrency or base.concurrency
        is_unlimited = base.is_unlimited and not (rates or slots)
        return Plan(base.name, tuple(rates.values()), slots, account, shadow, is_unlimited)

    def applied_to_account(self, base: Plan) -> Plan | None:
        """The plan of the account of `base` with these limits."""
        if base.account is None and not (self.rates or self.concurrency):
            return None
        return self.applied_to(base.account or Plan.unlimited(_account_name(base.name)))


def read_override(value: object, place: Place) -> Override:
    """Parse the limits of an override. `PlanTable` reads its key ``plan``."""
    limits = _read_limits(value, place, ("plan", *_LIMIT_KEYS, "account", "times"))
    table = place.table(value)
    if "times" in table:
        limits = limits._replace(times=read_times(table["times"], place.at("times")))
    if "account" not in table:
        return limits
    return limits._replace(account=_read_limits(table["account"], place.at("account"), _LIMIT_KEYS))


def _read_plan(name: str, value: Any, place: Place) -> Plan:
    limits = _read_limits(value, place, (*_LIMIT_KEYS, "unlimited", "account", "refusal"))
    unlimited = read_flag(value.get("unlimited", False), place.at("unlimited"))
    account = None
    if "account" in value:
        account = _read_shared(_account_name(name), value["account"], place.at("account"))
    return make_plan(place, name=name, **_plan_fields(limits), is_unlimited=unlimited, account=account)


def _read_shared(name: str, value: Any, place: Place) -> Plan:
    """The plan that all keys of an account share, or that everybody shares."""
    limits = _read_limits(value, place, _LIMIT_KEYS)
    if not limits.rates and limits.concurrency is None:
        raise place.error("the table has no limit; add one, such as per_minute = 1_000, or leave the table out")
    return make_plan(place, name=name, **_plan_fields(limits))


def _plan_fields(limits: Override) -> dict[str, Any]:
    return {"rates": limits.rates, "concurrency": limits.concurrency, "shadow": bool(limits.shadow)}


def _account_name(plan: str) -> str:
    return f"{plan}.account"


def _read_limits(value: object, place: Place, keys: tuple[str, ...]) -> Override:
    table = place.table(value, keys)
    concurrency = read_slots(table[CONCURRENT], place.at(CONCURRENT)) if CONCURRENT in table else None
    shadow = read_flag(table.get("shadow", False), place.at("shadow"))
    return Override(read_rates(table, place), concurrency, shadow if "shadow" in table else None)


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


def listed_plans(plans: Any) -> Iterable[Plan]:
    """`plans` as a list. Raises TypeError if one of them is not a Plan."""
    if isinstance(plans, Mapping | str | PurePath) or not isinstance(plans, Iterable):
        file_or_list = ".from_toml(path)" if isinstance(plans, str | PurePath) else "([plan])"
        remedy = ".from_mapping(...)" if isinstance(plans, Mapping) else file_or_list
        raise TypeError(f"plans: expected a list of Plans, got {describe(plans)}; write PlanTable{remedy}")
    checked = list(plans)
    for number, plan in enumerate(checked):
        if not isinstance(plan, Plan):
            raise TypeError(
                f'plans[{number}]: expected a Plan, got {describe(plan)}; write Plan.of("api", per_minute=60)'
            )
    return checked


def checked_service(service: Any) -> Plan | None:
    """Return `service`. Raises TypeError unless it is None or a Plan, and InvalidLimit for one with an account."""
    if service is None:
        return None
    if not isinstance(service, Plan):
        raise TypeError(
            f'service: expected a Plan such as Plan.of("service", per_second=5_000), or None, got {describe(service)}'
        )
    if service.account is not None:
        raise InvalidLimit("service: expected a plan without an account, because everybody shares it")
    return service
