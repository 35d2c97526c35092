"""Explains the request of a method to a path that nobody has sent: for an operator's pages, REST API and command."""

from collections.abc import Callable, Mapping
from traceback import extract_tb
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.validation import describe, type_name
from awx_ratelimit.errors import AwxRateLimitError, ImpossibleRequest, KeyRefused
from awx_ratelimit.http.client_address import is_address
from awx_ratelimit.http.explanation import Explanation
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.rules.path_readings import PREFIX_HEADERS
from awx_ratelimit.runtime.event_loops import call_in_event_loop

_MAX_PATH_LENGTH: Final = 8_192
AnyGate = Gate | AsyncGate


def explain_path(
    gate: AnyGate,
    method: str,
    path: str,
    find_caller: Callable[[], Caller | None] | None = None,
    client: str | None = None,
) -> Explanation:
    """Explain what `gate` would do with a request of `method` to `path` now. It blocks, and charges nothing.

    `find_caller` returns whose request it is, or raises KeyRefused, as `KeyService.caller` does; it may block. None, or
    its result None, is a request without a key. `client` is the address that sends it. An AsyncGate works only in
    threads that `AsgiApp` has started; on an event loop, write ``await gate.explain(request_to(gate, method, path))``.

    Raises ImpossibleRequest if `method`, `path` or `client` is malformed, or if a function of the app fails, such as
    the `cost` of a rule: it may need more than a method and a path.
    """
    request = request_to(gate, method, path, client=client)
    identify = found_by(find_caller or (lambda: None))
    with explainable(request):
        if isinstance(gate, AsyncGate):
            return call_in_event_loop(gate.explain, request, identify)
        return gate.explain(request, identify)


def request_to(
    gate: AnyGate, method: str, path: str, headers: Mapping[str, str] | None = None, client: str | None = None
) -> Request:
    """A request that `gate` can explain. `path` may have a query. `client` is the address that sends it, if known.

    Raises ImpossibleRequest for a malformed method, path or address.
    """
    if not isinstance(gate, Gate | AsyncGate):
        raise TypeError(f"gate: expected a Gate or an AsyncGate, got {type_name(gate)}")
    if not (isinstance(method, str) and method.isascii() and method.isalpha()):
        raise ImpossibleRequest(f"method: expected a name such as GET, got {describe(method)}")
    if not (isinstance(path, str) and path.startswith("/") and len(path) <= _MAX_PATH_LENGTH):
        raise ImpossibleRequest(f"path: expected one such as /v1/transfers, got {describe(path)}")
    if client is not None and not is_address(client):
        raise ImpossibleRequest(f"address: expected an IP address such as 192.0.2.1, got {describe(client)}")
    path, _, query = path.partition("?")
    sent = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in (headers or {}).items()}

    def values(name: bytes) -> list[bytes]:
        names = (name,) if name else PREFIX_HEADERS
        return [sent[each] for each in names if each in sent]

    request = Request(method.upper(), path, client, values)
    source = _scope if isinstance(gate, AsyncGate) else _environ
    return request._replace(source=source(request, query, sent))


def _scope(request: Request, query: str, sent: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The ASGI scope of `request`, with all that a framework needs to read it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": quote(request.path).encode(),
        "root_path": "",
        "query_string": query.encode("latin-1", "replace"),
        "headers": [*sent.items()],
        "client": request.client and (request.client, 0),
        "server": None,
    }


def _environ(request: Request, query: str, sent: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The WSGI environ of `request`, with all that a framework needs to read it, such as its session."""
    environ = {
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1") for name, value in sent.items()
    }
    environ |= {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "QUERY_STRING": query,
    }
    if request.client is not None:
        environ["REMOTE_ADDR"] = request.client
    setup_testing_defaults(environ)
    return environ


class explainable:  # noqa: N801  # a context manager that is used like a function
    """Turns what a function of the app raises, for a `request` that nobody has sent, into ImpossibleRequest."""

    def __init__(self, request: Request) -> None:
        self._path = request.path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, Exception | SystemExit) and not isinstance(error, AwxRateLimitError):
            place = extract_tb(traceback)[-1]
            # The text of the error may have the key.
            raise ImpossibleRequest(
                f"{self._path}: a function of the app raised {type_name(error)} ({place.filename}:{place.lineno}); "
                "explain a request that has what the function reads, by gate.explain(request)"
            ) from error


def found_by(find_caller: Callable[[], Caller | None]) -> Callable[[Request], Caller | None]:
    """An identifier that neither waits nor blocks: it returns or raises what `find_caller` does now."""
    try:
        caller = find_caller()
    except KeyRefused as error:
        return _Refuses(error)
    return lambda _: caller


class _Refuses:
    """An identifier of nobody."""

    def __init__(self, error: KeyRefused) -> None:
        self._error = error

    def __call__(self, _: Request) -> None:
        raise self._error
