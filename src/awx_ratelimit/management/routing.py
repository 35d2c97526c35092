"""Which act a method and a path ask for. Pure; a path is whole, decoded, and taken as it is."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Generic, Literal, NamedTuple, TypeVar

_Act = TypeVar("_Act", bound=str)
Act = Literal["list", "create", "get", "rename", "revoke", "rotate", "usage", "document"]

RESOURCES: Final[Sequence[tuple[str, Mapping[str, Act]]]] = (
    ("/api-keys", {"GET": "list", "POST": "create"}),
    ("/api-keys/{id}", {"GET": "get", "PATCH": "rename", "DELETE": "revoke"}),
    ("/api-keys/{id}/rotate", {"POST": "rotate"}),
    ("/usage", {"GET": "usage"}),
    ("/openapi.json", {"GET": "document"}),
)


class Found(NamedTuple, Generic[_Act]):
    """What is at a path: the act that the method asks for (None: it is not allowed), the id in it, what is allowed."""

    act: _Act | None
    key_id: str
    allowed: tuple[str, ...]


class Routes(Generic[_Act]):
    """The paths of `resources` below `base`, which begins with a slash, and what their methods ask for."""

    def __init__(self, base: str, resources: Sequence[tuple[str, Mapping[str, _Act]]]) -> None:
        self._patterns = [(_pattern(base + path), acts, _allowed(acts)) for path, acts in resources]

    def find(self, method: str, path: str) -> Found[_Act] | None:
        """What is there; None where there is nothing. HEAD is a GET of which the body is not sent."""
        for pattern, acts, allowed in self._patterns:
            match = pattern.fullmatch(path)
            if match:
                act = acts.get("GET" if method == "HEAD" else method)
                return Found(act, match.groupdict().get("id", ""), allowed)
        return None


def _pattern(path: str) -> "re.Pattern[str]":
    return re.compile(re.escape(path).replace(r"\{id\}", "(?P<id>[^/]+)"))


def _allowed(acts: Mapping[str, str]) -> tuple[str, ...]:
    more = {"HEAD", "OPTIONS"} if "GET" in acts else {"OPTIONS"}
    return tuple(sorted(acts.keys() | more))
