"""The options and checks that the ASGI and WSGI adapters share."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from awx_ratelimit.core.validation import check_whole_number, type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate

#: The default of `max_drain_bytes`: how much of the body is read and discarded before a refusal.
#: If a body is left unread, the server resets the connection, and a proxy in front turns the response into a 502.
MAX_DRAIN_BYTES: Final = 1_048_576
#: No longer is spent on reading such a body.
MAX_DRAIN_S: Final = 2.0
#: The default of `max_body_bytes`: mounted apps answer longer bodies with a 413.
MAX_BODY_BYTES: Final = 65_536
#: Mounted apps ignore the body of requests with these methods.
METHODS_WITHOUT_BODY: Final = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"))

_DEPTH = "awx_ratelimit.depth"
#: Middlewares with one gate around each other. Only an app that calls itself has so many.
_MAX_DEPTH = 32
_ASGI = ("scope", "receive", "send")
_WSGI = ("environ", "start_response")


def checked_drain_bytes(max_drain_bytes: int) -> int:
    """Return `max_drain_bytes`. Raises InvalidLimit unless it is an integer of at least 0."""
    check_whole_number(max_drain_bytes, "max_drain_bytes", minimum=0)
    return max_drain_bytes


def check_asgi(app: Any, gate: Any) -> None:
    """Raise TypeError unless `app` is an ASGI app and `gate` an AsyncGate."""
    _check_app(app, _ASGI)
    if not _takes(app, _ASGI):
        wrong = "a WSGI app" if _takes(app, _WSGI) else "not an ASGI app"
        raise TypeError(
            f"app is {type_name(app)}, {wrong}; the ASGI middleware needs app(scope, receive, send), "
            "and WSGI apps have awx_ratelimit.adapters.werkzeug.RateLimitMiddleware"
        )
    if not isinstance(gate, AsyncGate):
        raise TypeError(
            f"the ASGI middleware takes an AsyncGate, not {_type_of(gate)}; "
            "write gate=AsyncGate(AsyncLimiter(backend), plans=..., identify=...)"
        )


def check_wsgi(app: Any, gate: Any) -> None:
    """Raise TypeError unless `app` is a WSGI app and `gate` a Gate."""
    _check_app(app, _WSGI)
    if not _takes(app, _WSGI):
        wrong = "an ASGI app" if _takes(app, _ASGI) else "not a WSGI app"
        raise TypeError(
            f"app is {type_name(app)}, {wrong}; the WSGI middleware needs app(environ, start_response), "
            "and ASGI apps have awx_ratelimit.adapters.starlette.RateLimitMiddleware"
        )
    if not isinstance(gate, Gate):
        raise TypeError(
            f"the WSGI middleware takes a Gate, not {_type_of(gate)}; "
            "write gate=Gate(Limiter(backend), plans=..., identify=...)"
        )


def check_handler(handler: Any, app: str) -> None:
    """Raise TypeError unless `handler` can be called with one FullRequest, as ManagementApi and Console can."""
    if isinstance(handler, type) or not callable(handler) or not _takes(handler, ("request",)):
        raise TypeError(
            f"{app} serves a ManagementApi or a Console, not {type_name(handler)}; write {app}(ManagementApi(...))"
        )


@contextmanager
def nested_call(request: Any, attribute: str) -> Iterator[None]:
    """Wraps the call of the app by an inner middleware with the same gate, given the scope or the environ.

    Raises RuntimeError if the middleware and its app call each other without end. `attribute` is the attribute of the
    framework's app that the error names.
    """
    depth = request.get(_DEPTH, 0)
    if depth >= _MAX_DEPTH:
        raise RuntimeError(
            "RateLimitMiddleware is around the app that it is set on, so they call each other without end; "
            f"write app.{attribute} = RateLimitMiddleware(app.{attribute}, gate=gate)"
        )
    request[_DEPTH] = depth + 1
    try:
        yield
    finally:
        request[_DEPTH] = depth


def _check_app(app: Any, parameters: tuple[str, ...]) -> None:
    call = f"app({', '.join(parameters)})"
    if isinstance(app, type) and any("__call__" in vars(part) for part in app.__mro__):
        raise TypeError(f"app is {type_name(app)}; pass an instance, which is called as {call}")
    if not callable(app):
        raise TypeError(f"app is {type_name(app)}, which cannot be called; use an app that is called as {call}")


def _takes(app: Any, parameters: tuple[str, ...]) -> bool:
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        # Some callables written in C have no signature.
        return True
    try:
        signature.bind(*parameters)
    except TypeError:
        return False
    return True


def _type_of(gate: Any) -> str:
    return type_name(gate) if gate is None or isinstance(gate, type) else type(gate).__name__
