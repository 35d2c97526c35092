"""The same small app, bare and behind each middleware. The difference is the cost of a middleware."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.peers import django_apps, fastapi_apps
from benchmarks.peers.deciders import KEY, MANY, PLAN
from flask import Flask
from flask_limiter import Limiter as FlaskLimiter
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

RULES = (
    Rule("/health", exempt=True),
    Rule("/v1/transfers", methods=["POST"], cost=5),
    Rule("/v1/agents/{id}/keys", cost=2),
)
_TWO_HEADERS = (
    (b"ratelimit-policy", b'"minute";q=100000000;w=60, "day";q=100000000;w=86400, "concurrent";q=1000'),
    (b"ratelimit", b'"minute";r=99999999;t=60, "day";r=99999999;t=86400, "concurrent";r=999'),
)


async def _page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


class App(NamedTuple):
    """An ASGI or WSGI app, and the key that its clients send."""

    call: Any
    key: str = KEY
    is_wsgi: bool = False


class _ByHand:
    """A middleware that decides nothing and adds two headers of the usual length."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].extend(_TWO_HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


def _starlette() -> Starlette:
    return Starlette(routes=[Route("/v1/agents", _page)])


def starlette_bare() -> App:
    """The app alone."""
    return App(_starlette())


def starlette_by_hand() -> App:
    """The control of servers."""
    return App(_ByHand(_starlette()))


def starlette_awx() -> App:
    """Key, rules, one decision of two rates and a slot, headers, the slot given back."""
    return App(starlette.RateLimitMiddleware(_starlette(), gate=_async_gate()))


def _async_gate() -> AsyncGate:
    return AsyncGate(
        AsyncLimiter(MemoryBackend()),
        plans=PlanTable([PLAN], default="bench"),
        identify=StaticKeys({KEY: "bench"}),
        rules=RULES,
    )


class _WithIdleThreads(KeyVerifier):
    """Its threads neither look for changed keys twice a second nor write uses every 10 s. See bench_instructions."""

    has_polled = False

    def poll(self) -> None:
        if not self.has_polled:
            self.has_polled = True
            super().poll()

    def write_uses(self) -> None:
        pass


def starlette_awx_stored() -> App:
    """The same with a key of a store, which is in memory after its first request."""
    store = KeyStore.open("sqlite://")
    service, verifier = KeyService(store), _WithIdleThreads(store)
    service.accounts.create("bench", plan="bench")
    key = service.create("bench", "bench").secret.reveal()
    gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable([PLAN]), identify=StoredKeys(verifier), rules=RULES)
    return App(starlette.RateLimitMiddleware(_starlette(), gate=gate), key)


