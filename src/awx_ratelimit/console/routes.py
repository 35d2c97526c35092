"""The paths of the customer's console, and the action of each method."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

Action = Literal[
    "keys", "live", "new", "create", "key", "rename", "rotation", "rotate", "deletion", "delete", "activity", "plans",
    "usage", "usage_csv", "asset",
]  # fmt: skip
_KEYS: Final[Mapping[str, Action]] = {"GET": "keys"}
#: The action of each path and method, below the console's base path.
ROUTES: Final[Sequence[tuple[str, Mapping[str, Action]]]] = (
    ("", _KEYS),
    ("/", _KEYS),
    ("/live", {"GET": "live"}),
    ("/new", {"GET": "new", "POST": "create"}),
    ("/keys/{id}", {"GET": "key", "POST": "rename"}),
    ("/keys/{id}/rotate", {"GET": "rotation", "POST": "rotate"}),
    ("/keys/{id}/delete", {"GET": "deletion", "POST": "delete"}),
    ("/keys/{id}/usage", {"GET": "usage"}),
    ("/keys/{id}/usage.csv", {"GET": "usage_csv"}),
    ("/usage", {"GET": "usage"}),
    ("/usage.csv", {"GET": "usage_csv"}),
    ("/activity", {"GET": "activity"}),
    ("/plans", {"GET": "plans"}),
    ("/static/{id}", {"GET": "asset"}),
)
