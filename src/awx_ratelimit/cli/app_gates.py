"""Finds the gate of an application that is named as ``module:attribute``, as servers name it, and asks it."""

import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import Any, Final

from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.explain import AnyGate
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate

#: Where middlewares and frameworks keep the app that they are around.
_INNER: Final = ("app", "wsgi_app", "asgi_app", "middleware_stack", "application")
_MAX_OBJECTS: Final = 200
_REMEDY: Final = (
    "run the command the way the app's server runs: in its folder, with its Python and its environment variables"
)
#: Where code is that no app consists of.
_NOT_OF_APPS: Final = (
    "<frozen ",
    str(Path(__file__).parents[1]),
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)


def gate_around(app: Any, name: str, option: str) -> AnyGate:
    """The gate of `app`: itself, that of a middleware, or that of the middlewares around a framework's app.

    Raises ValueError that has the `name` that the `option` gave, and says what was found instead.
    """
    with _code_of_app(f"{option}: the middlewares of {name!r} cannot be made"):
        gate = _gate_in(app) or _gate_of_django(app)
    if gate is None:
        raise ValueError(
            f"{option}: expected an app with a rate limit middleware, a middleware or a gate, got {type_name(app)} at "
            f"{name}; name the middleware or the gate itself, such as shop.main:gate"
        )
    return gate


def ask(gate: AnyGate, question: Callable[[Any], Any]) -> Any:
    """The answer of `gate` to `question`, which calls a method of it. An AsyncGate answers in an event loop, once."""
    if not isinstance(gate, AsyncGate):
        return question(gate)
    import asyncio

    return asyncio.run(_asked_in_loop(gate, question))


async def _asked_in_loop(gate: AsyncGate, question: Callable[[Any], Any]) -> Any:
    try:
        return await question(gate)
    finally:
        # Its connections belong to this event loop.
        await gate.parts.limiter.aclose()


def imported(name: str, option: str) -> Any:
    """The object that `name` means, as ``module:attribute``. ``module:attribute()`` calls a factory.

    The current folder is importable. Raises ValueError that names the `option`.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise ValueError(f"{option}: expected module:attribute such as shop.main:app, got {name!r}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with _code_of_app(f"{option}: {module_name!r} cannot be imported"):
        found: Any = import_module(module_name)
    for part in path.removesuffix("()").split("."):
        if not hasattr(found, part):
            raise ValueError(f"{option}: expected an attribute of {module_name}, got {path!r}, which it does not have")
        found = getattr(found, part)
    if not path.endswith("()"):
        return found
    with _code_of_app(f"{option}: {name!r} cannot be called"):
        return found()


@contextmanager
def _code_of_app(problem: str) -> Iterator[None]:
    """Turn what code of the app raises, or how it exits, into one ValueError that says what, where and what to do."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{problem}: {type(error).__name__}: {error}{_place_of(error)}; {_REMEDY}") from error


def _place_of(error: BaseException) -> str:
    """The line of the app that raised the error, or that called the library that did."""
    if isinstance(error, SyntaxError) and error.filename:
        # Its message has the line.
        return "" if f"line {error.lineno}" in str(error) else f" ({error.filename}:{error.lineno})"
    frames = [each for each in extract_tb(error.__traceback__) if not each.filename.startswith(_NOT_OF_APPS)]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _gate_in(app: Any) -> AnyGate | None:
    """The outermost gate among `app` and what it is around."""
    for found in objects_in(app):
        gate = found if isinstance(found, Gate | AsyncGate) else getattr(found, "gate", None)
        if isinstance(gate, Gate | AsyncGate):
            return gate
    return None


def objects_in(app: Any) -> Iterator[Any]:
    """`app` and what it is around, the outermost first."""
    pending, seen = [app], set[int]()
    while pending and len(seen) < _MAX_OBJECTS:
        found = pending.pop(0)
        yield found
        seen.add(id(found))
        pending += [each for each in _inner(found) if each is not None and id(each) not in seen]


def _inner(app: Any) -> Iterator[Any]:
    if hasattr(app, "build_middleware_stack") and getattr(app, "middleware_stack", None) is None:
        # Starlette makes the middlewares for the first request.
        yield app.build_middleware_stack()
    for name in _INNER:
        with suppress(Exception):
            yield getattr(app, name, None)
    # aiohttp and Sanic call methods of a RateLimit.
    for middleware in (*_listed(app, "middlewares"), *_listed(app, "request_middleware")):
        yield getattr(getattr(middleware, "func", middleware), "__self__", None)
    # Tornado calls a function that knows its RateLimit.
    yield getattr(getattr(app, "get_handler_delegate", None), "awx_ratelimit", None)


def _listed(app: Any, name: str) -> list[Any]:
    listed = getattr(app, name, None)
    try:
        return list(listed) if listed is not None else []
    except TypeError:
        return []


def _gate_of_django(app: Any) -> AnyGate | None:
    """The gate of the entry in MIDDLEWARE, if `app` is a handler of Django whose settings configure it."""
    if not hasattr(app, "_middleware_chain"):
        return None
    from awx_ratelimit.adapters.django.configuration import configuration, is_configured

    if not is_configured():
        return None
    found = configuration()
    return found.async_gate if type(app).__name__.startswith("ASGI") else found.gate
