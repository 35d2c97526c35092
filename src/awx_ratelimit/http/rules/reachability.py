"""Finds rules that never apply, because the rules before them match all their requests."""

import logging
from collections.abc import Iterable, Iterator
from itertools import chain
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
        hiding = _needed(covering, rule)
        _log.warning(
            "%s never applies: %s before it %s all its requests, and the first rule that matches decides; "
            "write it first, or remove it: see %s",
            _name(rule),
            " and ".join(map(_name, hiding)),
            "match" if len(hiding) > 1 else "matches",
            page("rules", "order"),
        )


def _hidden(rules: Iterable[Rule]) -> Iterator[tuple[Rule, list[Rule]]]:
    """Yield each rule that never applies, and the rules before it that match all its paths."""
    literal: dict[_Segments, list[Rule]] = {}
    patterns: list[Rule] = []
    for rule in rules:
        segments = _path(rule)
        covering = [each for each in chain(literal.get(segments, ()), patterns) if _covers_path(each, rule)]
        if _cover_methods(covering, rule):
            yield rule, covering
        is_pattern = None in segments or ... in segments
        (patterns if is_pattern else literal.setdefault(segments, [])).append(rule)


def _needed(covering: list[Rule], rule: Rule) -> list[Rule]:
    """One rule that covers `rule` alone, or all that cover one of its methods."""
    alone = [each for each in covering if _cover_methods([each], rule)][:1]
    return alone or [each for each in covering if {*(each.methods or ())} & {*(rule.methods or ())}]


def _name(rule: Rule) -> str:
    methods = "" if rule.methods is None else f", methods={sorted(rule.methods)}"
    return f"Rule({rule.path!r}{methods}{', exempt=True' if rule.exempt is True else ''})"


def _cover_methods(hiding: list[Rule], rule: Rule) -> bool:
    if any(each.methods is None for each in hiding):
        return True
    return rule.methods is not None and {*rule.methods} <= {name for each in hiding for name in each.methods or ()}


def _covers_path(other: Rule, rule: Rule) -> bool:
    """Whether `other` matches every path that `rule` matches, if the methods do.

    An exemption matches only exact paths. So a rule for the very path of an exemption can charge its other spellings.
    """
    if other.exempt is not True:
        return _covers(_path(other), _path(rule))
    wide, narrow = _segments(other.path), _segments(rule.path)
    return _covers(wide, narrow) and (rule.exempt is True or wide != narrow)


def _path(rule: Rule) -> _Segments:
    return _segments(normalized(rule.path))


def _segments(path: str) -> _Segments:
    names = path.removesuffix("/**").split("/")[1:]
    rest = (...,) if path.endswith("/**") else ()
    return (*(None if SEGMENT.fullmatch(name) else name for name in names), *rest)


def _covers(wide: _Segments, narrow: _Segments) -> bool:
    """Whether every path that the segments `narrow` match is also matched by `wide`."""
    if wide[-1:] == (...,):
        wide = wide[:-1]
        narrow = narrow[: len(wide)]
    return len(wide) == len(narrow) and all(map(_covers_segment, wide, narrow))


def _covers_segment(wide: object, narrow: object) -> bool:
    # A variable matches any text but an empty one, and not all the rest.
    return wide == narrow if wide is not None else narrow not in ("", ...)
