"""Checks the names of options, so that an error names what the user has called, and says what to write."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import Any, Final, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])
#: Below this likeness, another name was meant.
_LIKENESS: Final = 0.7
_PER: Final = "per='address', or per=function: it returns the subject of a Request"
_FIRST: Final = "the limit as the first argument: limit('5/minute')"
_METHODS: Final = "limit(...) on the function of each method, or a Rule with methods and a budget"
_ANSWER: Final = "on_refused=function for the middleware or the gate"
#: What to write for options of other libraries: for a middleware or an extension,
WAY_IN_HINTS: Final = {
    "key_func": "identify=function: it returns the subject of a Request",
    **dict.fromkeys(("default_limits", "application_limits", "limits"), "plans=[Plan.of('default', per_minute=60)]"),
    **dict.fromkeys(("storage_uri", "storage_url", "storage"), "backend='redis://host:6379'"),
    **dict.fromkeys(("exempt", "exempt_paths", "exempt_when"), "rules=[Rule('/health', exempt=True)]"),
    "headers_enabled": "headers",
}
#: for a route limit,
ROUTE_HINTS: Final = {
    **dict.fromkeys(("key_func", "key", "identifier"), _PER),
    **dict.fromkeys(("limit_value", "rate", "requests", "times", "per_minute", "per_hour", "per_day"), _FIRST),
    **dict.fromkeys(("methods", "method", "per_method"), _METHODS),
    **dict.fromkeys(("error_message", "on_breach", "callback"), _ANSWER),
    "group": "scope",
    "deduct_when": "charge_on={401, 403}: the statuses that are charged",
    "exempt_when": "cost=lambda request: 0 if ... else 1: a request that costs 0 is not limited",
}
#: of a function or a task,
FUNCTION_HINTS: Final = dict.fromkeys(
    ("key", "key_func", "per"), "subject='name', or subject=function: it returns the subject of a call"
)
#: for a plan,
PLAN_HINTS: Final = {
    **dict.fromkeys(
        ("per_second", "per_minute", "per_hour", "per_day", "per_week", "per_month"), "Plan.of(name, per_minute=60)"
    ),
    "per_year": "Plan(name, (Rate.parse('1000/year'),))",
    "slots": "Plan.of(name, concurrent=5), or Plan(name, rates, Concurrency(5))",
    "concurrent": "Plan.of(name, concurrent=5), or Plan(name, rates, Concurrency(5))",
}
#: for slots,
SLOT_HINTS: Final = {"ttl_seconds": "ttl_ms", "max_hold_seconds": "max_hold_ms"}
#: and for a rate.
RATE_HINTS: Final = {
    **dict.fromkeys(
        ("per_second", "per_minute", "per_hour", "per_day"), "Rate.parse('60/minute'), or Rate('minute', 60, 60_000)"
    ),
    **dict.fromkeys(
        ("per_week", "per_month", "per_year"), "Rate.parse('1000/year'), or Rate('year', 1000, period='year')"
    ),
    **dict.fromkeys(("requests", "limit", "amount", "times"), "tokens"),
    **dict.fromkeys(("seconds", "minutes", "hours", "window"), "period_ms"),
}


def nearest(name: str, known: Iterable[str]) -> str:
    """The name in `known` that was probably meant by `name`; empty if there is none."""
    return next(iter(get_close_matches(name.lower(), known, 1, _LIKENESS)), "")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of an error about the unknown `name`: ``; did you mean 'starter'?``. Empty if none in `known` is near."""
    near = nearest(name, known) if isinstance(name, str) else ""
    return f"; did you mean {near!r}?" if near else ""


def with_option_hints(hints: Mapping[str, str]) -> Callable[[_Function], _Function]:
    """Let a function raise a TypeError that says what to write for an unknown option. See `check_option_names`."""

    def decorate(function: _Function) -> _Function:
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        named = [each.name for each in inspect.signature(function).parameters.values() if each.kind in kinds]
        known = [name for name in named if name not in ("self", "cls")]
        owner = function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            if options:
                check_option_names(owner, options, known, hints)
            return function(*args, **options)

        return cast(_Function, call)

    return decorate


def check_option_names(
    owner: str, given: Iterable[str], known: Collection[str], hints: Mapping[str, str] = WAY_IN_HINTS
) -> None:
    """Raise TypeError if an option in `given` is not one of `known`. `owner` is what the user has called.

    `hints` say what to write for unknown options.
    """
    problem = unknown_options(given, known, hints)
    if problem:
        raise TypeError(f"{owner}: {problem}")


def unknown_options(given: Iterable[str], known: Collection[str], hints: Mapping[str, str] = WAY_IN_HINTS) -> str:
    """What is wrong with the names in `given`; empty if all of them are `known`.

    It says what to write by `hints`, by their nearest matches, or by all options if one has neither. It contains no
    value: one may be a key.
    """
    unknown = [name for name in given if name not in known]
    if not unknown:
        return ""
    remedies = [hints.get(name) or nearest(name, known) for name in unknown]
    remedy = ", ".join(dict.fromkeys(remedies)) if all(remedies) else f"one of {', '.join(known)}"
    return f"got the unknown option{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}; write {remedy}"
