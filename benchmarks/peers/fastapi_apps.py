"""A route of FastAPI, bare and behind each rate limiter for FastAPI."""

from collections.abc import Callable
from typing import Any

from benchmarks.peers.deciders import KEY, MANY, PER_DAY, PLAN
from fastapi import Depends, FastAPI
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from slowapi import Limiter as SlowLimiter
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from throttled.asyncio.contrib.fastapi import Limiter as ThrottledLimiter
from throttled.asyncio.contrib.fastapi import RateLimitMiddleware as ThrottledHeaders

from awx_ratelimit import AsyncGate, Plan, RateLimitMiddleware
from awx_ratelimit.adapters.fastapi import limit


async def _page(request: Request) -> PlainTextResponse:  # noqa: ARG001  # slowapi looks for this name
    return PlainTextResponse("hello")


def bare() -> FastAPI:
    """The control."""
    return _app(_page)


def awx(gate: AsyncGate) -> FastAPI:
    """Key, rules, one decision of two rates and a slot, headers, the slot given back."""
    app = bare()
    app.add_middleware(RateLimitMiddleware, gate=gate)
    return app


def awx_limit() -> FastAPI:
    """One decision of two rates, by address."""
    return _app(_page, limit(Plan("bench", PLAN.rates)))


def fastapi_limiter() -> FastAPI:
    """One bucket, no headers."""
    limiter = Limiter(InMemoryBucket([Rate(1_000_000, Duration.MINUTE), Rate(2_000_000, Duration.DAY)]))

    async def identifier(_: object) -> str:
        return KEY

    return _app(_page, RateLimiter(limiter, identifier=identifier))


def slowapi() -> FastAPI:
    """Two limits, no headers."""
    limiter = SlowLimiter(key_func=lambda: KEY)
    app = _app(limiter.limit(f"{MANY};{PER_DAY}/day")(_page))
    app.state.limiter = limiter
    return app


def throttled() -> FastAPI:
    """One token bucket, headers."""
    limiter = ThrottledLimiter(f"{MANY.replace('minute', 'm')}", key_func=lambda _: KEY)
    app = _app(limiter.limit()(_page))
    app.add_middleware(ThrottledHeaders)
    return app


def _app(page: Callable[..., Any], *dependencies: Callable[..., Any]) -> FastAPI:
    app = FastAPI()
    app.add_api_route("/v1/agents", page, dependencies=[Depends(each) for each in dependencies])
    return app
