"""`Rule`: what requests to a path cost. Paths in the syntax of other frameworks are refused with the right spelling."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import describe, set_fields
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.rules.path_readings import without_dot_segments

_MAX_CACHED_PLANS = 4096
SEGMENT = re.compile(r"\{\w+\}")
#: A one-segment variable in the syntax of other frameworks:
#: ``<id>``, ``<int:id>``, ``{id:int}``, ``:id``, ``(?P<id>\d+)``, ``*``.
_VARIABLE = re.compile(
    r"<(?:\w+(?:\([^)]*\))?:)?(?P<angle>\w+)>|\{(?P<brace>\w+)[:?][^{}]*\}|:(?P<colon>\w+)(?:\([^)]*\))?\??"
    r"|\(\?P<(?P<group>\w+)>.*\)\??|(?P<star>\*)|(?P<class>\(?(?:\\[dwDWsS][+*?]?|\[[^\]]*\][+*?]?|\.[+*?])\)?)(?:\{[\d,]+\})?"
)
_ALL_THE_REST = re.compile(r"<path:\w+>|\{\w+:path\}|\{\w+:\.[*+]\}|\*\w+|\*\*|\(?(?:\?P<\w+>)?\.[*+]\)?|\{\*\w+\}")
_REGULAR_EXPRESSION = re.compile(r"\\|\(\?|\[\^|\[[a-z0-9]-[a-z0-9]|\.[*+]|\^|\$$|\)[+*?]", re.IGNORECASE)
_METHOD = re.compile(r"\s*([A-Za-z]+)\s+(?=/|\w+://)")
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")


def path_error(path: object) -> str | None:
    """The error for the path of a rule, with a suggestion where one is certain; None for a valid path."""
    if not isinstance(path, str):
        return f"path: expected a string such as '/v1/transfers', got {path!r}"
    error = next(_errors(path), None)
    if error is None:
        return None
    method, rest = _METHOD.match(path), _METHOD.sub("", path)
    if method is not None:
        return f"path: expected no method in it; write Rule({_suggestion(rest)!r}, methods=[{method[1].upper()!r}])"
    suggestion = _suggestion(path)
    return f"{error}; write {suggestion!r}" if next(_errors(suggestion), None) is None else error


def _errors(path: str) -> Iterator[str]:
    if not path.startswith("/"):
        yield "a path must begin with '/'"
    if not path.isprintable() or path != path.strip():
        yield "a path cannot have spaces at its ends or control characters"
    if _ESCAPED.search(path):
        yield "a path must be written without escapes"
    segments = path.removesuffix("/**").split("/")
    if "." in segments or ".." in segments:
        yield "a path cannot have '.' or '..' segments"
    for segment in segments:
        if not SEGMENT.fullmatch(segment) and (_is_variable(segment) or _REGULAR_EXPRESSION.search(segment)):
            yield f"{segment!r} would be literal text: '{{name}}' matches one segment, '/**' at the end all the rest"
    if "?" in path or "#" in path:
        yield "a path cannot have a query or a fragment"


def _is_variable(segment: str) -> bool:
    return bool(re.search(r"[{}*<>]", segment) or segment.startswith(":"))


def _suggestion(path: str) -> str:
    """`path` in the syntax of rules, as far as its meaning is clear."""
    text = re.sub(r"^\w+://[^/]*", "", path.strip()).removeprefix("^").removesuffix("$")
    if not re.search(r"[:{(*\\\[]", text):
        # Without these characters, a question mark begins a query and is not part of a pattern.
        text = without_dot_segments(unquote(re.sub(r"[?#].*", "", f"/{text.lstrip('/')}")))
    segments = _split(f"/{text.lstrip('/')}")
    if _ALL_THE_REST.fullmatch(segments[-1]):
        segments[-1] = "**"
    return "/".join(segment if segment == "**" else _segment(segment) for segment in segments)


def _split(text: str) -> list[str]:
    # Slashes within brackets do not separate segments.
    return re.split(r"/(?![^(\[{<]*[)\]}>])", text)


def _segment(segment: str) -> str:
    found = _VARIABLE.fullmatch(segment)
    if found is not None:
        names = [name for key, name in found.groupdict().items() if name and key not in ("star", "class")]
        return f"{{{names[0] if names else 'name'}}}"
    if "**" not in segment and not SEGMENT.fullmatch(segment) and _is_variable(segment):
        words = re.findall(r"\w+", segment)
        return f"{{{words[0] if len(words) == 1 and '*' not in segment else 'name'}}}"
    return re.sub(r"\\(\W)", r"\1", segment)


@dataclass(frozen=True, slots=True)
class Rule:
    """The cost of requests of `methods` (None: every method) to `path`, or that they are exempt.

    A path begins with ``/`` and has no escapes. ``{name}`` matches one segment, ``/**`` at the end all the rest.
    `cost` is in tokens; 0 takes a slot and no tokens. An exempt request is neither limited nor identified. Both may be
    plain functions of the request. `budget` names an additional budget with the rates of `plan`. It is charged together
    with the caller's plan, in one decision, and its limits are named ``budget.limit``. A GET rule covers HEAD.

    Raises InvalidLimit for invalid values. What a function raises, the middleware raises; so does a TypeError for a
    result of the wrong type.
    """

    path: str
    methods: Iterable[str] | None = None
    cost: int | Callable[[Request], int] = 1
    exempt: bool | Callable[[Request], bool] = False
    budget: str | None = None
    plan: Plan | None = None
    with_budget: Callable[[Plan], Plan] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (error := path_error(self.path)) is not None:
            raise self._error(error)
        if not _is_cost(self.cost) and not _is_function(self.cost):
            raise self._error(f"cost: expected an integer >= 0 or a plain function, got {self.cost!r}")
        if not isinstance(self.exempt, bool) and not _is_function(self.exempt):
            raise self._error(f"exempt: expected True, False or a plain function, got {self.exempt!r}")
        if self.exempt is True and (self.cost != 1 or self.budget or self.plan):
            raise self._error("exempt: expected a rule without a cost and a budget")
        rates = self._validated_budget()
        with_budget = lru_cache(_MAX_CACHED_PLANS)(
            lambda plan: plan.merged_with(Plan("budget", rates)) if rates else plan
        )
        set_fields(self, methods=self._validated_methods(), with_budget=with_budget)

    def _validated_methods(self) -> frozenset[str] | None:
        if self.methods is None:
            return None
        names = list(self.methods) if isinstance(self.methods, Iterable) else []
        if isinstance(self.methods, str) or not names or not all(_is_method_name(name) for name in names):
            raise self._error(f"methods: expected a list of names such as ['GET', 'POST'], got {self.methods!r}")
        methods = frozenset(name.upper() for name in names)
        return methods | {"HEAD"} if "GET" in methods else methods

    def _validated_budget(self) -> tuple[Rate, ...]:
        if (self.budget is None) != (self.plan is None):
            raise self._error(
                "budget and plan: expected both, such as budget='login', plan=Plan.of('login', per_minute=5)"
            )
        if self.plan is None:
            return ()
        if not isinstance(self.plan, Plan):
            raise self._error(f"plan: expected one such as Plan.of('login', per_minute=5), got {describe(self.plan)}")
        if not isinstance(self.budget, str):
            raise self._error(f"budget: expected a name such as 'login', got {describe(self.budget)}")
        if self.plan.concurrency is not None:
            raise self._error("plan: expected a budget without slots; set slots in the caller's plan")
        if isinstance(self.cost, int) and self.cost > self.plan.max_cost:
            raise self._error(
                f"cost: expected at most {self.plan.max_cost}, the burst of the budget {self.budget!r}, got "
                f"{self.cost}; lower the cost or raise the burst"
            )
        try:
            return tuple(
                replace(rate, name=f"{self.budget}_{rate.name}", shadow=rate.shadow or self.plan.shadow)
                for rate in self.plan.rates
            )
        except InvalidLimit as error:
            raise self._error(f"budget: {error}") from error

    def cost_of(self, request: Request) -> int:
        """The cost of `request`. Raises TypeError if the function `cost` returns anything but an integer >= 0."""
        cost = self.cost if isinstance(self.cost, int) else self.cost(request)
        if not _is_cost(cost):
            raise TypeError(f"Rule({self.path!r}): cost: expected an integer >= 0 as the result, got {describe(cost)}")
        return cost

    def exempts(self, request: Request) -> bool:
        """Whether `request` is exempt. Raises TypeError if the function `exempt` returns anything but a bool."""
        exempt = self.exempt if isinstance(self.exempt, bool) else self.exempt(request)
        if not isinstance(exempt, bool):
            raise TypeError(f"Rule({self.path!r}): exempt: expected a bool as the result, got {describe(exempt)}")
        return exempt

    def __reduce__(self) -> tuple[Any, ...]:
        return Rule, (self.path, self.methods, self.cost, self.exempt, self.budget, self.plan)

    def _error(self, message: str) -> InvalidLimit:
        return InvalidLimit(f"Rule({self.path!r}): {message}")


def _is_method_name(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isalpha()


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type) and not inspect.iscoroutinefunction(value)