def starlette_asgi_ratelimit() -> App:
    """One rule, no headers."""

    async def authenticate(_: Any) -> tuple[str, str]:
        return KEY, "default"

    config = {r"^/v1": [AsgiRule(minute=100_000_000, day=1_000_000_000)]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return App(AsgiRateLimit(_starlette(), authenticate, AsgiMemory(), config))


def _slowapi(middleware: type) -> App:
    limiter = SlowLimiter(key_func=lambda: KEY, default_limits=[MANY, "1000000000/day"], headers_enabled=True)
    app = _starlette()
    app.state.limiter = limiter
    app.add_middleware(middleware)
    return App(app)


def starlette_slowapi_asgi() -> App:
    """Two limits, headers."""
    return _slowapi(SlowAPIASGIMiddleware)


def starlette_slowapi_base() -> App:
    """Two limits, headers, over BaseHTTPMiddleware."""
    return _slowapi(SlowAPIMiddleware)


def _fastapi(app: Callable[[], Any]) -> Callable[[], App]:
    return lambda: App(app())


fastapi_bare = _fastapi(fastapi_apps.bare)


def _flask() -> Flask:
    app = Flask("bench")
    app.add_url_rule("/v1/agents", view_func=lambda: "hello", endpoint="page")
    return app


def flask_bare() -> App:
    """The control."""
    return App(_flask().wsgi_app, is_wsgi=True)


def flask_awx() -> App:
    """Key, rules, one decision of two rates and a slot, headers, the slot given back."""
    gate = Gate(
        AwxLimiter(MemoryBackend()),
        plans=PlanTable([PLAN], default="bench"),
        identify=StaticKeys({KEY: "bench"}),
        rules=RULES,
    )
    return App(werkzeug.RateLimitMiddleware(_flask().wsgi_app, gate=gate), is_wsgi=True)


def _flask_limiter(*, headers: bool) -> App:
    app = _flask()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FlaskLimiter(lambda: KEY, app=app, default_limits=[MANY, "1000000000/day"], headers_enabled=headers)
    return App(app.wsgi_app, is_wsgi=True)


def flask_limiter() -> App:
    """Two limits, no headers."""
    return _flask_limiter(headers=False)


def flask_limiter_headers() -> App:
    """Two limits, headers."""
    return _flask_limiter(headers=True)


def flask_by_hand() -> App:
    """The control of servers."""
    return _wsgi_by_hand(_flask().wsgi_app)


def _wsgi_by_hand(app: Any) -> App:
    texts = [(name.decode(), value.decode()) for name, value in _TWO_HEADERS]

    def with_headers(environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, headers + texts, exc_info)

        return app(environ, start)

    return App(with_headers, is_wsgi=True)


def _django(view: Callable[[], Any]) -> Callable[[], App]:
    return lambda: App(view(), is_wsgi=True)


django_bare, drf_bare = _django(django_apps.bare), _django(django_apps.drf_bare)


#: Each app with its control.
APPS = {
    "Starlette, bare": (starlette_bare, starlette_bare),
    "Starlette + two headers by hand": (starlette_by_hand, starlette_bare),
    "Starlette + awx_ratelimit, headers": (starlette_awx, starlette_bare),
    "Starlette + awx_ratelimit, stored key": (starlette_awx_stored, starlette_bare),
    "Starlette + asgi-ratelimit": (starlette_asgi_ratelimit, starlette_bare),
    "Starlette + slowapi ASGI, headers": (starlette_slowapi_asgi, starlette_bare),
    "Starlette + slowapi BaseHTTP, headers": (starlette_slowapi_base, starlette_bare),
    "FastAPI, bare": (fastapi_bare, fastapi_bare),
    "FastAPI + two headers by hand": (lambda: App(_ByHand(fastapi_apps.bare())), fastapi_bare),
    "FastAPI + awx_ratelimit, headers": (lambda: App(fastapi_apps.awx(_async_gate())), fastapi_bare),
    "FastAPI + awx_ratelimit, limit of a route": (_fastapi(fastapi_apps.awx_limit), fastapi_bare),
    "FastAPI + fastapi-limiter": (_fastapi(fastapi_apps.fastapi_limiter), fastapi_bare),
    "FastAPI + slowapi, limit of a route": (_fastapi(fastapi_apps.slowapi), fastapi_bare),
    "FastAPI + throttled-py, headers": (_fastapi(fastapi_apps.throttled), fastapi_bare),
    "Flask, bare": (flask_bare, flask_bare),
    "Flask + two headers by hand": (flask_by_hand, flask_bare),
    "Flask + awx_ratelimit, headers": (flask_awx, flask_bare),
    "Flask + Flask-Limiter": (flask_limiter, flask_bare),
    "Flask + Flask-Limiter, headers": (flask_limiter_headers, flask_bare),
    "Django, bare": (django_bare, django_bare),
    "Django + two headers by hand": (lambda: _wsgi_by_hand(django_apps.bare()), django_bare),
    "Django + awx_ratelimit, limit of a view": (_django(django_apps.awx), django_bare),
    "Django + django-ratelimit": (_django(django_apps.django_ratelimit), django_bare),
    "DRF, bare": (drf_bare, drf_bare),
    "DRF + two headers by hand": (lambda: _wsgi_by_hand(django_apps.drf_bare()), drf_bare),
    "DRF + awx_ratelimit, throttle": (_django(django_apps.drf_awx), drf_bare),
    "DRF + its throttle": (_django(django_apps.drf), drf_bare),
}
