"""`PlanTable`: all plans by name, and the overrides of subjects and accounts."""

import json
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.limit_schema import Place
from awx_ratelimit.core.option_names import did_you_mean
from awx_ratelimit.core.plan import GROWTH, STARTER, Plan
from awx_ratelimit.core.plan_changes import warn_of_removed_plans
from awx_ratelimit.core.plan_schema import (
    Override,
    RefusalText,
    checked_service,
    listed_plans,
    read_override,
    read_table,
)
from awx_ratelimit.core.validation import describe, type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.runtime.files import read_toml
from awx_ratelimit.runtime.watched_file import WatchedFile

_MAX_CACHED = 65_536
_CALLER_PLAN = Place("caller", "plan")
_CALLER_OVERRIDES = Place("caller", "overrides")


class PlanTable:
    """All plans by name, the name of the default plan, and the overrides of subjects and accounts.

    A table is immutable, and `resolve` takes the same time for any number of overrides. `service` is the plan that all
    callers share; None means no shared limit. `source` is the name of the table in errors. `refusals` are the responses
    that replace the usual 429, by the name of a plan. Raises TypeError for plans that are not Plans, and InvalidLimit
    for a mistake in the table.
    """

    def __init__(
        self,
        plans: Iterable[Plan],
        *,
        default: str | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        service: Plan | None = None,
        source: str = "plan table",
        refusals: Mapping[str, RefusalText] | None = None,
    ) -> None:
        self._plans: dict[str, Plan] = {}
        for plan in listed_plans(plans):
            if self._plans.setdefault(plan.name, plan) is not plan:
                raise InvalidLimit(f"{source}: plans.{plan.name}: two plans have this name")
        self._source = source
        self._default = default
        #: The plan that all callers share; None without one.
        self.service = checked_service(service)
        self._refusals = refusals or {}
        if default is not None:
            self._find_plan(default, Place(source, "default"))
        self._overrides = dict(Place(source, "overrides").table({} if overrides is None else overrides))
        if "" in self._overrides:
            raise InvalidLimit(f"{source}: overrides: expected a subject or an account as each key, got ''")
        self._parsed_overrides = {
            key: self._read(value, Place(source, "overrides").at(key)) for key, value in self._overrides.items()
        }
        self._account_limits = {
            key: override.account for key, (_, override) in self._parsed_overrides.items() if override.account
        }
        # Bounded, because callers may bring a new Plan with each request.
        self._cached_override = lru_cache(maxsize=_MAX_CACHED)(self._apply_override)
        self._cached_items = lru_cache(maxsize=_MAX_CACHED)(self._apply_items)
        self._cached_text = lru_cache(maxsize=_MAX_CACHED)(self._apply_text)

    @classmethod
    def default(cls) -> "PlanTable":
        """A table of STARTER, the default, and GROWTH. An 'enterprise' plan needs your own numbers."""
        return cls((STARTER, GROWTH), default=STARTER.name)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, source: str = "plan table") -> "PlanTable":
        """Build a table from a mapping in the format of plans.toml. Raises InvalidLimit with the place of a mistake."""
        plans, default, overrides, refusals, service = read_table(mapping, source)
        return cls(plans, default=default, overrides=overrides, service=service, source=source, refusals=refusals)

    @classmethod
    def from_toml(cls, path: str | PurePath) -> "PlanTable":
        """Build a table from the TOML file at `path`. Raises InvalidLimit with the file and the place of a mistake."""
        _check_path(path)
        return PlanTable.from_mapping(read_toml(path), source=str(path))

    @classmethod
    def watch(cls, path: str | PurePath) -> "PlanTable":
        """Build a table as `from_toml` does, and reload the file when it has changed.

        `resolve` checks the file, at most once a second and without a thread. A new file with a mistake is logged as an
        error, and the previous table stays in use. Raises InvalidLimit if the file has a mistake now.
        """
        _check_path(path)
        return _WatchedPlanTable(path)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """All plans, in the order of the table."""
        return tuple(self._plans.values())

    def refusal_of(self, plan: Plan) -> RefusalText | None:
        """The table ``refusal`` of `plan`: what its callers get instead of the usual 429. None for the usual one."""
        return self._refusals.get(plan.name)

    def overridden(self) -> list[Plan]:
        """The plans that result from the overrides. An override without a plan is applied to every plan."""
        bases = [
            (self.plans if base is None else (base,), override) for base, override in self._parsed_overrides.values()
        ]
        return [override.applied_to(plan) for plans, override in bases for plan in plans]

    def resolve(self, caller: Caller) -> Plan:
        """The plan of `caller`.

        The first that exists applies: the caller's own overrides, its subject's, its account's, its plan, the default
        plan. The `account` limits of the account's override apply even if another override comes first, unless that one
        has such limits too. Raises InvalidLimit for a plan that is not in the table, and for a mistake in the caller's
        own overrides.
        """
        try:
            name = caller.plan
        except AttributeError:
            raise TypeError(
                f"caller: expected a Caller, got {describe(caller)}; write resolve(Caller(subject, plan))"
            ) from None
        if not (caller.overrides or self._parsed_overrides) and name.__class__ is str and name in self._plans:
            # Fast path for most callers, without another call.
            return self._plans[name]
        if caller.overrides:
            return self._with_own_overrides(caller)
        if self._parsed_overrides:
            for key in (caller.subject, caller.account):
                if key is not None and key in self._parsed_overrides:
                    return self._cached_override(key, caller.plan, self._account_of(caller))
        return self._find_plan(caller.plan, _CALLER_PLAN)

    def __reduce__(self) -> tuple[Any, ...]:
        table = (self.plans, self._default, self._overrides, self._source, self._refusals, self.service)
        return _new_table, table

    def _account_of(self, caller: Caller) -> str | None:
        """The account of `caller` if its override has limits that all its keys share."""
        return caller.account if caller.account in self._account_limits else None

    def _with_own_overrides(self, caller: Caller) -> Plan:
        overrides = _CALLER_OVERRIDES.table(caller.overrides)
        items = tuple((key, value.__class__, value) for key, value in overrides.items())
        try:
            return self._cached_items(items, caller.plan, self._account_of(caller))
        except TypeError:
            # Nested tables are not hashable, so their JSON is the key of the cache.
            return self._with_nested_overrides(overrides, caller)

    def _with_nested_overrides(self, overrides: Mapping[str, Any], caller: Caller) -> Plan:
        try:
            text = json.dumps(dict(overrides))
        except (TypeError, ValueError, RecursionError):
            # A mistake, or a mapping of another kind.
            return self._applied(self._read(overrides, _CALLER_OVERRIDES), caller.plan, self._account_of(caller))
        return self._cached_text(text, caller.plan, self._account_of(caller))

    def _apply_override(self, key: str, plan: str | Plan | None, account: str | None) -> Plan:
        return self._applied(self._parsed_overrides[key], plan, account)

    def _apply_items(
        self, items: tuple[tuple[str, type, Any], ...], plan: str | Plan | None, account: str | None
    ) -> Plan:
        return self._applied(self._read({key: value for key, _, value in items}, _CALLER_OVERRIDES), plan, account)

    def _apply_text(self, text: str, plan: str | Plan | None, account: str | None) -> Plan:
        return self._applied(self._read(json.loads(text), _CALLER_OVERRIDES), plan, account)

    def _applied(
        self, parsed: tuple[Plan | None, Override], plan: str | Plan | None, account: str | None = None
    ) -> Plan:
        base, override = parsed
        if account is not None and override.account is None:
            override = override._replace(account=self._account_limits[account])
        return override.applied_to(self._find_plan(plan, _CALLER_PLAN) if base is None else base)

    def _read(self, override: object, place: Place) -> tuple[Plan | None, Override]:
        """The plan that an override names (None: the caller's) and its limits."""
        limits = read_override(override, place)
        table = place.table(override)
        # `or ""`: a plan of None is a mistake here and must not select the default plan.
        return (self._find_plan(table["plan"] or "", place.at("plan")) if "plan" in table else None), limits

    def _find_plan(self, name: object, place: Place) -> Plan:
        name = self._default if name is None else name
        if isinstance(name, str) and name in self._plans:
            return self._plans[name]
        if isinstance(name, Plan):
            return name
        allowed = f"allowed are {', '.join(self._plans) or 'none: the table is empty'}"
        if name is not None:
            raise place.error(f"there is no plan {name!r}; {allowed}{did_you_mean(name, self._plans)}")
        example = ", for example" if len(self._plans) > 1 else ""
        remedy = f"; write default={next(iter(self._plans))!r}{example}" if self._plans else ""
        raise place.error(f"no plan is given and the table has no default; {allowed}{remedy}")


