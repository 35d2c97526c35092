"""Libraries that limit routes of ASGI and WSGI apps, as subjects."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi_limiter.depends import RateLimiter
from flask import Flask
from flask import request as flask_request
from flask_limiter import Limiter as FlaskLimiter
from flask_limiter.util import get_remote_address as flask_address
from ratelimit import RateLimitMiddleware as AsgiRateLimit
from ratelimit import Rule as AsgiRule
from ratelimit.backends.simple import MemoryBackend as AsgiMemory
from redis_fastapi import rate_limit
from redis_fastapi.ratelimit import add_redis_rate_limiting
from slowapi import Limiter as SlowLimiter
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from tests.comparison.accounts import on_simulated_redis
from tests.comparison.functions import pyrate_limiter_of
from tests.comparison.subject import NAMES, Limit, Subject, notation, sending, standing_clock
from tests.migration.running import asgi_gate
from tests.migration.sites import ADDRESS, AsgiSender, WsgiSender

from awx_ratelimit import Plan, Rate, RateLimitMiddleware
from awx_ratelimit.adapters.fastapi import limit
from awx_ratelimit.testing import frozen


def _page() -> str:
    return "hello"


@contextmanager
def awx(*limits: Limit) -> Iterator[Subject]:
    """A route of FastAPI."""
    rates = [Rate(NAMES[seconds], amount, seconds * 1_000) for amount, seconds in limits]
    plan = Plan("route", tuple(sorted(rates, key=lambda rate: rate.period_ms)))
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, keys={}, anonymous=Plan.of("visitor", per_minute=1_000))

    @app.get("/", dependencies=[Depends(limit(plan, cost=lambda request: int(request.query("cost") or "1")))])
    def page() -> str:
        return "hello"

    with asyncio.Runner() as runner, frozen(asgi_gate(SimpleNamespace(app=app))) as clock:  # type: ignore[arg-type]
        yield Subject(sending(AsgiSender(app, runner.get_loop())), clock)


@contextmanager
def slowapi(*limits: Limit) -> Iterator[Subject]:
    """A decorated route of FastAPI."""
    limiter = SlowLimiter(key_func=get_remote_address, headers_enabled=True)
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]

    @app.get("/")
    @limiter.limit(notation(limits), cost=_cost)
    async def page(request: Request, response: Response) -> str:
        return "hello"

    readers = ("limits.storage.memory.time", "limits.strategies.time", "slowapi.extension.time")
    with standing_clock(*readers) as clock, asyncio.Runner() as runner:
        yield Subject(sending(AsgiSender(app, runner.get_loop())), clock)


@contextmanager
def flask_limiter(*limits: Limit) -> Iterator[Subject]:
    """A decorated view of Flask."""
    app = Flask(__name__)
    limiter = FlaskLimiter(flask_address, app=app, headers_enabled=True, storage_uri="memory://")
    app.add_url_rule("/", view_func=limiter.limit(notation(limits), cost=_cost_of_flask)(_page))
    readers = ("limits.storage.memory.time", "limits.strategies.time", "flask_limiter._extension.time")
    with standing_clock(*readers) as clock:
        yield Subject(sending(WsgiSender(app)), clock)


def _cost(request: Any) -> int:
    return int(request.query_params["cost"])


def _cost_of_flask() -> int:
    return int(flask_request.args["cost"])


@contextmanager
def fastapi_limiter(*limits: Limit) -> Iterator[Subject]:
    """A dependency with a limiter of all rates, which decides them together."""
    _, limiter = pyrate_limiter_of(limits)
    app = FastAPI()

    @app.get("/", dependencies=[Depends(RateLimiter(limiter))])
    async def page() -> str:
        return "hello"

    with standing_clock("pyrate_limiter.clocks.monotonic_ns") as clock, asyncio.Runner() as runner:
        yield Subject(sending(AsgiSender(app, runner.get_loop())), clock)


@contextmanager
def asgi_ratelimit(*limits: Limit) -> Iterator[Subject]:
    """A rule of all limits, in memory."""
    memory: Any = AsgiMemory
    rule: Any = AsgiRule

    async def authenticate(_: Any) -> tuple[str, str]:
        return ADDRESS, "default"

    rules = [rule(**{NAMES[seconds]: amount for amount, seconds in limits})]
    app = FastAPI()
    app.get("/")(_page)
    with standing_clock() as clock, asyncio.Runner() as runner:
        backend = memory()
        # It reads the clock of the event loop.
        backend.now = lambda: clock.now_ms() // 1_000
        limited = AsgiRateLimit(app, authenticate, backend, {"/": rules})
        yield Subject(sending(AsgiSender(limited, runner.get_loop())), clock)


@contextmanager
def redis_sdk(*limits: Limit) -> Iterator[Subject]:
    """A dependency for each limit, on a Redis that is simulated."""
    app = FastAPI()
    add_redis_rate_limiting(app)
    # A cost belongs to a route.
    for cost in (1, 2, 8):
        each = [
            rate_limit(f"{amount}/{NAMES[s]}", scope=NAMES[s], cost=cost, ietf_headers=True) for amount, s in limits
        ]
        app.get(f"/{cost}", dependencies=[Depends(one) for one in each])(_page)
    with on_simulated_redis(app) as (sender, clock):
        yield Subject(lambda cost: sender.send(f"/{cost}", "GET", ADDRESS, {}), clock)
