"""The plans of an app, as the option ``--plans`` names them: a file, or what has them in the code of the app."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import typer

from awx_ratelimit.cli.app_gates import gate_around, imported
from awx_ratelimit.core.option_names import did_you_mean
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.http.explain import AnyGate
from awx_ratelimit.http.known_callers import known_plans

_OPTION: Final = "--plans"
_is_in_code = re.compile(r"[\w.]+:[\w.]+(\(\))?").fullmatch


class PlanSource(NamedTuple):
    """A plan table, and the gate that has it if an app was named."""

    table: PlanTable
    gate: AnyGate | None = None

    def plan_named(self, name: str) -> Plan:
        """The plan `name`, without the overrides of anybody. Raises BadParameter that lists all plans."""
        in_table = {plan.name: plan for plan in self.table.plans}
        return plan_among(in_table if self.gate is None else known_plans(self.gate.parts), name)


def plan_among(plans: Mapping[str, Plan], name: str) -> Plan:
    """The plan `name`. Raises BadParameter that lists all plans."""
    if name not in plans:
        said = f"expected one of the plans {', '.join(plans)}, got {name!r}{did_you_mean(name, plans)}"
        raise typer.BadParameter(said, param_hint="--plan")
    return plans[name]


def plan_source(named: str | None, option: str = _OPTION) -> PlanSource:
    """The plans that `named` means: a TOML file, or an app, a gate, a PlanTable or a Plan as ``module:attribute``.

    None means the built-in plans. Raises ValueError that names the `option` and says what was found instead.
    """
    if named is None:
        return PlanSource(PlanTable.default())
    if not _is_in_code(named) or Path(named).exists():
        return PlanSource(PlanTable.from_toml(named))
    found = imported(named, option)
    if isinstance(found, PlanTable):
        return PlanSource(found)
    if isinstance(found, Plan):
        return PlanSource(PlanTable([found], default=found.name))
    gate = gate_around(found, named, option)
    return PlanSource(gate.parts.plans, gate)
