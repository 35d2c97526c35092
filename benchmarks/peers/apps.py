"""The same small app, bare and behind each middleware, called in process without a network.

An app is a function that answers one request and returns its status. The control is the app without a limiter; the
difference is the cost of a middleware.
"""

import asyncio
import io
import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.peers.deciders import PLAN
from fastapi import Depends, FastAPI
from fastapi_limiter.depends import RateLimiter
from flask import Flask
from flask_limiter import Limiter as FlaskLimiter
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from ratelimit import RateLimitMiddleware as AsgiRateLimit
from ratelimit import Rule as AsgiRule
from ratelimit.backends.simple import MemoryBackend as AsgiMemory
from slowapi import Limiter as SlowLimiter
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, MemoryBackend, PlanTable, Rule, StaticKeys, StoredKeys
from awx_ratelimit import Limiter as AwxLimiter
from awx_ratelimit.adapters import starlette, werkzeug
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier

Answer = Callable[[], int]
MANY = "100000000/minute"
KEY = "awx_bench_key_0123456789"
RULES = (
    Rule("/health", exempt=True),
    Rule("/v1/transfers", methods=["POST"], cost=5),
    Rule("/v1/agents/{id}/keys", cost=2),
)
_HEADERS = [
    (b"host", b"127.0.0.1"), (b"user-agent", b"bench"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"),
    (b"connection", b"keep-alive"), (b"x-api-key", KEY.encode()),
]  # fmt: skip


async def _page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def _asgi(app: Any, key: str = KEY) -> Answer:
    loop = asyncio.new_event_loop()
    status = 0
    headers = [(name, key.encode() if name == b"x-api-key" else value) for name, value in _HEADERS]

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    async def request() -> int:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/v1/agents",
            "raw_path": b"/v1/agents", "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await app(scope, receive, send)
        return status

    return lambda: loop.run_until_complete(request())


def _starlette() -> Starlette:
    return Starlette(routes=[Route("/v1/agents", _page)])


def starlette_bare() -> Answer:
    """The control."""
    return _asgi(_starlette())


def starlette_awx() -> Answer:
    """Key, rules, one decision of two rates and a slot, headers, the slot given back."""
    gate = AsyncGate(
        AsyncLimiter(MemoryBackend()),
        plans=PlanTable([PLAN], default="bench"),
        identify=StaticKeys({KEY: "bench"}),
        rules=RULES,
    )
    return _asgi(starlette.RateLimitMiddleware(_starlette(), gate=gate))


def starlette_awx_stored() -> Answer:
    """The same with a key of a store, which is in memory after its first request."""
    store = KeyStore.open("sqlite://")
    service, verifier = KeyService(store), KeyVerifier(store)
    service.accounts.create("bench", plan="bench")
    key = service.create("bench", "bench").secret.reveal()
    gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable([PLAN]), identify=StoredKeys(verifier), rules=RULES)
    return _asgi(starlette.RateLimitMiddleware(_starlette(), gate=gate), key)


def starlette_asgi_ratelimit() -> Answer:
    """One rule, no headers."""

    async def authenticate(_: Any) -> tuple[str, str]:
        return KEY, "default"

    config = {r"^/v1": [AsgiRule(minute=100_000_000, day=1_000_000_000)]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _asgi(AsgiRateLimit(_starlette(), authenticate, AsgiMemory(), config))


def _slowapi(middleware: type) -> Answer:
    limiter = SlowLimiter(key_func=lambda: KEY, default_limits=[MANY, "1000000000/day"], headers_enabled=True)
    app = _starlette()
    app.state.limiter = limiter
    app.add_middleware(middleware)
    return _asgi(app)


def starlette_slowapi_asgi() -> Answer:
    """Two limits, headers."""
    return _slowapi(SlowAPIASGIMiddleware)


def starlette_slowapi_base() -> Answer:
    """Two limits, headers, over BaseHTTPMiddleware."""
    return _slowapi(SlowAPIMiddleware)


def fastapi_bare() -> Answer:
    """The control of fastapi-limiter, which is a dependency."""
    app = FastAPI()
    app.add_api_route("/v1/agents", _page)
    return _asgi(app)


def fastapi_limiter() -> Answer:
    """One bucket, no headers."""
    limiter = Limiter(InMemoryBucket([Rate(1_000_000, Duration.MINUTE), Rate(2_000_000, Duration.DAY)]))

    async def identifier(_: Any) -> str:
        return KEY

    app = FastAPI()
    app.add_api_route("/v1/agents", _page, dependencies=[Depends(RateLimiter(limiter, identifier=identifier))])
    return _asgi(app)


def _wsgi(app: Any) -> Answer:
    status = 0

    def start_response(line: str, _headers: Any, _exc_info: Any = None) -> Any:
        nonlocal status
        status = int(line[:3])

    def request() -> int:
        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/v1/agents", "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            "HTTP_HOST": "127.0.0.1", "HTTP_ACCEPT": "*/*", "HTTP_X_API_KEY": KEY,
        }  # fmt: skip
        body = app(environ, start_response)
        for _ in body:
            pass
        body.close()
        return status

    return request


def _flask() -> Flask:
    app = Flask("bench")
    app.add_url_rule("/v1/agents", view_func=lambda: "hello", endpoint="page")
    return app


def flask_bare() -> Answer:
    """The control."""
    return _wsgi(_flask().wsgi_app)


def flask_awx() -> Answer:
    """Key, rules, one decision of two rates and a slot, headers, the slot given back."""
    gate = Gate(
        AwxLimiter(MemoryBackend()),
        plans=PlanTable([PLAN], default="bench"),
        identify=StaticKeys({KEY: "bench"}),
        rules=RULES,
    )
    return _wsgi(werkzeug.RateLimitMiddleware(_flask().wsgi_app, gate=gate))


def _flask_limiter(*, headers: bool) -> Answer:
    app = _flask()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FlaskLimiter(lambda: KEY, app=app, default_limits=[MANY, "1000000000/day"], headers_enabled=headers)
    return _wsgi(app.wsgi_app)


def flask_limiter() -> Answer:
    """Two limits, no headers."""
    return _flask_limiter(headers=False)


def flask_limiter_headers() -> Answer:
    """Two limits, headers."""
    return _flask_limiter(headers=True)


#: Each app with its control.
APPS = {
    "Starlette, bare": (starlette_bare, starlette_bare),
    "Starlette + awx_ratelimit, headers": (starlette_awx, starlette_bare),
    "Starlette + awx_ratelimit, stored key": (starlette_awx_stored, starlette_bare),
    "Starlette + asgi-ratelimit": (starlette_asgi_ratelimit, starlette_bare),
    "Starlette + slowapi ASGI, headers": (starlette_slowapi_asgi, starlette_bare),
    "Starlette + slowapi BaseHTTP, headers": (starlette_slowapi_base, starlette_bare),
    "FastAPI, bare": (fastapi_bare, fastapi_bare),
    "FastAPI + fastapi-limiter": (fastapi_limiter, fastapi_bare),
    "Flask, bare": (flask_bare, flask_bare),
    "Flask + awx_ratelimit, headers": (flask_awx, flask_bare),
    "Flask + Flask-Limiter": (flask_limiter, flask_bare),
    "Flask + Flask-Limiter, headers": (flask_limiter_headers, flask_bare),
}
