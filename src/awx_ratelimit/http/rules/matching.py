"""Which rule a request is charged by: the first that matches its path, and the dearest of all that its path may mean.

`awx_ratelimit.http.rules.path_readings` says what a path may mean.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.http.rules.path_patterns import SEGMENT
from awx_ratelimit.http.rules.path_readings import is_ordinary, plain, readings, tails
from awx_ratelimit.http.rules.rule import Rule

_MAX_KNOWN = 4096
#: Letters of a method and its path. Longer ones are not kept, so that a client cannot fill memory with them.
_MAX_LETTERS_KNOWN = 200
#: Longer than any line of nginx's by default. The work for a path grows with its length and the number of rules.
_MAX_LETTERS_MATCHED = 8192
_CHARGES_CACHED = 256


class Charge(NamedTuple):
    """What a request costs that several rules may be meant for: the highest cost, and every budget."""

    cost: int
    budget: str | None
    with_budget: Callable[[Plan], Plan]
    rules: tuple[Rule, ...]
    exempt: bool = False


class PrefixDependent(NamedTuple):
    """A path that means something dearer without a leading part, if the client has sent this part as a prefix."""

    method: str
    paths: tuple[str, ...]
    rule: Rule | Charge


Match = Rule | Charge | PrefixDependent
_COST_1 = Rule("/**")


class Rules:
    """Rules in their order, compiled once."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [(rule, rule.methods, rule.exempt, _matches(rule)) for rule in rules]
        self._ends_any = _ends_of(rule for rule, *_ in self._rules)
        self._ends_dear = _ends_of(rule for rule, *_ in self._rules if rule.cost > 1 or rule.budget)
        self._combined: Callable[[tuple[Rule | Charge, ...]], Rule | Charge] = lru_cache(_CHARGES_CACHED)(_combined)
        #: What `match` gave for a method and a path of late, without an inner path.
        self.known: dict[tuple[str, str], Match] = {}

    def match(self, method: str, path: str, inner_path: str | None = None) -> Match:
        """What a request costs: the dearest rule of all that its path may mean; one of cost 1 where none matches.

        An exemption is for its very method and path. What costs is also meant by a method in small letters.
        `inner_path` is the path that the application may see instead of `path`.
        """
        match = self._match(method, path, inner_path)
        if inner_path is None and len(method) + len(path) <= _MAX_LETTERS_KNOWN:
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            self.known[method, path] = match
        return match

    def settled(self, match: PrefixDependent, prefixes: Iterable[bytes]) -> Rule | Charge:
        """What the request costs, given the headers in which a client may have sent a prefix of its path."""
        method, paths, rule = match
        found = tails(paths, prefixes)
        if found is None:
            return self._dearest(method)
        return self._combined((rule, *(_rule_of(self._match(method, each, None)) for each in found))) if found else rule

    def is_exempt(self, method: str, path: str) -> bool:
        """Whether a request that sends no prefix is exempt."""
        return _rule_of(self.match(method, path)).exempt

    def _match(self, method: str, path: str, inner_path: str | None) -> Match:
        if len(path) > _MAX_LETTERS_MATCHED:
            return self._dearest(method)
        if inner_path is None and is_ordinary(path) and not self._ends_any(f"{path}/"):
            # What nearly every path is, in one look: no rule is for it, nor for a tail of it.
            return _COST_1
        can_be_exempt, paths = readings(path, inner_path)
        if paths is None:
            return self._dearest(method)
        rules = tuple(self._first(method, each if can_be_exempt else None, plain(each)) for each in paths)
        rule: Rule | Charge = self._combined(rules) if len(rules) > 1 else rules[0]
        if len(rules) > 1 or self._depends_on_prefix(plain(path), rule):
            return PrefixDependent(method, (path,) if inner_path is None else (path, inner_path), rule)
        return rule

    def _first(self, method: str, exact: str | None, spelling: str) -> Rule:
        """The first rule of a path: an exemption by its exact text, if it has one, and any other by its spelling."""
        upper = method.upper()
        for rule, methods, exempt, matches in self._rules:
            if methods is not None and (method if exempt else upper) not in methods:
                continue
            if (exact is not None and matches(exact)) if exempt else matches(spelling):
                return rule
        return _COST_1

    def _dearest(self, method: str) -> Rule | Charge:
        """For a path that may mean anything: all that a request of this method can cost."""
        rules = [
            rule
            for rule, methods, exempt, _ in self._rules
            if not exempt and (not methods or method.upper() in methods)
        ]
        return self._combined((_COST_1, *rules))

    def _depends_on_prefix(self, path: str, rule: Rule | Charge) -> bool:
        """Whether a tail of `path` may be dearer than `rule`. It may say yes where none is, and never no."""
        if rule.exempt or rule.cost == 0:
            return path.find("/", 1) > 0
        return len(path) > _MAX_LETTERS_KNOWN or self._ends_dear(f"{path}/", 1) is not None


def _rule_of(match: Match) -> Rule | Charge:
    return match.rule if isinstance(match, PrefixDependent) else match


def _combined(matches: tuple[Rule | Charge, ...]) -> Rule | Charge:
    """What costs at least as much as each of `matches`; exempt if all are."""
    each = (rule for match in matches for rule in (match.rules if isinstance(match, Charge) else (match,)))
    rules = tuple(rule for rule in dict.fromkeys(each) if not rule.exempt)
    if not rules:
        return matches[0]
    cost = max(rule.cost for rule in rules)
    # Under one name the tightest budget counts.
    budgets = {rule.budget: rule for rule in sorted(rules, key=_tightness) if rule.budget}
    for rule in rules:
        if rule.cost == cost and all(rule is other for other in budgets.values()):
            return rule
    return Charge(cost, "+".join(map(str, budgets)) or None, _with_budgets(tuple(budgets.values())), rules)


def _tightness(rule: Rule) -> float:
    rates = rule.plan.rates if rule.plan is not None else ()
    return -min((rate.tokens / rate.period_ms for rate in rates), default=0.0)


def _with_budgets(rules: tuple[Rule, ...]) -> Callable[[Plan], Plan]:
    def with_budgets(plan: Plan) -> Plan:
        for rule in rules:
            plan = rule.with_budget(plan)
        return plan

    return with_budgets


def _matches(rule: Rule) -> Callable[[str], Any]:
    path = rule.path if rule.exempt else plain(rule.path)
    # A path without a pattern is compared, which is faster.
    return _pattern(path) if "{" in path or path.endswith("/**") else path.__eq__


def _pattern(path: str) -> Any:
    return re.compile(_expression(path), re.DOTALL).fullmatch


def _ends_of(rules: Iterable[Rule]) -> Any:
    """A search for a tail of a path, with a slash at its end, that one of `rules` matches."""
    expressions = [_expression(plain(rule.path)) for rule in rules]
    return re.compile(f"(?:{'|'.join(expressions)})/?\\Z" if expressions else r"(?!)", re.DOTALL).search


def _expression(path: str) -> str:
    parts = [re.escape(part) for part in SEGMENT.split(path.removesuffix("/**"))]
    return "[^/]+".join(parts) + ("(?:/.*)?" if path.endswith("/**") else "")
