"""Warns about a CORS middleware in the wrong place. It is found by class name, so no framework is imported.

A CORS middleware inside RateLimitMiddleware never sees a refusal. One outside replaces the header of ``expose=True``.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Any

_log = logging.getLogger("awx_ratelimit")
_NAME = "CORSMiddleware"
_MAX_DEPTH = 32


def warn_of_cors(middleware: Any, scope: Any, exposed_names: frozenset[str]) -> None:
    """Log a warning if the CORS middleware is on the wrong side of `middleware`, or hides `exposed_names`.

    It sees the middlewares that `scope` and the wrapped app refer to, and misses all others.
    """
    # It reads attributes of arbitrary objects, and must never make a request fail.
    with suppress(Exception):
        _check(middleware, scope, exposed_names)


def _check(middleware: Any, scope: Any, exposed_names: frozenset[str]) -> None:
    stack = getattr(scope.get("app"), "middleware_stack", None)
    chain = list(_chain(stack))
    outside = [layer for layer in takewhile(lambda layer: layer is not middleware, chain) if _is_cors(layer)]
    if middleware not in chain or not outside:
        _warn_of_order(middleware)
        return
    cors_names = {name.strip().lower() for layer in outside for name in _exposed_by(layer).split(",") if name.strip()}
    if cors_names and not exposed_names <= cors_names:
        missing = ", ".join(repr(name) for name in sorted(exposed_names - cors_names))
        _log.warning(
            "CORSMiddleware replaces the names of expose=True by its own expose_headers: add %s there", missing
        )


def _warn_of_order(middleware: Any) -> None:
    if any(_is_cors(layer) for layer in _chain(middleware.app)):
        _log.warning(
            "CORSMiddleware is inside RateLimitMiddleware, so scripts of other origins cannot read a refusal: add "
            "CORSMiddleware after RateLimitMiddleware, because the middleware that was added last is the outermost"
        )


def _chain(app: Any) -> Iterator[Any]:
    """`app` and the apps that it wraps, from the outside in, with the middleware classes of each Starlette app."""
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
