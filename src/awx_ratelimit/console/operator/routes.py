"""The paths of the operator's console, and the action of each method."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

OperatorAction = Literal[
    "accounts", "find", "keys", "find_key", "account", "live", "plan_form", "set_plan", "temporary_form",
    "set_temporary", "end_temporary", "overrides_form", "set_overrides", "suspension", "suspend", "resume", "shadow",
    "activity", "find_activity", "explain_form", "explain", "asset",
]  # fmt: skip
Routes = Sequence[tuple[str, Mapping[str, OperatorAction]]]
_ACCOUNTS: Final[Mapping[str, OperatorAction]] = {"GET": "accounts", "POST": "find"}
#: The action of each path and method, below the console's base path. The account is in the query, as ``id``.
OPERATOR_ROUTES: Final[Routes] = (
    ("", _ACCOUNTS),
    ("/", _ACCOUNTS),
    ("/keys", {"GET": "keys", "POST": "find_key"}),
    ("/account", {"GET": "account"}),
    ("/account/live", {"GET": "live"}),
    ("/account/plan", {"GET": "plan_form", "POST": "set_plan"}),
    ("/account/temporary", {"GET": "temporary_form", "POST": "set_temporary"}),
    ("/account/temporary/end", {"POST": "end_temporary"}),
    ("/account/overrides", {"GET": "overrides_form", "POST": "set_overrides"}),
    ("/account/suspend", {"GET": "suspension", "POST": "suspend"}),
    ("/account/resume", {"POST": "resume"}),
    ("/shadow", {"GET": "shadow"}),
    ("/activity", {"GET": "activity", "POST": "find_activity"}),
    ("/static/{id}", {"GET": "asset"}),
)
#: For a console with a gate.
EXPLAIN_ROUTES: Final[Routes] = (("/explain", {"GET": "explain_form", "POST": "explain"}),)
