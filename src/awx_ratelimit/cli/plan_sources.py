"""The plans of an app, as the option ``--plans`` names them: a file, or what has them in the code of the app."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from awx_ratelimit.cli.app_gates import gate_around, imported
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.http.explain import AnyGate

_OPTION: Final = "--plans"
_is_in_code = re.compile(r"[\w.]+:[\w.]+(\(\))?").fullmatch


class PlanSource(NamedTuple):
    """A plan table, and the gate that has it if an app was named."""

    table: PlanTable
    gate: AnyGate | None = None


def plan_source(named: str | None, option: str = _OPTION) -> PlanSource:
    """The plans that `named` means: a TOML file, or an app, a gate or a PlanTable as ``module:attribute``.

    None means the built-in plans. Raises ValueError that names the `option` and says what was found instead.
    """
    if named is None:
        return PlanSource(PlanTable.default())
    if not _is_in_code(named) or Path(named).exists():
        return PlanSource(PlanTable.from_toml(named))
    found = imported(named, option)
    if isinstance(found, PlanTable):
        return PlanSource(found)
    gate = gate_around(found, named, option)
    return PlanSource(gate.parts.plans, gate)
