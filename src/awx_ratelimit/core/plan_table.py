"""`PlanTable`: the plans by name, and who has numbers of their own. Data, checked when it is made."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.plan import GROWTH, STARTER, Plan
from awx_ratelimit.core.plan_schema import Limits, Place, read_override, read_table
from awx_ratelimit.core.validation import given, kind
from awx_ratelimit.errors import InvalidLimit

_PLANS_CACHED = 65_536
_CALLERS_PLAN = Place("caller", "plan")
_CALLERS_OVERRIDES = Place("caller", "overrides")


class PlanTable:
    """Every plan by its name, the default one, and the overrides of subjects and accounts.

    Raises TypeError for plans that are not Plans, and InvalidLimit for a mistake in the table.
    `resolve` costs the same whatever the number of overrides. A table never changes after it was made.
    """

    def __init__(
        self,
        plans: Iterable[Plan],
        *,
        default: str | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        source: str = "plan table",
    ) -> None:
        self._plans: dict[str, Plan] = {}
        for plan in _listed(plans):
            if self._plans.setdefault(plan.name, plan) is not plan:
                raise InvalidLimit(f"{source}: plans.{plan.name}: there are two plans of this name")
        self._source = source
        self._default = default
        if default is not None:
            self._named(default, Place(source, "default"))
        self._overrides = dict(Place(source, "overrides").table({} if overrides is None else overrides))
        if "" in self._overrides:
            raise InvalidLimit(f"{source}: overrides: a key is ''; use a subject or an account, a non-empty string")
        self._limits = {
            key: self._read(value, Place(source, "overrides").at(key)) for key, value in self._overrides.items()
        }
        # Callers may come with plans that were made for one request.
        self._overridden = lru_cache(maxsize=_PLANS_CACHED)(self._override)
        self._of_items = lru_cache(maxsize=_PLANS_CACHED)(self._items)

    @classmethod
    def default(cls) -> "PlanTable":
        """STARTER and GROWTH; starter for who names no plan. 'enterprise' is custom: it has to be given numbers."""
        return cls((STARTER, GROWTH), default=STARTER.name)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, source: str = "plan table") -> "PlanTable":
        """The table that `mapping` describes, as plans.toml does. Raises one InvalidLimit that names the place."""
        plans, default, overrides = read_table(mapping, source)
        return cls(plans, default=default, overrides=overrides, source=source)

    @classmethod
    def from_toml(cls, path: str | PurePath) -> "PlanTable":
        """The table in the TOML file at `path`. Raises one InvalidLimit that names the file and the place in it."""
        # Upward, and on first use only: the core opens no file.
        from awx_ratelimit.plans_file import load

        return load(path)

    @classmethod
    def watch(cls, path: str | PurePath) -> "PlanTable":
        """The table in the TOML file at `path`, read again when the file has changed.

        It looks at most once a second, when it resolves, without a thread; a bad new file keeps the old table and is an
        error in the log. Raises InvalidLimit where the file is wrong now.
        """
        # Upward, and on first use only: the core opens no file.
        from awx_ratelimit.plans_file import WatchedPlanTable

        return WatchedPlanTable(path)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans, in the order of the table."""
        return tuple(self._plans.values())

    def overridden(self) -> list[Plan]:
        """The plans of the subjects and accounts with overrides; of each plan where an override names none."""
        bases = [(self.plans if base is None else (base,), limits) for base, limits in self._limits.values()]
        return [limits.over(plan) for plans, limits in bases for plan in plans]

    def resolve(self, caller: Caller) -> Plan:
        """The caller's own overrides, else its subject's, else its account's, else its plan, else the default.

        Raises InvalidLimit for a plan that is not in the table, and for wrong overrides of the caller's own.
        """
        try:
            name = caller.plan
        except AttributeError:
            raise TypeError(f"caller is {given(caller)}; write resolve(Caller(subject, plan))") from None
        if not (caller.overrides or self._limits) and name.__class__ is str and name in self._plans:
            # What nearly every caller is, without another call.
            return self._plans[name]
        if caller.overrides:
            return self._own(caller)
        if self._limits:
            for key in (caller.subject, caller.account):
                if key is not None and key in self._limits:
                    return self._overridden(key, caller.plan)
        return self._named(caller.plan, _CALLERS_PLAN)

    def __reduce__(self) -> tuple[Any, ...]:
        return _table, (self.plans, self._default, self._overrides, self._source)

    def _own(self, caller: Caller) -> Plan:
        overrides = _CALLERS_OVERRIDES.table(caller.overrides)
        items = tuple((key, value.__class__, value) for key, value in overrides.items())
        try:
            return self._of_items(items, caller.plan)
        except TypeError:
            # A nested table cannot be a key of the cache.
            return self._merged(self._read(overrides, _CALLERS_OVERRIDES), caller.plan)

    def _override(self, key: str, plan: str | Plan | None) -> Plan:
        return self._merged(self._limits[key], plan)

    def _items(self, items: tuple[tuple[str, type, Any], ...], plan: str | Plan | None) -> Plan:
        return self._merged(self._read({key: value for key, _, value in items}, _CALLERS_OVERRIDES), plan)

    def _merged(self, override: tuple[Plan | None, Limits], plan: str | Plan | None) -> Plan:
        base, limits = override
        return limits.over(self._named(plan, _CALLERS_PLAN) if base is None else base)

    def _read(self, override: object, place: Place) -> tuple[Plan | None, Limits]:
        """The plan that an override names, None for the caller's own, and its limits."""
        limits = read_override(override, place)
        table = place.table(override)
        # A plan that is given and is none of the table must not become the default.
        return (self._named(table["plan"] or "", place.at("plan")) if "plan" in table else None), limits

    def _named(self, name: object, place: Place) -> Plan:
        name = self._default if name is None else name
        if isinstance(name, str) and name in self._plans:
            return self._plans[name]
        if isinstance(name, Plan):
            return name
        wrong = "no plan is named and the table has no default" if name is None else f"there is no plan {name!r}"
        raise place.wrong(f"{wrong}; allowed are {', '.join(self._plans) or 'none: the table is empty'}")


def _listed(plans: Any) -> Iterable[Plan]:
    """`plans`, if each of them is a Plan; else TypeError."""
    if isinstance(plans, Mapping):
        raise TypeError(f"plans is {kind(plans)}; write PlanTable([plan]), or PlanTable.from_mapping(...) for numbers")
    if isinstance(plans, str | PurePath):
        raise TypeError(f"plans is {given(plans)}; write PlanTable.from_toml(path) for a file")
    if not isinstance(plans, Iterable):
        raise TypeError(f"plans is {kind(plans)}; write PlanTable([plan]), a list")
    listed = list(plans)
    for number, plan in enumerate(listed):
        if not isinstance(plan, Plan):
            raise TypeError(f'plans[{number}] is {given(plan)}; use a Plan such as Plan.of("api", per_minute=60)')
    return listed


def _table(
    plans: Iterable[Plan], default: str | None, overrides: Mapping[str, Mapping[str, Any]], source: str
) -> PlanTable:
    return PlanTable(plans, default=default, overrides=overrides, source=source)
