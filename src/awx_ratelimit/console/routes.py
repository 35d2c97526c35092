"""Which page, or which change, a method and a path below the console's base ask for. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

Shown = Literal[
    "keys", "usage", "new", "create", "key", "rename", "rotation", "rotate", "deletion", "delete", "activity", "plans",
    "asset",
]  # fmt: skip

_KEYS: Final[Mapping[str, Shown]] = {"GET": "keys"}
RESOURCES: Final[Sequence[tuple[str, Mapping[str, Shown]]]] = (
    ("", _KEYS),
    ("/", _KEYS),
    ("/usage", {"GET": "usage"}),
    ("/new", {"GET": "new", "POST": "create"}),
    ("/keys/{id}", {"GET": "key", "POST": "rename"}),
    ("/keys/{id}/rotate", {"GET": "rotation", "POST": "rotate"}),
    ("/keys/{id}/delete", {"GET": "deletion", "POST": "delete"}),
    ("/activity", {"GET": "activity"}),
    ("/plans", {"GET": "plans"}),
    ("/static/{id}", {"GET": "asset"}),
)
