"""The options and checks that the ASGI and WSGI adapters share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, NoReturn

from awx_ratelimit.core.validation import check_whole_number, type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.validation import takes

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


class _Protocol(NamedTuple):
    name: str
    parameters: tuple[str, ...]
    gate: type[Any]
    example: str
    #: The module of the middleware for this protocol.
    module: str


_ASGI = _Protocol("ASGI", ("scope", "receive", "send"), AsyncGate, "AsyncGate(AsyncLimiter(backend)", "starlette")
_WSGI = _Protocol("WSGI", ("environ", "start_response"), Gate, "Gate(Limiter(backend)", "werkzeug")


def checked_drain_bytes(max_drain_bytes: int) -> int:
    """Return `max_drain_bytes`. Raises InvalidLimit unless it is an integer of at least 0."""
    check_whole_number(max_drain_bytes, "max_drain_bytes", minimum=0)
    return max_drain_bytes


def check_asgi(app: Any, gate: Any) -> None:
    """Raise TypeError unless `app` is an ASGI app and `gate` an AsyncGate."""
    _check(app, gate, _ASGI, _WSGI)


def check_wsgi(app: Any, gate: Any) -> None:
    """Raise TypeError unless `app` is a WSGI app and `gate` a Gate."""
    _check(app, gate, _WSGI, _ASGI)


def check_route_gate(gate: Any, *wanted: type[Any]) -> None:
    """Raise TypeError unless the `gate` of a route's own limit is None or one of the types `wanted`."""
    if gate is not None and not isinstance(gate, wanted):
        names = " or ".join(each.__name__ for each in wanted)
        raise TypeError(f"gate: expected {names}, got {type_name(gate)}; leave it out for that of the middleware")


def called_without_request(function: Any, place: str) -> TypeError:
    """The error for a limited `function` that no request of its framework has called. It belongs on a `place`."""
    name = getattr(function, "__qualname__", type_name(function))
    return TypeError(
        f"limit: {name} was called without a request; write the decorator on {place}. "
        "Each framework has its own limit, such as awx_ratelimit.adapters.flask.limit"
    )


class NotADependency(TypeError, AttributeError):
    """A decorator was given to FastAPI as a dependency.

    In an annotation it marks a parameter that FastAPI must not read from the query: FastAPI asks pydantic for its type.
    It is an AttributeError too, so that `hasattr` and other introspection of a decorator work.
    """

    def __init__(self) -> None:
        super().__init__(
            "limit: expected a dependency of FastAPI, got a decorator; write Depends(limit('5/minute')), with the "
            "limit of awx_ratelimit.adapters.fastapi"
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> NoReturn:
        raise cls


class OnlyDecorates:
    """A limit that FastAPI must not take for a dependency. The parameter of its `__call__` is a NotADependency.

    FastAPI asks an item of `dependencies` for its dependency.
    """

    @property
    def dependency(self) -> NoReturn:
        """Raises NotADependency."""
        raise NotADependency


def check_handler(handler: Any, app: str) -> None:
    """Raise TypeError unless `handler` can be called with one FullRequest, as ManagementApi and Console can."""
    if isinstance(handler, type) or not callable(handler) or not takes(handler, None):
        raise TypeError(
            f"{app}: expected a ManagementApi or a Console, got {type_name(handler)}; write {app}(ManagementApi(...))"
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
            "RateLimitMiddleware wraps the app that it is set on, so the two call each other endlessly; "
            f"write app.{attribute} = RateLimitMiddleware(app.{attribute}, gate=gate)"
        )
    request[_DEPTH] = depth + 1
    try:
        yield
    finally:
        request[_DEPTH] = depth


def _check(app: Any, gate: Any, own: _Protocol, other: _Protocol) -> None:
    is_class = isinstance(app, type) and any("__call__" in vars(part) for part in app.__mro__)
    if is_class or not callable(app) or not takes(app, *own.parameters):
        write = f"{'an instance' if is_class else 'one'} that is called as app({', '.join(own.parameters)})"
        if not is_class and callable(app) and takes(app, *other.parameters):
            write = f"awx_ratelimit.adapters.{other.module}.RateLimitMiddleware for {other.name}"
        raise TypeError(f"app: expected an app for {own.name}, got {type_name(app)}; use {write}")
    if not isinstance(gate, own.gate):
        example = f"gate={own.example}, plans=..., identify=...)"
        raise TypeError(f"gate: expected a gate for {own.name}, got {type_name(gate)}; write {example}")
