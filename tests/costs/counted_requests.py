"""One admitted request of a small ASGI or WSGI app, with and without a gate, for counting its instructions."""

from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from typing import Any

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    Concurrency,
    Decision,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    Rule,
    StaticKeys,
)
from awx_ratelimit.adapters.asgi.middleware import RateLimitMiddleware
from awx_ratelimit.adapters.wsgi.middleware import RateLimitMiddleware as WsgiMiddleware
from awx_ratelimit.testing import ManualClock

KEY = "awx_counted_key"
PLAN = Plan("counted", (Rate("minute", 10**8, 60_000), Rate("day", 10**8, 86_400_000)), Concurrency(1_000))
ARGUMENTS: dict[str, Any] = {
    "plans": PlanTable([PLAN], default="counted"),
    "identify": StaticKeys({KEY: "counted"}),
    "rules": [Rule("/health", exempt=True), Rule("/v1/transfers", methods=["POST"], cost=5)],
}
_HEADERS = [
    (b"host", b"127.0.0.1"), (b"user-agent", b"any"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"),
    (b"connection", b"keep-alive"), (b"x-api-key", KEY.encode()),
]  # fmt: skip


def answerer(name: str) -> Callable[[], None]:
    """A function that answers one request of a bare app (the control), or of one behind a gate.

    The gate finds the key and the rule, decides two rates and a slot, adds two headers and releases the slot. The clock
    stands still, so that every request has other numbers in its headers. With kept texts, the clock goes on and drains
    what a request was charged, so all requests have the same numbers.
    """
    return _APPS[name]()


class _Keys(StaticKeys):
    """Changes nothing."""


class _Counter:
    """A listener that does next to nothing."""

    def __call__(self, _: Decision) -> None:
        pass


class _Ticking:
    """A clock that goes on by a millisecond whenever it is read."""

    def __init__(self) -> None:
        self.now_ms = count(1).__next__


def _limited(listeners: Sequence[Any] = (), clock: Any = None, **more: Any) -> Any:
    limiter = AsyncLimiter(MemoryBackend(clock=clock or ManualClock()), listeners=listeners)
    return RateLimitMiddleware(_asgi_app, gate=AsyncGate(limiter, **ARGUMENTS | more))


def _several() -> Callable[[], None]:
    account = Plan.of("account", per_minute=10**6)
    plan = Plan("counted", PLAN.rates, PLAN.concurrency, account=account)
    keys = StaticKeys({KEY: Caller("counted", "counted", account="counted")})
    service = Plan.of("service", per_second=10**6)
    return _asgi(_limited(plans=PlanTable([plan], default="counted"), identify=keys, service=service))


def _throttled() -> Callable[[], None]:
    """20 addresses are throttled for unknown keys, and the request comes from one of them."""
    limited = _limited()
    for number in range(1, 21):
        unknown = [(b"x-api-key", b"awx_unknown")]
        guess = _asgi(limited, unknown, f"192.0.2.{number}")
        for _ in range(21):
            guess()
    return _asgi(limited, client="192.0.2.1")


def _limited_wsgi(clock: Any) -> Callable[[], None]:
    return _wsgi(WsgiMiddleware(_wsgi_app, gate=Gate(Limiter(MemoryBackend(clock=clock)), **ARGUMENTS)))


async def _asgi_app(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"5"), (b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


def _wsgi_app(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5"), ("Content-Type", "text/plain; charset=utf-8")])
    return [b"hello"]


def _asgi(app: Any, headers: Any = _HEADERS, client: str = "127.0.0.1") -> Callable[[], None]:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        pass

    def request() -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/v1/agents",
            "raw_path": b"/v1/agents", "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
            "client": (client, 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        _run(app(scope, receive, send))

    return request


def _run(request: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits, without an event loop."""
    try:
        request.send(None)
    except StopIteration:
        return
    raise AssertionError("the app waited")


def _wsgi(app: Any) -> Callable[[], None]:
    def start_response(_status: str, _headers: Any, _exc_info: Any = None) -> None:
        pass

    def request() -> None:
        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/v1/agents", "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1", "HTTP_X_API_KEY": KEY,
        }  # fmt: skip
        body = app(environ, start_response)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()

    return request


_BEARER = [*_HEADERS[:-1], (b"authorization", b"Bearer " + KEY.encode())]
_APPS: dict[str, Callable[[], Callable[[], None]]] = {
    "ASGI, bare": lambda: _asgi(_asgi_app),
    "ASGI": lambda: _asgi(_limited()),
    "ASGI, kept texts": lambda: _asgi(_limited(clock=_Ticking())),
    "WSGI, bare": lambda: _wsgi(_wsgi_app),
    "WSGI": lambda: _limited_wsgi(ManualClock()),
    "WSGI, kept texts": lambda: _limited_wsgi(_Ticking()),
    "throttled addresses": _throttled,
    "listener": lambda: _asgi(_limited(listeners=[_Counter()])),
    "subclass": lambda: _asgi(_limited(identify=_Keys({KEY: "counted"}))),
    "bearer key": lambda: _asgi(_limited(identify=StaticKeys({KEY: "counted"}, bearer=True)), _BEARER),
    "three budgets": _several,
}
