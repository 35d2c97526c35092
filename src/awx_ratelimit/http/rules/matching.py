"""Finds the rule that a request is charged by: the first match of its path, or the most expensive of all its readings.

`awx_ratelimit.http.rules.path_readings` explains what a path may mean to an application.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from awx_ratelimit.core.joint_claim import Cost, cost_by_measure
from awx_ratelimit.core.rate import REQUESTS
from awx_ratelimit.core.validation import set_fields
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.request_claims import Price, RuleBudget
from awx_ratelimit.http.rules.path_readings import is_ordinary, normalized, readings, without_prefixes
from awx_ratelimit.http.rules.path_syntax import SEGMENT
from awx_ratelimit.http.rules.rule import CostFunction, Rule
from awx_ratelimit.http.settling import Statuses
from awx_ratelimit.waiting.lines import Queue

_MAX_CACHED_MATCHES = 4096
#: The length of a method and a path together. Longer ones are not cached, so clients cannot fill memory with them.
_MAX_CACHED_LENGTH = 200
#: More than nginx accepts by default. The work for a path grows with its length and the number of rules.
_MAX_MATCHED_LENGTH = 8192
_MAX_CACHED_COMBINATIONS = 256
#: The budgets of one path. This bounds the work for a request and the length of the headers.
_MAX_BUDGETS = 8


class UnclearPath(Exception):
    """A path that may mean the rules of more budgets than one request is charged for."""


class CombinedRule(NamedTuple):
    """The price of a request that several rules may be meant for: the highest cost, and every budget."""

    cost: Cost | CostFunction
    budget: str | None
    price: Price
    rules: tuple[Rule, ...]
    exempt: bool | Callable[[Request], bool] = False
    is_joint: bool = True
    wait_ms: int = 0
    queues: tuple[Queue, ...] = ()
    is_plain: bool = False

    def cost_of(self, request: Request) -> Cost:
        """The highest cost of the rules, by measure. Raises as Rule.cost_of does."""
        return _highest([rule.cost_of(request) for rule in self.rules])

    def exempts(self, request: Request) -> bool:
        """Whether every rule exempts `request`. Raises as Rule.exempts does."""
        return all(rule.exempts(request) for rule in self.rules)


class _Compiled(NamedTuple):
    """A rule as requests are matched with it.

    `exempt_path` matches the exact path of requests that the rule exempts or may exempt. `path` matches the normalized
    path of requests that are charged by `charged`. None: there are no such requests.
    """

    rule: Rule
    methods: frozenset[str] | None
    exempt_path: Any
    path: Callable[[str], Any]
    charged: Rule | None


class PrefixDependent(NamedTuple):
    """The match of a path that may cost more than `rule` if the client has sent a prefix of it in a header."""

    method: str
    paths: tuple[str, ...]
    rule: Rule | CombinedRule
    is_plain: bool = False


AnyRule = Rule | CombinedRule
Match = AnyRule | PrefixDependent
#: The rule of requests that no other matches.
DEFAULT_RULE = Rule("/**")


class RuleMatcher:
    """Rules in their order, compiled once."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [_compiled(rule) for rule in rules]
        self._search_tails = _tail_search(rule for rule, *_ in self._rules)
        self._search_expensive_tails = _tail_search(
            rule for rule, *_ in self._rules if not isinstance(rule.cost, int) or rule.cost > 1 or rule.budget
        )
        self._combined: Callable[[tuple[AnyRule, ...]], AnyRule] = lru_cache(_MAX_CACHED_COMBINATIONS)(_combined)
        #: Recent results of `match` by method and path, for requests without an inner path.
        self.cache: dict[tuple[str, str], Match] = {}

    def match(self, method: str, path: str, inner_path: str | None = None) -> Match:
        """The most expensive rule that the path may be meant for; a rule of cost 1 if none matches.

        An exemption needs exactly its method and path. Other rules also match methods in lower case. `inner_path` is
        the path that the application may see instead of `path`. Raises UnclearPath.
        """
        match = self._match(method, path, inner_path)
        if inner_path is None and len(method) + len(path) <= _MAX_CACHED_LENGTH:
            if len(self.cache) >= _MAX_CACHED_MATCHES:
                self.cache.clear()
            self.cache[method, path] = match
        return match

    def resolve_prefixes(self, match: PrefixDependent, prefixes: Iterable[bytes]) -> AnyRule:
        """The rule of the request, given the header values in which a client may have sent a prefix of its path.

        Raises UnclearPath.
        """
        method, paths, rule, _ = match
        found = without_prefixes(paths, prefixes)
        if found is None:
            return self._any(method)
        return self._combined((rule, *(rule_of(self._match(method, each, None)) for each in found))) if found else rule

    def is_exempt(self, method: str, path: str) -> bool:
        """Whether requests that send no prefix are exempt."""
        try:
            return rule_of(self.match(method, path)).exempt is True
        except UnclearPath:
            return False

    def _match(self, method: str, path: str, inner_path: str | None) -> Match:
        if len(path) > _MAX_MATCHED_LENGTH:
            return self._any(method)
        if inner_path is None and is_ordinary(path) and not self._search_tails(f"{path}/"):
            # The fast path for most requests: no rule matches the path or any tail of it.
            return DEFAULT_RULE
        can_be_exempt, paths = readings(path, inner_path)
        if paths is None:
            return self._any(method)
        rules = tuple(self._first_match(method, each if can_be_exempt else None, normalized(each)) for each in paths)
        rule: AnyRule = self._combined(rules) if len(rules) > 1 else rules[0]
        if len(rules) > 1 or self._depends_on_prefix(normalized(path), rule):
            return PrefixDependent(method, (path,) if inner_path is None else (path, inner_path), rule)
        return rule

    def _first_match(self, method: str, exact: str | None, normal: str) -> Rule:
        """The first matching rule. Exemptions match the `exact` path, unless it is None; other rules match `normal`."""
        upper = method.upper()
        for rule, methods, exempt_path, charged_path, charged in self._rules:
            can_be_exempt = exempt_path is not None and exact is not None and (methods is None or method in methods)
            if can_be_exempt and exempt_path(exact):
                return rule
            if charged is not None and (methods is None or upper in methods) and charged_path(normal):
                return charged
        return DEFAULT_RULE

    def _any(self, method: str) -> AnyRule:
        """The charge of a path that may mean anything: that of all rules for `method`. Raises UnclearPath."""
        charged = [
            charged
            for _, methods, _, _, charged in self._rules
            if charged is not None and (methods is None or method.upper() in methods)
        ]
        return self._combined((DEFAULT_RULE, *charged))

    def _depends_on_prefix(self, path: str, rule: AnyRule) -> bool:
        """Whether a tail of `path` may cost more than `rule`. It may be wrong if it returns True, never if False."""
        if rule.exempt or not isinstance(rule.cost, int) or rule.cost == 0 or rule.price.charge_on:
            return path.find("/", 1) > 0
        return len(path) > _MAX_CACHED_LENGTH or self._search_expensive_tails(f"{path}/", 1) is not None


