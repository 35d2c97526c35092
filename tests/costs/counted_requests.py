"""One admitted request of a small ASGI or WSGI app, with and without a gate, for counting its instructions."""

from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
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
from awx_ratelimit.adapters import starlette, werkzeug
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


def answerer(name: str) -> Callable[[], None]:  # noqa: PLR0911  # one app for each name
    """A function that answers one request of a bare app (the control), or of one behind a gate.

    The gate finds the key and the rule, decides two rates and a slot, adds two headers and releases the slot. The clock
    stands still, so that every request has other numbers in its headers.
    """
    match name:
        case "ASGI, bare":
            return _asgi(_asgi_app)
        case "ASGI":
            return _asgi(_limited())
        case "throttled addresses":
            limited = _limited()
            limited.gate._unknown_key_addresses.update(
                {f"unknown-keys:{number}": monotonic() for number in range(10_000)}
            )
            return _asgi(limited)
        case "listener":
            return _asgi(_limited(listeners=[_Counter()]))
        case "subclass":
            return _asgi(_limited(identify=_Keys({KEY: "counted"})))
        case "bearer key":
            headers = [*_HEADERS[:-1], (b"authorization", b"Bearer " + KEY.encode())]
            return _asgi(_limited(identify=StaticKeys({KEY: "counted"}, bearer=True)), headers)
        case "three budgets":
            account = Plan.of("account", per_minute=10**6)
            plan = Plan("counted", PLAN.rates, PLAN.concurrency, account=account)
            service = Plan.of("service", per_second=10**6)
            return _asgi(_limited(plans=PlanTable([plan], default="counted"), service=service))
        case "WSGI, bare":
            return _wsgi(_wsgi_app)
        case _:
            return _wsgi(
                werkzeug.RateLimitMiddleware(
                    _wsgi_app, gate=Gate(Limiter(MemoryBackend(clock=ManualClock())), **ARGUMENTS)
                )
            )


class _Keys(StaticKeys):
    """Changes nothing."""


class _Counter:
    """A listener that does next to nothing."""

    def __call__(self, _: Decision) -> None:
        pass


def _limited(listeners: Sequence[Any] = (), **more: Any) -> Any:
    limiter = AsyncLimiter(MemoryBackend(clock=ManualClock()), listeners=listeners)
    return starlette.RateLimitMiddleware(_asgi_app, gate=AsyncGate(limiter, **ARGUMENTS | more))


async def _asgi_app(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"5"), (b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


def _wsgi_app(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5"), ("Content-Type", "text/plain; charset=utf-8")])
    return [b"hello"]


def _asgi(app: Any, headers: Any = _HEADERS) -> Callable[[], None]:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        pass

    def request() -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/v1/agents",
            "raw_path": b"/v1/agents", "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
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
