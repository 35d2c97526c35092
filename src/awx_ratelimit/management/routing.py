"""Which act a method and a path ask for. Pure; a path is whole, decoded, and taken as it is."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Generic, Literal, NamedTuple, TypeVar

_Action = TypeVar("_Action", bound=str)
Action = Literal["list", "create", "get", "rename", "revoke", "rotate", "usage", "document"]

RESOURCES: Final[Sequence[tuple[str, Mapping[str, Action]]]] = (
    ("/api-keys", {"GET": "list", "POST": "create"}),
    ("/api-keys/{id}", {"GET": "get", "PATCH": "rename", "DELETE": "revoke"}),
    ("/api-keys/{id}/rotate", {"POST": "rotate"}),
    ("/usage", {"GET": "usage"}),
    ("/openapi.json", {"GET": "document"}),
)


class Match(NamedTuple, Generic[_Action]):
    """What is at a path: the act that the method asks for (None: it is not allowed), the id in it, what is allowed."""

    action: _Action | None
    key_id: str
    allowed_methods: tuple[str, ...]


class Router(Generic[_Action]):
    """The paths of `resources` below `base`, which begins with a slash, and what their methods ask for."""

    def __init__(self, base: str, resources: Sequence[tuple[str, Mapping[str, _Action]]]) -> None:
        self._patterns = [(_pattern(base + path), acts, _allowed(acts)) for path, acts in resources]

    def find(self, method: str, path: str) -> Match[_Action] | None:
        """What is there; None where there is nothing. HEAD is a GET of which the body is not sent."""
        for pattern, acts, allowed in self._patterns:
            match = pattern.fullmatch(path)
            if match:
                act = acts.get("GET" if method == "HEAD" else method)
                return Match(act, match.groupdict().get("id", ""), allowed)
        return None


def _pattern(path: str) -> "re.Pattern[str]":
    return re.compile(re.escape(path).replace(r"\{id\}", "(?P<id>[^/]+)"))


def _allowed(acts: Mapping[str, str]) -> tuple[str, ...]:
    more = {"HEAD", "OPTIONS"} if "GET" in acts else {"OPTIONS"}
    return tuple(sorted(acts.keys() | more))
