"""What a middleware is put around, and the gate that it asks: checked when it is made."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate

#: How many middlewares with one gate a request is within. Only an app that calls itself has so many.
_DEPTH = "awx_ratelimit.depth"
_MAX_DEPTH = 32
_ASGI = ("scope", "receive", "send")
_WSGI = ("environ", "start_response")


def check_asgi(app: Any, gate: Any) -> None:
    """Raise TypeError unless `app` can be called as ASGI apps are, and `gate` is an AsyncGate."""
    _check_app(app, _ASGI)
    if not _takes(app, _ASGI):
        wrong = "a WSGI app" if _takes(app, _WSGI) else "no ASGI app"
        raise TypeError(
            f"app is {type_name(app)}, {wrong}; the ASGI middleware needs app(scope, receive, send), "
            "and WSGI apps have awx_ratelimit.adapters.werkzeug.RateLimitMiddleware"
        )
    if not isinstance(gate, AsyncGate):
        raise TypeError(
            f"the ASGI middleware takes an AsyncGate, not {_named(gate)}; "
            "write gate=AsyncGate(AsyncLimiter(backend), plans=..., identify=...)"
        )


def check_wsgi(app: Any, gate: Any) -> None:
    """Raise TypeError unless `app` can be called as WSGI apps are, and `gate` is a Gate."""
    _check_app(app, _WSGI)
    if not _takes(app, _WSGI):
        wrong = "an ASGI app" if _takes(app, _ASGI) else "no WSGI app"
        raise TypeError(
            f"app is {type_name(app)}, {wrong}; the WSGI middleware needs app(environ, start_response), "
            "and ASGI apps have awx_ratelimit.adapters.starlette.RateLimitMiddleware"
        )
    if not isinstance(gate, Gate):
        raise TypeError(
            f"the WSGI middleware takes a Gate, not {_named(gate)}; "
            "write gate=Gate(Limiter(backend), plans=..., identify=...)"
        )


@contextmanager
def within(request: Any, attribute: str) -> Iterator[None]:
    """A call of the app below a middleware with the same gate. Raises RuntimeError where the two call each other."""
    depth = request.get(_DEPTH, 0)
    if depth >= _MAX_DEPTH:
        raise RuntimeError(
            "RateLimitMiddleware is around the app that it is set on, so they call each other without an end; "
            f"write app.{attribute} = RateLimitMiddleware(app.{attribute}, gate=gate)"
        )
    request[_DEPTH] = depth + 1
    try:
        yield
    finally:
        request[_DEPTH] = depth


def check_answer(answer: Any, app: str) -> None:
    """Raise TypeError unless `answer` is called with one whole request, as ManagementApi and Console are."""
    if isinstance(answer, type) or not callable(answer) or not _takes(answer, ("request",)):
        raise TypeError(
            f"{app} serves a ManagementApi or a Console, not {type_name(answer)}; write {app}(ManagementApi(...))"
        )


def _check_app(app: Any, parameters: tuple[str, ...]) -> None:
    called = f"app({', '.join(parameters)})"
    if isinstance(app, type) and any("__call__" in vars(part) for part in app.__mro__):
        raise TypeError(f"app is {type_name(app)}; pass an instance, which is called as {called}")
    if not callable(app):
        raise TypeError(f"app is {type_name(app)}, which cannot be called; use an app that is called as {called}")


def _takes(app: Any, parameters: tuple[str, ...]) -> bool:
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        # Some callables written in C have none.
        return True
    try:
        signature.bind(*parameters)
    except TypeError:
        return False
    return True


def _named(gate: Any) -> str:
    return type_name(gate) if gate is None or isinstance(gate, type) else type(gate).__name__
