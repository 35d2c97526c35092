"""Which paths cost what: the first rule that matches a request.

A path is literal, or has ``{name}`` for one segment, or ends in ``/**`` for the rest. Paths are matched decoded and
whole. Nothing is normalised for an exemption; a cost also matches doubled and trailing slashes, so that they are no
way around it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from awx_ratelimit.errors import InvalidLimit

_SLASHES = re.compile(r"//+")
_SEGMENT = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What requests of `methods` (None: every method) to `path` cost, or that they are exempt.

    `cost` is in tokens, at least 1. An exempt request is neither decided nor identified. A GET rule covers HEAD.
    Raises InvalidLimit for what cannot be a rule.
    """

    path: str
    methods: Iterable[str] | None = None
    cost: int = 1
    exempt: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path.startswith("/"):
            raise self._wrong("the path must begin with '/'")
        if "**" in self.path.removesuffix("/**") or re.search(r"[{}]", _SEGMENT.sub("", self.path)):
            raise self._wrong("allowed in a path are {name} for a whole segment and '/**' at its end")
        if isinstance(self.cost, bool) or not isinstance(self.cost, int) or self.cost < 1:
            raise self._wrong(f"cost is {self.cost!r}; allowed is a whole number of at least 1")
        if isinstance(self.methods, str):
            raise self._wrong(f"methods is a text; write methods=[{self.methods!r}]")
        if self.methods is not None:
            methods = {method.upper() for method in self.methods}
            object.__setattr__(self, "methods", frozenset(methods | {"HEAD"} if "GET" in methods else methods))

    def _wrong(self, what: str) -> InvalidLimit:
        return InvalidLimit(f"Rule({self.path!r}): {what}")


_COST_1 = Rule("/**")


class Rules:
    """Rules in their order, compiled once."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [(rule, _pattern(rule.path), _pattern(_plain(rule.path))) for rule in rules]

    def match(self, method: str, path: str) -> Rule:
        """The first rule of this request; one of cost 1 where none matches."""
        if not self._rules:
            return _COST_1
        plain = _plain(path)
        for rule, pattern, plain_pattern in self._rules:
            if rule.methods is not None and method not in rule.methods:
                continue
            if pattern(path) if rule.exempt else plain_pattern(plain):
                return rule
        return _COST_1


def _plain(path: str) -> str:
    return _SLASHES.sub("/", path).rstrip("/") or "/"


def _pattern(path: str) -> Any:
    rest = path.endswith("/**")
    parts = [re.escape(part) for part in _SEGMENT.split(path.removesuffix("/**"))]
    return re.compile("[^/]+".join(parts) + ("(/.*)?" if rest else ""), re.DOTALL).fullmatch