def rule_of(match: Match) -> AnyRule:
    """The rule of a match, if the client has sent no prefix of its path."""
    return match.rule if isinstance(match, PrefixDependent) else match


def _combined(matches: tuple[AnyRule, ...]) -> AnyRule:
    """A rule that costs at least as much as each of `matches`; exempt if all are."""
    each = (rule for match in matches for rule in (match.rules if isinstance(match, CombinedRule) else (match,)))
    rules = tuple(rule for rule in dict.fromkeys(each) if rule.exempt is not True)
    if not rules:
        return matches[0]
    if len(rules) == 1:
        return rules[0]
    costs = [rule.cost for rule in rules if not callable(rule.cost)]
    cost = _highest(costs) if len(costs) == len(rules) else None
    price = _price(rules)
    for rule in rules:
        if rule.cost == cost and not rule.exempt and rule.price == price:
            return rule
    combined = CombinedRule(0, "+".join(budget.scope for budget in price.budgets) or None, price, rules)
    exempt = combined.exempts if all(rule.exempt for rule in rules) else False
    wait_ms = min(rule.wait_ms for rule in rules)
    queues = tuple(queue for rule in rules for queue in rule.queues)
    return combined._replace(
        cost=combined.cost_of if cost is None else cost, exempt=exempt, wait_ms=wait_ms, queues=queues
    )


def _highest(costs: list[Cost]) -> Cost:
    """The highest of `costs` by measure, as a number if all of them count requests."""
    highest: dict[str, int] = {}
    for cost in costs:
        for measure, tokens in cost_by_measure(cost).items():
            highest[measure] = max(tokens, highest.get(measure, 0))
    return highest if highest.keys() != {REQUESTS} else highest[REQUESTS]


def _price(rules: tuple[Rule, ...]) -> Price:
    """All budgets. What depends on the status does so only if it does by every rule; then all their statuses count."""
    budgets: dict[str, RuleBudget] = {}
    for budget in (each for rule in rules for each in rule.price.budgets):
        same = budgets.setdefault(budget.scope, budget)
        budgets[budget.scope] = same._replace(charge_on=_all_statuses((same.charge_on, budget.charge_on)))
    if len(budgets) > _MAX_BUDGETS:
        raise UnclearPath
    return Price(tuple(budgets.values()), _all_statuses([rule.price.charge_on for rule in rules]))


def _all_statuses(statuses: Sequence[Statuses | None]) -> Statuses | None:
    return frozenset().union(*(each for each in statuses if each)) if all(statuses) else None


def _compiled(rule: Rule) -> _Compiled:
    methods = None if rule.methods is None else frozenset(rule.methods)
    charged = None if rule.exempt is True else replace(rule, exempt=False) if rule.exempt else rule
    if charged is not None:
        set_fields(charged, queues=rule.queues)
    exempt_path = _matcher(rule.path) if rule.exempt else None
    return _Compiled(rule, methods, exempt_path, _matcher(normalized(rule.path)), charged)


def _matcher(path: str) -> Callable[[str], Any]:
    if "{" in path or path.endswith("/**"):
        return re.compile(_expression(path), re.DOTALL).fullmatch
    # A comparison is faster than a regular expression.
    return path.__eq__


def _tail_search(rules: Iterable[Rule]) -> Any:
    """A search for a tail of a path that one of `rules` matches. The path must end with an added slash."""
    expressions = [_expression(normalized(rule.path)) for rule in rules]
    return re.compile(f"(?:{'|'.join(expressions)})/?\\Z" if expressions else r"(?!)", re.DOTALL).search


def _expression(path: str) -> str:
    parts = [re.escape(part) for part in SEGMENT.split(path.removesuffix("/**"))]
    return "[^/]+".join(parts) + ("(?:/.*)?" if path.endswith("/**") else "")
