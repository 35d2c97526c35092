"""How a wrong line of code is run, and the names that these lines use."""

import asyncio
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette

from awx_ratelimit import (
    STARTER,
    AsyncGate,
    AsyncLimiter,
    Caller,
    Claim,
    Concurrency,
    Decision,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    RateLimitMiddleware,
    RefusalLog,
    Request,
    Rule,
    StaticKeys,
    StoredKeys,
)
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.fastapi import document_limits
from awx_ratelimit.adapters.starlette import RateLimitMiddleware as AsgiMiddleware
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware as WsgiMiddleware
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.open import open_async_backend, open_backend
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.backends.resilience.denial_cache_sync import DenialCacheBackend
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.management import AccessTokens, Jwks, ManagementApi
from awx_ratelimit.testing import ManualClock

URL = "redis://:secret@localhost:6379"
limiter = Limiter(MemoryBackend())
async_limiter = AsyncLimiter(MemoryBackend())
table = PlanTable.default()
plan = Plan.of("api", per_minute=60)
keys = StaticKeys({"awx_example_key": "starter"})
flask_app, starlette_app = Flask("shop"), Starlette()


def sync_gate(**changed: Any) -> Gate:
    arguments: dict[str, Any] = {"limiter": limiter, "plans": table, "identify": keys}
    return Gate(**arguments | changed)


def async_gate(**changed: Any) -> AsyncGate:
    arguments: dict[str, Any] = {"limiter": async_limiter, "plans": table, "identify": keys}
    return AsyncGate(**arguments | changed)


def tokens(**changed: Any) -> AccessTokens:
    arguments: dict[str, Any] = {"algorithms": ["HS256"], "issuer": "https://login.example.com", "audience": "api"}
    return AccessTokens("a secret that is long enough for HS256", **arguments | changed)


def no_parameters() -> None: ...


def two_parameters(request: Request, database: object) -> None: ...


async def async_identify(request: Request) -> None: ...


def listener(decision: Decision) -> None: ...


async def async_listener(decision: Decision) -> None: ...


#: The names that a wrong line can use.
NAMES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        AsgiApp, AsyncGate, AsyncGuardedBackend, AsyncLimiter, AsyncRedisBackend, Caller, Claim, Concurrency,
        DenialCacheBackend, FastAPI, Flask, Gate, GuardedBackend, HostBackend, Jwks, KeyService, KeyStore, KeyVerifier,
        Limiter, ManagementApi, ManualClock, MemoryBackend, Plan, PlanTable, Rate, RateLimitMiddleware, RedisBackend,
        RefusalLog, Rule, Starlette, StaticKeys, StoredKeys, WsgiApp,
    )
} | {
    "AsgiMiddleware": AsgiMiddleware, "WsgiMiddleware": WsgiMiddleware, "STARTER": STARTER, "URL": URL,
    "Path": Path, "asyncio": asyncio, "limiter": limiter, "async_limiter": async_limiter, "table": table, "plan": plan,
    "keys": keys,
    "flask_app": flask_app, "starlette_app": starlette_app, "document_limits": document_limits,
    "open_backend": open_backend, "open_async_backend": open_async_backend, "sync_gate": sync_gate,
    "async_gate": async_gate, "tokens": tokens, "no_parameters": no_parameters, "two_parameters": two_parameters,
    "async_identify": async_identify, "listener": listener, "async_listener": async_listener,
}  # fmt: skip

#: A wrong line, the error that it raises, and the complete text of that error.
Mistake = tuple[str, type[Exception], str]


def each(mistakes: Sequence[Mistake]) -> pytest.MarkDecorator:
    """Run a test once for each mistake."""
    return pytest.mark.parametrize("mistake", mistakes, ids=[line for line, _, _ in mistakes])


def assert_refused(mistake: Mistake) -> None:
    """The line raises its error, with exactly this text, which has no name twice."""
    line, error, text = mistake
    assert not [name for name, rest in pairwise(text.split(": ")) if f"{rest} ".startswith(f"{name} ")]
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        eval(line, dict(NAMES))
