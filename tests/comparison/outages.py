"""What every library answers while its Redis cannot be reached: 8 requests to a limit of 5 a minute."""

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from flask import Flask
from flask_limiter import Limiter as FlaskLimiter
from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter
from pyrate_limiter import Limiter as PyrateLimiter
from pyrate_limiter import Rate, RedisBucket
from ratelimit import RateLimitMiddleware as AsgiRateLimit
from ratelimit import Rule as AsgiRule
from ratelimit.backends.redis import RedisBackend as AsgiRedis
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis_fastapi import rate_limit
from redis_fastapi.deps import get_rate_limit_backend
from redis_fastapi.ratelimit import add_redis_rate_limiting
from redis_fastapi.ratelimit_backend import RateLimitBackend
from slowapi import Limiter as SlowLimiter
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from tests.comparison.libraries import OURS, Library
from tests.comparison.shown import NO, PARTLY, YES, Shown, experiment
from tests.comparison.views import on_redis
from tests.migration.observing import admitted
from tests.migration.peers import UNREACHABLE
from tests.migration.sites import ADDRESS, Answer, AsgiSender, WsgiSender
from throttled import RedisStore, Throttled, per_min

from awx_ratelimit import Plan, RateLimitMiddleware

_REQUESTS = 8
#: Sends one request.
Ask = Callable[[], Answer]


def _page() -> str:
    return "hello"


@contextmanager
def _asgi(app: Any) -> Iterator[Ask]:
    with asyncio.Runner() as runner:
        sender = AsgiSender(app, runner.get_loop())
        yield lambda: sender.send("/", "GET", ADDRESS, {})


def _function(is_admitted: Callable[[], bool]) -> Ask:
    def ask() -> Answer:
        try:
            return Answer(200 if is_admitted() else 429, {}, "")
        except Exception:
            return Answer(500, {}, "")

    return ask


@contextmanager
def awx(url: str) -> Iterator[Ask]:
    """The defaults: a local limit."""
    app = FastAPI()
    app.get("/")(_page)
    app.add_middleware(RateLimitMiddleware, keys={}, anonymous=Plan.of("visitor", per_minute=5), backend=url)
    with _asgi(app) as ask:
        yield ask


@contextmanager
def slowapi(url: str, **options: Any) -> Iterator[Ask]:
    """A decorated route."""
    limiter = SlowLimiter(key_func=get_remote_address, storage_uri=url, **options)
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]

    @app.get("/")
    @limiter.limit("5/minute")
    async def page(request: Request, response: Response) -> str:
        return "hello"

    with _asgi(app) as ask:
        yield ask


@contextmanager
def flask_limiter(url: str, **options: Any) -> Iterator[Ask]:
    """A decorated view."""
    app = Flask(__name__)
    limiter = FlaskLimiter(lambda: ADDRESS, app=app, storage_uri=url, **options)
    app.add_url_rule("/", view_func=limiter.limit("5/minute")(_page))
    sender = WsgiSender(app)
    yield lambda: sender.send("/", "GET", ADDRESS, {})


@contextmanager
def limits(url: str) -> Iterator[Ask]:
    """One fixed window."""
    strategy, limit = FixedWindowRateLimiter(storage_from_string(url)), parse("5/minute")
    yield _function(lambda: strategy.hit(limit, "caller"))


@contextmanager
def throttled(url: str) -> Iterator[Ask]:
    """One token bucket."""
    limiter = Throttled(key="caller", quota=per_min(5), store=RedisStore(server=url))
    yield _function(lambda: not limiter.limit().limited)


@contextmanager
def pyrate(url: str) -> Iterator[Ask]:
    """One bucket, which needs Redis when it is made."""

    def is_admitted() -> bool:
        with Redis.from_url(url) as redis:
            bucket: Any = RedisBucket.init([Rate(5, 60_000)], redis, "caller")
            return bool(PyrateLimiter(bucket).try_acquire("caller", blocking=False))

    yield _function(is_admitted)


@contextmanager
def asgi_ratelimit(url: str) -> Iterator[Ask]:
    """A rule of one limit."""

    async def authenticate(_: Any) -> tuple[str, str]:
        return ADDRESS, "default"

    app = FastAPI()
    app.get("/")(_page)
    rule: Any = AsgiRule
    redis: Any = AsyncRedis.from_url(url)
    with _asgi(AsgiRateLimit(app, authenticate, AsgiRedis(redis), {"/": [rule(minute=5)]})) as ask:
        yield ask


@contextmanager
def redis_sdk(url: str) -> Iterator[Ask]:
    """A dependency."""
    app = FastAPI()
    add_redis_rate_limiting(app)
    app.get("/", dependencies=[Depends(rate_limit("5/minute"))])(_page)
    redis: Any = AsyncRedis.from_url(url)
    app.dependency_overrides[get_rate_limit_backend] = lambda: RateLimitBackend(redis)
    with _asgi(app) as ask:
        yield ask


@contextmanager
def django_ratelimit(url: str) -> Iterator[Ask]:
    """A decorated view."""
    with on_redis("django_ratelimit", url) as ask:
        yield ask


@contextmanager
def drf(url: str) -> Iterator[Ask]:
    """A view with a throttle."""
    with on_redis("drf", url) as ask:
        yield ask


_APPS: dict[str, Any] = {
    "awx_ratelimit": awx,
    "slowapi": slowapi,
    "flask_limiter": flask_limiter,
    "fastapi_limiter": pyrate,
    "django_ratelimit": django_ratelimit,
    "drf": drf,
    "limits": limits,
    "throttled": throttled,
    "pyrate": pyrate,
    "asgi_ratelimit": asgi_ratelimit,
    "redis_sdk": redis_sdk,
}
#: Options that decide what happens.
_OPTIONS: dict[str, dict[str, Any]] = {
    "slowapi": {"in_memory_fallback_enabled": True},
    "flask_limiter": {"in_memory_fallback_enabled": True},
}


@experiment
def outage(library: Library) -> Shown:
    """Redis refuses every connection."""
    by_default = _answers(library, {})
    if by_default == "5 of 8 admitted":
        return Shown(YES, by_default)
    if library.name not in _OPTIONS:
        return Shown(NO, by_default)
    (option,) = _OPTIONS[library.name]
    return Shown(PARTLY, f"{by_default}; with `{option}` {_answers(library, _OPTIONS[library.name])}")


def _answers(library: Library, options: dict[str, Any]) -> str:
    with _APPS[library.name](UNREACHABLE, **options) as ask:
        return admitted(ask() for _ in range(_REQUESTS))


@experiment
def hang(library: Library) -> Shown | None:
    """Redis accepts connections and never answers. Each waits for the timeout of redis-py, which is shortened."""
    if library is OURS:
        return None
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}"
        with _APPS[library.name](f"{url}?socket_timeout=0.005") as ask:
            status = ask().status
        connection: Any = Redis.from_url(url).connection_pool.make_connection()
        waited_s = _connections(server) * connection.socket_timeout
    return Shown(NO, f"waits {waited_s:g} s, then {'admits' if status == 200 else status}")


def _connections(server: socket.socket) -> int:
    server.setblocking(False)
    for count in itertools.count():
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError
