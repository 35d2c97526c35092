"""`Router`: finds the action for a method and a path. It is pure, and matches decoded full paths exactly."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Generic, Literal, NamedTuple, TypeVar

_Action = TypeVar("_Action", bound=str)
Action = Literal["list", "create", "get", "rename", "revoke", "rotate", "usage", "usage_history", "document"]

RESOURCES: Final[Sequence[tuple[str, Mapping[str, Action]]]] = (
    ("/api-keys", {"GET": "list", "POST": "create"}),
    ("/api-keys/{id}", {"GET": "get", "PATCH": "rename", "DELETE": "revoke"}),
    ("/api-keys/{id}/rotate", {"POST": "rotate"}),
    ("/usage", {"GET": "usage"}),
    ("/usage/history", {"GET": "usage_history"}),
    ("/openapi.json", {"GET": "document"}),
)


OperatorAction = Literal[
    "accounts", "account", "change", "override", "end_override", "suspend", "resume", "usage", "usage_history",
    "shadow_refusals", "all_shadow_refusals", "audit", "find_keys", "revoke_key", "reset", "explain", "document",
]  # fmt: skip

#: Only an API with a gate has the resource ``/explain``.
OPERATOR_RESOURCES: Final[Sequence[tuple[str, Mapping[str, OperatorAction]]]] = (
    ("/accounts", {"GET": "accounts"}),
    ("/accounts/{id}", {"GET": "account", "PATCH": "change"}),
    ("/accounts/{id}/override", {"PUT": "override", "DELETE": "end_override"}),
    ("/accounts/{id}/suspend", {"POST": "suspend"}),
    ("/accounts/{id}/resume", {"POST": "resume"}),
    ("/accounts/{id}/usage", {"GET": "usage"}),
    ("/accounts/{id}/usage/history", {"GET": "usage_history"}),
    ("/accounts/{id}/shadow-refusals", {"GET": "shadow_refusals"}),
    ("/shadow-refusals", {"GET": "all_shadow_refusals"}),
    ("/audit", {"GET": "audit"}),
    ("/api-keys", {"GET": "find_keys"}),
    ("/api-keys/{id}", {"DELETE": "revoke_key"}),
    ("/reset", {"POST": "reset"}),
    ("/explain", {"GET": "explain"}),
    ("/openapi.json", {"GET": "document"}),
)


class Match(NamedTuple, Generic[_Action]):
    """The resource at a path: the action of the method (None: not allowed), the id in the path, the allowed methods."""

    action: _Action | None
    key_id: str
    allowed_methods: tuple[str, ...]


class Router(Generic[_Action]):
    """Routes for `resources`, pairs of a path and its actions by method. `base` begins with a slash, or is empty."""

    def __init__(self, base: str, resources: Sequence[tuple[str, Mapping[str, _Action]]]) -> None:
        self._routes = [(_pattern(base + path), actions, _allowed_methods(actions)) for path, actions in resources]

    def find(self, method: str, path: str) -> Match[_Action] | None:
        """Return the resource at `path`, or None. HEAD has the action of GET."""
        for pattern, actions, allowed_methods in self._routes:
            match = pattern.fullmatch(path)
            if match:
                action = actions.get("GET" if method == "HEAD" else method)
                return Match(action, match.groupdict().get("id", ""), allowed_methods)
        return None


def _pattern(path: str) -> "re.Pattern[str]":
    return re.compile(re.escape(path).replace(r"\{id\}", "(?P<id>[^/]+)"))


def _allowed_methods(actions: Mapping[str, str]) -> tuple[str, ...]:
    implied = {"HEAD", "OPTIONS"} if "GET" in actions else {"OPTIONS"}
    return tuple(sorted(actions.keys() | implied))
