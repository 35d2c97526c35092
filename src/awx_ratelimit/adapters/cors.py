"""Warnings about a CORS middleware in the wrong place, found by class name, so that no framework is imported.

A CORS middleware inside the limiter never sees a refusal, and one outside it replaces the header of ``expose=True``.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Any

_log = logging.getLogger("awx_ratelimit")
_NAME = "CORSMiddleware"
_MAX_DEPTH = 32


def warn_of_cors(limiter: Any, scope: Any, exposed_names: frozenset[str]) -> None:
    """Log what is wrong with the CORS middleware around `limiter`, as far as its app or the `scope` shows it."""
    # It looks at attributes of objects of any kind, and must not make a request fail.
    with suppress(Exception):
        _look(limiter, scope, exposed_names)


def _look(limiter: Any, scope: Any, exposed_names: frozenset[str]) -> None:
    stack = getattr(scope.get("app"), "middleware_stack", None)
    chain = list(_chain(stack))
    outside = [layer for layer in takewhile(lambda layer: layer is not limiter, chain) if _is_cors(layer)]
    if limiter not in chain or not outside:
        _warn_of_order(limiter)
        return
    own = {name.strip().lower() for layer in outside for name in _exposed_by(layer).split(",") if name.strip()}
    if own and not exposed_names <= own:
        missing = ", ".join(repr(name) for name in sorted(exposed_names - own))
        _log.warning(
            "CORSMiddleware replaces the names of expose=True by its own expose_headers: add %s there", missing
        )


def _warn_of_order(limiter: Any) -> None:
    if any(_is_cors(layer) for layer in _chain(limiter.app)):
        _log.warning(
            "CORSMiddleware is inside RateLimitMiddleware, so scripts of other origins cannot read a refusal: add "
            "CORSMiddleware after RateLimitMiddleware, because the middleware that was added last is the outermost"
        )


def _chain(app: Any) -> Iterator[Any]:
    """An app and what it wraps, from the outside in; of a Starlette app the classes that it will wrap itself in."""
    for _ in range(_MAX_DEPTH):
        if app is None:
            return
        yield app
        yield from (added.cls for added in getattr(app, "user_middleware", ()))
        app = getattr(app, "app", None)


def _is_cors(layer: Any) -> bool:
    return (layer if isinstance(layer, type) else type(layer)).__name__ == _NAME


def _exposed_by(cors: Any) -> str:
    headers: dict[str, str] = getattr(cors, "simple_headers", {})
    return headers.get("Access-Control-Expose-Headers", "")