class _WatchedPlanTable(PlanTable):
    """See `PlanTable.watch`. Usage is kept when the table changes, as it is when a caller changes its plan."""

    def __init__(self, path: str | PurePath) -> None:
        self._file = WatchedFile(path, PlanTable.from_toml, warn_of_removed_plans)
        self.service = self._file.value.service

    @property
    def plans(self) -> tuple[Plan, ...]:
        return self._file.value.plans

    def overridden(self) -> list[Plan]:
        return self._file.value.overridden()

    def refusal_of(self, plan: Plan) -> RefusalText | None:
        return self._file.value.refusal_of(plan)

    def resolve(self, caller: Caller) -> Plan:
        file = self._file
        if time.monotonic() >= file.check_at_s:
            file.check()
            self.service = file.value.service
        return file.value.resolve(caller)


def _check_path(path: object) -> None:
    if not isinstance(path, str | PurePath):
        raise TypeError(
            f"path: expected the path of a TOML file, got {type_name(path)}; write PlanTable.from_mapping(...)"
        )


def _new_table(
    plans: Iterable[Plan],
    default: str | None,
    overrides: Mapping[str, Mapping[str, Any]],
    source: str,
    refusals: Mapping[str, RefusalText],
    service: Plan | None,
) -> PlanTable:
    return PlanTable(plans, default=default, overrides=overrides, service=service, source=source, refusals=refusals)
