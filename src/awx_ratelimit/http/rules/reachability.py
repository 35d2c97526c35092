"""Finds rules that never apply, because the rules before them match all their requests."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.rules.path_readings import normalized
from awx_ratelimit.http.rules.path_syntax import SEGMENT
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.runtime.documentation import page

_log = logging.getLogger("awx_ratelimit")

#: The segments of a path. A variable is None, and Ellipsis at the end is all the rest.
_Segments: TypeAlias = tuple[object, ...]


def check_reachable(rules: Iterable[Rule]) -> None:
    """Raise InvalidLimit for a rule for the very requests of one before it, and log other rules that never apply."""
    for rule, covering in _hidden(rules):
        same = next((each for each in covering if _path(each) == _path(rule) and _cover_methods([each], rule)), None)
        if same is not None:
            raise InvalidLimit(
                f"{_name(rule)}: expected a rule that applies to some requests, got one after {_name(same)}, which "
                "matches all of them first; write one rule for these requests, or limit the route with limit(...)"
            )
        _warn(rule, _needed(covering, rule))


def _warn(rule: Rule, hiding: Sequence[Rule]) -> None:
    # An exemption matches only exact paths.
    by_exemption = rule.exempt is not True and any(each.exempt is True for each in hiding)
    _log.warning(
        "%s %s: %s before it %s all its requests, and the first rule that matches decides; %s: see %s",
        _name(rule),
        "applies only to odd spellings of its path, such as //a for /a" if by_exemption else "never applies",
        " and ".join(map(_name, hiding)),
        "match" if len(hiding) > 1 else "matches",
        "write it first" if by_exemption else "write it first, or remove it",
        page("rules", "order"),
    )


def _hidden(rules: Iterable[Rule]) -> Iterator[tuple[Rule, list[Rule]]]:
    """Yield each rule that never applies, and the rules before it that match all its paths."""
    exemptions, others = _Node(), _Node()
    order = {id(rule): number for number, rule in enumerate(rules)}
    for rule in rules:
        covering = [*others.covering(_path(rule)), *_exempting(exemptions, rule)]
        covering.sort(key=lambda each: order[id(each)])
        if _cover_methods(covering, rule):
            yield rule, covering
        if rule.exempt is True:
            exemptions.add(_segments(rule.path), rule)
        else:
            others.add(_path(rule), rule)


def _exempting(exemptions: "_Node", rule: Rule) -> list[Rule]:
    """The exemptions that match every path of `rule`. For the very path of one, a rule charges other spellings."""
    segments = _segments(rule.path)
    found = exemptions.covering(segments)
    return found if rule.exempt is True else [each for each in found if _segments(each.path) != segments]


class _Node:
    """The rules whose paths begin with certain segments."""

    __slots__ = ("below", "children", "here")

    def __init__(self) -> None:
        self.children: dict[object, _Node] = {}
        self.here: list[Rule] = []
        self.below: list[Rule] = []

    def add(self, segments: _Segments, rule: Rule) -> None:
        """Add a rule whose path has these segments."""
        node = self
        for segment in segments:
            if segment is ...:
                node.below.append(rule)
                return
            node = node.children.setdefault(segment, _Node())
        node.here.append(rule)

    def covering(self, segments: _Segments) -> list[Rule]:
        """The rules that match every path with these segments."""
        nodes, found = [self], list[Rule]()
        for segment in segments:
            found += [rule for node in nodes for rule in node.below]
            if segment is ...:
                return found
            # A variable matches any text but an empty one.
            names = (segment,) if segment in (None, "") else (segment, None)
            nodes = [node.children[name] for node in nodes for name in names if name in node.children]
        return found + [rule for node in nodes for rule in (*node.below, *node.here)]


def _path(rule: Rule) -> _Segments:
    return _segments(normalized(rule.path))


def _segments(path: str) -> _Segments:
    names = path.removesuffix("/**").split("/")[1:]
    rest = (...,) if path.endswith("/**") else ()
    return (*(None if SEGMENT.fullmatch(name) else name for name in names), *rest)


def _cover_methods(hiding: Sequence[Rule], rule: Rule) -> bool:
    if any(each.methods is None for each in hiding):
        return True
    return rule.methods is not None and {*rule.methods} <= {name for each in hiding for name in each.methods or ()}


def _needed(covering: list[Rule], rule: Rule) -> list[Rule]:
    """One rule that covers `rule` alone, or all that cover one of its methods."""
    alone = [each for each in covering if _cover_methods([each], rule)][:1]
    return alone or [each for each in covering if {*(each.methods or ())} & {*(rule.methods or ())}]


def _name(rule: Rule) -> str:
    methods = "" if rule.methods is None else f", methods={sorted(rule.methods)}"
    return f"Rule({rule.path!r}{methods}{', exempt=True' if rule.exempt is True else ''})"
