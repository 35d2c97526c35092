"""The start and the end of an ASGI app: its checks, and the flush before the server exits.

uvicorn exits by the signal that it received, so `atexit` functions do not run there. It does wait for the end of the
lifespan.

A CORS middleware inside RateLimitMiddleware never sees a refusal. One outside replaces the header of ``expose=True``.
It is found by class name, so no framework is imported.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Any

from awx_ratelimit.adapters.asgi.scope import Message, Receive, Scope, Send
from awx_ratelimit.runtime.event_loops import find_asyncio_error, runs_asyncio

_log = logging.getLogger("awx_ratelimit")
_ENDS = frozenset(("lifespan.shutdown.complete", "lifespan.shutdown.failed"))
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
        if any(_is_cors(layer) for layer in _chain(middleware.app)):
            _log.warning(
                "CORSMiddleware is inside RateLimitMiddleware, so scripts of other origins cannot read a refusal: add "
                "CORSMiddleware after RateLimitMiddleware, because the middleware that was added last is the outermost"
            )
        return
    headers: list[dict[str, str]] = [getattr(layer, "simple_headers", {}) for layer in outside]
    exposed = ",".join(each.get("Access-Control-Expose-Headers", "") for each in headers)
    cors_names = {name.strip().lower() for name in exposed.split(",") if name.strip()}
    if cors_names and not exposed_names <= cors_names:
        missing = ", ".join(repr(name) for name in sorted(exposed_names - cors_names))
        _log.warning(
            "CORSMiddleware replaces the names of expose=True with its own expose_headers: add %s there", missing
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


async def run_lifespan(
    app: Callable[[Any, Any, Any], Awaitable[None]],
    scope: Scope,
    receive: Receive,
    send: Send,
    flush: Callable[[], Awaitable[None]],
) -> None:
    """Run one lifespan of `app`, and await `flush` at its end. `flush` must neither raise nor wait for long."""
    app_listens = False

    async def app_receive() -> Message:
        nonlocal app_listens
        app_listens = True
        return await receive()

    async def app_send(message: Message) -> None:
        if message["type"] in _ENDS:
            await flush()
        await send(message)

    # An app that does not support lifespans raises or returns before it receives anything.
    try:
        await app(scope, app_receive, app_send)
    except Exception:
        if app_listens:
            raise
    if not app_listens:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await app_send({"type": "lifespan.shutdown.complete"})


def log_error_at_startup(error: Exception) -> None:
    """Log `error`, which the constructor of the middleware raises, if a server is running.

    Starlette makes its middlewares when the lifespan starts. There uvicorn takes an exception for an app without
    lifespan, and starts without a word.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    # The error of an unknown option names the middleware itself.
    _log.error("RateLimitMiddleware: %s", str(error).removeprefix("RateLimitMiddleware: "))


def failing_app(error: Exception) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """An app that does not start, because of `error`. Its requests fail if the server does not tell it of a start."""

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        raise type(error)(*error.args)

    return fail


def event_loop_error(*parts: Any) -> str:
    """Why `parts` do not work on the running event loop, logged too; empty if they do."""
    error = "" if runs_asyncio() else find_asyncio_error(*parts)
    if error:
        _log.error("%s", error)
    return error
