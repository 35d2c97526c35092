"""Finds limits that come too late: the app already has the function without its limit.

    @limit("5/minute")  # limits nothing
    @app.get("/search")
    def search(): ...

Decorators of routes register a function and return it as it was. What is above them changes only the name. A function
may have routes with and without a limit, so this is an error only if nothing but names has the limited function. Only
a suspicion costs anything: in most programs there is none, and nothing watches the framework.
"""

import gc
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from types import AsyncGeneratorType, CellType, CoroutineType, FrameType, FunctionType, GeneratorType
from typing import Any, Final, TypeAlias
from weakref import ref

from awx_ratelimit.core.function_limit import name_of

_log = logging.getLogger("awx_ratelimit")
_Pair: TypeAlias = tuple["ref[Any]", "ref[Any]"]
#: What has local names.
_FRAMES: Final = (FrameType, GeneratorType, CoroutineType, AsyncGeneratorType)


class _Decorator:
    """Counts the references to a function that only its decorator has."""

    def __call__(self, function: Any) -> int:
        return _count(function)


def _count(function: Any) -> int:
    return sys.getrefcount(function)


_ALONE: Final = _Decorator()(lambda: None)


def is_registered(function: Any) -> bool:
    """Whether something has `function` that is not a name of the calling code, such as an app with a route to it.

    It counts references, so call it by itself, first thing in the method `__call__` of a decorator, with the argument.
    """
    if sys.getrefcount(function) <= _ALONE:
        return False
    return all(value is not function for value in sys._getframe(2).f_locals.values())  # noqa: SLF001  # no public way


def check_after(owner: type[Any], method: str, check: Callable[[Any], None]) -> None:
    """Let every call of a method of a framework end with `check(app)`."""
    original = getattr(owner, method)

    @wraps(original)
    def checked(app: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(app, *args, **kwargs)
        check(app)
        return result

    setattr(owner, method, checked)


class LateLimits:
    """The limits of one framework's functions that were registered before. `watch` is called before the first one.

    From then on, `check` has to be called with the endpoints of each app.
    """

    def __init__(self, watch: Callable[[], None]) -> None:
        self._watch = watch
        self._is_watching = False
        self._pairs: list[_Pair] = []

    def note(self, function: Any, limited: Any) -> None:
        """`function` was registered before `limited`, the function with the limit, was made of it."""
        try:
            pair = ref(function), ref(limited)
        except TypeError:
            # An object without weak references. It has no decorators above it.
            return
        self._pairs.append(pair)
        if not self._is_watching:
            self._is_watching = True
            self._watch()

    def check(self, endpoints: Iterable[Any]) -> None:
        """Log and raise RuntimeError if an app, which has all these endpoints, has one without its limit."""
        if not self._pairs:
            return
        called = [*endpoints]
        bare, whole = {id(each) for each in called}, {id(part) for each in called for part in _parts(each)}
        late = [function for function, limited in self._alive() if id(function) in bare
                and (limited is None or (id(limited) not in whole and not _is_used(limited)))]  # fmt: skip
        if late:
            names = ", ".join(sorted(f"{each.__module__}.{name_of(each)}" for each in late))
            message = (
                "limit: expected @limit(...) between the decorator of the route and the function, got it above both, "
                f"where it limits nothing: {names}; write @limit(...) below @app.get(...)"
            )
            _log.error("%s", message)
            raise RuntimeError(message)

    def _alive(self) -> Iterator[tuple[Any, Any]]:
        self._pairs = [pair for pair in self._pairs if pair[0]() is not None]
        for function, limited in self._pairs:
            yield function(), limited()


def _parts(endpoint: Any) -> Iterator[Any]:
    """`endpoint`, and the functions that it wraps."""
    while endpoint is not None:
        yield endpoint
        endpoint = endpoint.func if isinstance(endpoint, partial) else getattr(endpoint, "__wrapped__", None)


def _is_used(function: Any) -> bool:
    """Whether anything but names has `function`, or a function that other decorators have made of it."""
    level, seen = [function], {id(function)}
    while level:
        holders: list[Any] = []
        for each in level:
            own = (level, holders)
            holders += [held_by for held_by in gc.get_referrers(each) if not _has_names(held_by, own)]
        if not all(map(_is_part_of_function, holders)):
            return True
        level = [each for each in holders if id(each) not in seen]
        seen.update(map(id, level))
        # They would count as holders of the next level.
        del holders, own
    return False


def _has_names(holder: Any, own: tuple[Any, ...]) -> bool:
    """Whether `holder` has names of a module or a function, or is one of `own`."""
    is_module = isinstance(holder, dict) and "__builtins__" in holder
    return is_module or isinstance(holder, _FRAMES) or any(holder is each for each in own)


def _is_part_of_function(holder: Any) -> bool:
    """Whether `holder` is a function, a variable of one, its tuple of variables, or its attributes."""
    if isinstance(holder, tuple):
        return all(isinstance(each, CellType) for each in holder)
    return isinstance(holder, FunctionType | CellType) or (isinstance(holder, dict) and "__wrapped__" in holder)
