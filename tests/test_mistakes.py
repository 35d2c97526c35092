"""A newcomer's mistakes are refused early, by one sentence that says what to write instead."""

import asyncio
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.testclient import TestClient
from werkzeug.test import Client

from awx_ratelimit import (
    STARTER,
    AsyncGate,
    AsyncLimiter,
    Caller,
    Claim,
    Concurrency,
    Decision,
    Gate,
    InvalidLimit,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    RefusalLog,
    Request,
    Rule,
    StaticKeys,
    StoredKeys,
)
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.fastapi import document_limits
from awx_ratelimit.adapters.starlette import RateLimitMiddleware as Asgi
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware as Wsgi
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.open import open_async_backend, open_backend
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.backends.resilience.denial_cache_sync import DenialCacheBackend
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.management import AccessTokens, Jwks, ManagementApi
from awx_ratelimit.management.auth.signing import ALGORITHMS
from awx_ratelimit.testing import ManualClock

#: The names that the mistakes below use.
WRITTEN_WITH = (
    AsgiApp, AsyncGuardedBackend, AsyncRedisBackend, Concurrency, FastAPI, GuardedBackend, HostBackend, Jwks,
    KeyService, KeyStore, KeyVerifier, ManagementApi, ManualClock, Rate, RedisBackend, RefusalLog, DenialCacheBackend,
    Rule, StoredKeys, WsgiApp, document_limits, open_async_backend, open_backend, Asgi, Wsgi,
)  # fmt: skip
URL = "redis://:secret@localhost:6379"

limiter = Limiter(MemoryBackend())
async_limiter = AsyncLimiter(MemoryBackend())
table = PlanTable.default()
plan = Plan.of("api", per_minute=60)
keys = StaticKeys({"awx_example_key": "starter"})
flask_app, starlette_app = Flask("shop"), Starlette()

USE = 'use a string such as f"user_{user.id}"'
#: Each thing that takes a subject.
TAKES_A_SUBJECT: dict[str, Callable[[Any], Any]] = {
    "Caller": Caller,
    "Claim": lambda subject: Claim(subject, STARTER),
    "acquire": lambda subject: limiter.acquire(subject, STARTER),
    "claim": lambda subject: limiter.claim(subject, STARTER, 1),
    "peek": lambda subject: limiter.peek(subject, STARTER),
    "hold": lambda subject: limiter.hold(subject, STARTER).__enter__(),
    "reset": limiter.reset,
    "async acquire": lambda subject: asyncio.run(async_limiter.acquire(subject, STARTER)),
    "async claim": lambda subject: asyncio.run(async_limiter.claim(subject, STARTER, 1)),
    "async peek": lambda subject: asyncio.run(async_limiter.peek(subject, STARTER)),
    "async hold": lambda subject: asyncio.run(async_limiter.hold(subject, STARTER).__aenter__()),
    "async reset": lambda subject: asyncio.run(async_limiter.reset(subject)),
}
SUBJECTS: list[tuple[Any, str]] = [
    (42, f"subject is 42 (int); {USE}"),
    (True, f"subject is True (bool); {USE}"),
    (4.5, f"subject is 4.5 (float); {USE}"),
    (None, f"subject is None (NoneType); {USE}"),
    (b"awx_example_key", f"subject is bytes; {USE}"),
    (("user", 1), f"subject is a tuple; {USE}"),
    (date(2030, 1, 1), f"subject is a date; {USE}"),
    (str, f"subject is the class str; {USE}"),
    ("", f"subject is '' (str); {USE.replace('a string', 'a non-empty string')}"),
    (STARTER, "subject is a Plan; put the subject first and the plan second: acquire(subject, plan)"),
]


def plain_gate(**changed: Any) -> Gate:
    arguments: dict[str, Any] = {"limiter": limiter, "plans": table, "identify": keys}
    return Gate(**arguments | changed)


def async_gate(**changed: Any) -> AsyncGate:
    arguments: dict[str, Any] = {"limiter": async_limiter, "plans": table, "identify": keys}
    return AsyncGate(**arguments | changed)


def tokens(**changed: Any) -> AccessTokens:
    arguments: dict[str, Any] = {"algorithms": ["HS256"], "issuer": "https://login.example.com", "audience": "api"}
    return AccessTokens("a secret that is long enough for HS256", **arguments | changed)


def none() -> None: ...


def two(request: Request, database: object) -> None: ...


async def later(request: Request) -> None: ...


def listen(decision: Decision) -> None: ...


async def listen_later(decision: Decision) -> None: ...


#: A mistake, and its error.
MISTAKES: list[tuple[str, type[Exception], str]] = [
    # Verbs and callers.
    (
        'limiter.acquire("u", "starter")',
        TypeError,
        "plan is 'starter' (str); use a Plan, or look one up: table.resolve(Caller(subject, 'starter'))",
    ),
    (
        'asyncio.run(async_limiter.acquire("u", table))',
        TypeError,
        'plan is a PlanTable; use a Plan such as STARTER or Plan.of("api", per_minute=60)',
    ),
    (
        'limiter.peek("u", None)',
        TypeError,
        'plan is None (NoneType); use a Plan such as STARTER or Plan.of("api", per_minute=60)',
    ),
    (
        'limiter.acquire(STARTER, "u")',
        TypeError,
        "subject is a Plan; put the subject first and the plan second: acquire(subject, plan)",
    ),
    (
        'limiter.acquire("u", STARTER, 1.0)',
        ValueError,
        "cost: expected an integer >= 1, got 1.0",
    ),
    (
        'Claim("u", STARTER, -1)',
        InvalidLimit,
        "cost: expected an integer >= 0, got -1",
    ),
    (
        'Caller("u", 5)',
        TypeError,
        "plan is 5 (int); use the name of a plan, a Plan, or None for the default",
    ),
    (
        'Caller("u", account=7)',
        TypeError,
        'account is 7 (int); use a string such as f"user_{user.id}"',
    ),
    (
        'Caller("u", account="")',
        TypeError,
        "account is '' (str); use a non-empty string such as f\"user_{user.id}\"",
    ),
    (
        'table.resolve(Caller("u", overrides=[("per_minute", 5)]))',
        InvalidLimit,
        "caller: overrides: expected a table with the keys <name>, got [('per_minute', 5)]",
    ),
    (
        'limiter.release("u")',
        TypeError,
        "decision is 'u' (str); pass what `acquire` returned: release(decision)",
    ),
    (
        "limiter.release(None)",
        TypeError,
        "decision is None (NoneType); pass what `acquire` returned: release(decision)",
    ),
    (
        "Limiter(GuardedBackend(MemoryBackend())).release(5)",
        TypeError,
        "decision is 5 (int); pass what `acquire` returned: release(decision)",
    ),
    (
        'limiter.release(async_limiter.acquire("u", STARTER))',
        TypeError,
        "acquire(...) was not awaited; write `await limiter.acquire(...)`",
    ),
    (
        "asyncio.run(async_limiter.release(plan))",
        TypeError,
        "decision is a Plan; pass what `acquire` returned: release(decision)",
    ),
    (
        "limiter.refund(True)",
        TypeError,
        "decision is True (bool); pass what `acquire` returned: refund(decision)",
    ),
    (
        'asyncio.run(async_limiter.refund("u"))',
        TypeError,
        "decision is 'u' (str); pass what `acquire` returned: refund(decision)",
    ),
    (
        'limiter.hold("u", STARTER).allowed',
        AttributeError,
        "hold(...) is not a decision; write `with limiter.hold(...) as decision:` and look at `decision.allowed`",
    ),
    (
        'async_limiter.hold("u", STARTER).allowed',
        AttributeError,
        "hold(...) is not a decision; write `async with limiter.hold(...) as decision:` and look at `decision.allowed`",
    ),
    # Limiters and backends.
    (
        "Limiter(HostBackend)",
        TypeError,
        "backend is the class HostBackend; write Limiter(HostBackend(path))",
    ),
    (
        'HostBackend("/var/lib/app/limits", allow_other_users="false")',
        InvalidLimit,
        "allow_other_users: expected true or false, got 'false'",
    ),
    (
        'KeyStore.open(allow_other_users="no")',
        InvalidLimit,
        "allow_other_users: expected true or false, got 'no'",
    ),
    (
        'KeyStore.open("")',
        ValueError,
        "address: expected a path or a URL such as postgresql://user@host/database, got ''",
    ),
    (
        'StoredKeys(KeyVerifier(KeyStore.open("sqlite://")), bearer="false")',
        InvalidLimit,
        "bearer: expected true or false, got 'false'",
    ),
    (
        'Jwks.at("https://login.example.com/keys", timeout_s="2")',
        InvalidKeyRequest,
        "timeout_s: got '2' (str); expected a number of seconds above 0",
    ),
    (
        'Jwks.at("https://login.example.com/keys", interval_s=0)',
        InvalidKeyRequest,
        "interval_s: got 0 (int); expected a number of seconds above 0",
    ),
    (
        "RedisBackend.from_url(URL, prefix=5)",
        TypeError,
        "prefix: expected a string such as 'awx', got 5 (int)",
    ),
    (
        "Limiter(MemoryBackend)",
        TypeError,
        "backend is the class MemoryBackend; write Limiter(MemoryBackend())",
    ),
    (
        "AsyncLimiter(MemoryBackend)",
        TypeError,
        "backend is the class MemoryBackend; write AsyncLimiter(MemoryBackend())",
    ),
    (
        "Limiter(URL)",
        TypeError,
        "backend is a str; write Limiter(open_backend(url))",
    ),
    (
        "AsyncLimiter(URL)",
        TypeError,
        "backend is a str; write AsyncLimiter(open_async_backend(url))",
    ),
    (
        "Limiter(None)",
        TypeError,
        "Limiter takes a backend, not None; write Limiter(MemoryBackend())",
    ),
    (
        "Limiter(limiter)",
        TypeError,
        "Limiter takes a backend, not a Limiter; write Limiter(MemoryBackend())",
    ),
    (
        "AsyncLimiter(async_limiter)",
        TypeError,
        "AsyncLimiter takes a backend, not an AsyncLimiter; write AsyncLimiter(MemoryBackend())",
    ),
    (
        "Limiter(AsyncRedisBackend)",
        TypeError,
        "Limiter takes a synchronous backend, and AsyncRedisBackend is async; use AsyncLimiter",
    ),
    (
        "AsyncLimiter(GuardedBackend(MemoryBackend()))",
        TypeError,
        "AsyncLimiter takes an async backend, or one whose longest_wait_ms is at most 50; GuardedBackend would block "
        "its loop; use open_async_backend(url), or a class such as AsyncRedisBackend",
    ),
    (
        "Limiter(AsyncGuardedBackend(MemoryBackend()))",
        TypeError,
        "Limiter takes a synchronous backend, and AsyncGuardedBackend is async; use AsyncLimiter",
    ),
    (
        "Limiter(MemoryBackend(), listeners=listen)",
        TypeError,
        "listeners is the function listen; write listeners=[listener], a list",
    ),
    (
        "Limiter(MemoryBackend(), listeners=[RefusalLog])",
        TypeError,
        "listeners[0] is the class RefusalLog; create an instance: RefusalLog()",
    ),
    (
        "AsyncLimiter(MemoryBackend(), listeners=[listen_later])",
        TypeError,
        "listeners[0] is a coroutine function; write it with `def`: nothing awaits it",
    ),
    (
        'Limiter(MemoryBackend(), listeners=["log"])',
        TypeError,
        "listeners[0] is a str; use a function that takes a Decision",
    ),
    (
        "Limiter(MemoryBackend(), listeners=None)",
        TypeError,
        "listeners is None; write listeners=[listener], a list",
    ),
    (
        "MemoryBackend(URL)",
        TypeError,
        "MemoryBackend takes only a clock, got a str; write MemoryBackend(), or "
        "open_backend(url) for a backend at a URL",
    ),
    (
        "MemoryBackend(clock=ManualClock)",
        TypeError,
        "clock is the class ManualClock; use an object with now_ms() -> int, such as ManualClock()",
    ),
    (
        "MemoryBackend(clock=listen)",
        TypeError,
        "clock is the function listen; use an object with now_ms() -> int, such as ManualClock()",
    ),
    (
        'HostBackend("limits")',
        ValueError,
        "path: expected an absolute path such as '/var/lib/app/limits', got 'limits'",
    ),
    (
        'HostBackend("host:///var/lib/app/limits")',
        ValueError,
        "path: expected a path, got a URL; write open_backend(url), or pass '/var/lib/app/limits'",
    ),
    (
        "HostBackend(None)",
        TypeError,
        "path: expected an absolute path such as '/var/lib/app/limits', got None (NoneType)",
    ),
    (
        "RedisBackend(URL)",
        TypeError,
        "route: got a str; write from_url(url) of this class, or open_backend(url)",
    ),
    (
        "AsyncRedisBackend(URL)",
        TypeError,
        "route: got a str; write from_url(url) of this class, or open_backend(url)",
    ),
    (
        "RedisBackend.from_url(None)",
        TypeError,
        "url: expected a string such as 'redis://host:6379', got None",
    ),
    (
        "GuardedBackend(MemoryBackend)",
        TypeError,
        "backend is the class MemoryBackend; write GuardedBackend(MemoryBackend())",
    ),
    (
        "GuardedBackend(limiter)",
        TypeError,
        "GuardedBackend takes a backend, not a Limiter; write GuardedBackend(MemoryBackend())",
    ),
    (
        'GuardedBackend(MemoryBackend(), on_outage="fail")',
        InvalidLimit,
        "on_outage: expected 'local', 'open' or 'closed', got 'fail'",
    ),
    (
        'GuardedBackend(MemoryBackend(), expected_workers="4")',
        InvalidLimit,
        "expected_workers: expected an integer >= 1, got '4'",
    ),
    (
        "DenialCacheBackend(URL)",
        TypeError,
        "backend is a str; write DenialCacheBackend(open_backend(url))",
    ),
    (
        "open_backend(None)",
        TypeError,
        "url: expected a string such as 'redis://host:6379' or 'host:///path/to/file', got None",
    ),
    (
        "open_backend(MemoryBackend())",
        TypeError,
        "url: expected a string such as 'redis://host:6379' or 'host:///path/to/file', got a MemoryBackend",
    ),
    (
        'open_async_backend("reddis://localhost")',
        ValueError,
        "backend URL: expected one of the schemes memory://, host://, redis://, rediss://, "
        "valkey://, valkeys://, redis+unix://, unix://, redis+sentinel://, rediss+sentinel://, "
        "valkey+sentinel://, valkeys+sentinel://, redis+cluster://, rediss+cluster://, "
        "valkey+cluster://, valkeys+cluster://; got 'reddis'",
    ),
    # Gates.
    (
        "AsyncGate(limiter, plans=table, identify=keys)",
        TypeError,
        "AsyncGate needs an AsyncLimiter, not a Limiter; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(async_limiter, plans=table, identify=keys)",
        TypeError,
        "Gate needs a Limiter, not an AsyncLimiter; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(MemoryBackend(), plans=table, identify=keys)",
        TypeError,
        "Gate needs a Limiter, not a MemoryBackend; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(Limiter, plans=table, identify=keys)",
        TypeError,
        "Gate needs a Limiter, not the class Limiter; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "AsyncGate(None, plans=table, identify=keys)",
        TypeError,
        "AsyncGate needs an AsyncLimiter, not None; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        'plain_gate(plans={"starter": plan})',
        TypeError,
        'plans is a dict; write plans=PlanTable([plan], default="starter"), or PlanTable.from_mapping({"plans": ...})',
    ),
    (
        "plain_gate(plans=plan)",
        TypeError,
        "plans is a Plan; write plans=PlanTable([plan], default=plan.name)",
    ),
    (
        "plain_gate(plans=[plan])",
        TypeError,
        'plans is a list; write plans=PlanTable(plans, default="starter")',
    ),
    (
        'plain_gate(plans="plans.toml")',
        TypeError,
        "plans is a str; write plans=PlanTable.from_toml(path)",
    ),
    (
        "plain_gate(plans=PlanTable.default)",
        TypeError,
        "plans is the function PlanTable.default; call it: plans=PlanTable.default()",
    ),
    (
        "async_gate(plans=PlanTable)",
        TypeError,
        "plans is the class PlanTable; write plans=PlanTable.default()",
    ),
    (
        "plain_gate(plans=None)",
        TypeError,
        "plans is None; write plans=PlanTable.default()",
    ),
    (
        'plain_gate(rules=["/health"])',
        TypeError,
        "rules[0] is '/health' (str); write Rule('/health', ...)",
    ),
    (
        'plain_gate(rules="/health")',
        TypeError,
        "rules is '/health' (str); write rules=[Rule('/health', ...)]",
    ),
    (
        'plain_gate(rules=Rule("/health", exempt=True))',
        TypeError,
        "rules is a Rule; write rules=[Rule(...)], a list",
    ),
    (
        'plain_gate(rules={"/health": 1})',
        TypeError,
        "rules is a dict; write rules=[Rule(...)], a list",
    ),
    (
        "plain_gate(rules=None)",
        TypeError,
        "rules is None (NoneType); write rules=[Rule(...)], a list",
    ),
    (
        "plain_gate(rules=[Rule])",
        TypeError,
        "rules[0] is the class Rule; write Rule(path, ...)",
    ),
    (
        'plain_gate(rules=[Rule("/export", cost=301)])',
        InvalidLimit,
        "Rule('/export'): cost is 301, and no plan ever has more than 300 tokens at once; lower the "
        "cost, or give a plan a burst of at least 301",
    ),
    (
        "plain_gate(identify=StaticKeys)",
        TypeError,
        'identify is the class StaticKeys; create an instance: identify=StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        "plain_gate(identify=StoredKeys)",
        TypeError,
        "identify is the class StoredKeys; create an instance: identify=StoredKeys(KeyVerifier(store))",
    ),
    (
        'plain_gate(identify={"awx_example_key": "starter"})',
        TypeError,
        "identify is a dict; write identify=StaticKeys(...) around it",
    ),
    (
        "plain_gate(identify=None)",
        TypeError,
        "identify is None; use a function that takes the request and returns a Caller or None, or "
        'StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        'plain_gate(identify="awx_example_key")',
        TypeError,
        "identify is a str; use a function that takes the request and returns a Caller or None, or "
        'StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        "plain_gate(identify=none)",
        TypeError,
        "identify takes (); it is called with the request alone: write `def identify(request):`",
    ),
    (
        "async_gate(identify=two)",
        TypeError,
        "identify takes (request, database); it is called with the request alone: write `def identify(request):`",
    ),
    (
        "plain_gate(identify=later)",
        TypeError,
        "identify is asynchronous, which Gate cannot wait for; write it with `def`, or use AsyncGate",
    ),
    (
        'plain_gate(anonymous="starter")',
        TypeError,
        "anonymous is 'starter' (str); use a Plan such as Plan.of(\"anonymous\", per_minute=10), or None",
    ),
    (
        "plain_gate(anonymous=True)",
        TypeError,
        'anonymous is True (bool); use a Plan such as Plan.of("anonymous", per_minute=10), or None',
    ),
    (
        'plain_gate(trusted_proxies="10.0.0.0/8")',
        InvalidLimit,
        "trusted_proxies is a string; write trusted_proxies=['10.0.0.0/8']",
    ),
    (
        "plain_gate(trusted_proxies=None)",
        InvalidLimit,
        "trusted_proxies is None (NoneType); write trusted_proxies=['10.0.0.0/8']",
    ),
    (
        "plain_gate(trusted_proxies=[10])",
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix', got 10 (int)",
    ),
    (
        'plain_gate(trusted_proxies=["10.0.0.1/8"])',
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix': 10.0.0.1/8 has host bits set",
    ),
    (
        'plain_gate(headers="Draft")',
        InvalidLimit,
        "headers: expected one of 'draft', 'legacy', 'both', 'none', got 'Draft'",
    ),
    (
        'plain_gate(expose="yes")',
        InvalidLimit,
        "expose: expected true or false, got 'yes'",
    ),
    (
        "plain_gate(preflights=1)",
        InvalidLimit,
        "preflights: expected true or false, got 1",
    ),
    (
        'plain_gate(websocket_refusal="close")',
        InvalidLimit,
        "websocket_refusal: expected one of 'http', 'accept_close', got 'close'",
    ),
    # Keys.
    (
        'StaticKeys(["awx_example_key"])',
        TypeError,
        'StaticKeys needs a mapping, not a list; write StaticKeys({key: "starter"})',
    ),
    (
        'StaticKeys("awx_example_key")',
        TypeError,
        'StaticKeys needs a mapping, not a str; write StaticKeys({key: "starter"})',
    ),
    (
        'StaticKeys({b"awx_example_key": "starter"})',
        TypeError,
        "StaticKeys: key 1 is bytes; use a string",
    ),
    (
        'StaticKeys({"awx_example_key": 5})',
        TypeError,
        "StaticKeys: the value of key 1 is 5 (int); use a plan's name or a Caller",
    ),
    (
        'StaticKeys({"awx_example_key": None})',
        TypeError,
        "StaticKeys: the value of key 1 is None (NoneType); use a plan's name or a Caller",
    ),
    (
        'plain_gate(identify=StaticKeys({"awx_example_key": "stater"}))',
        InvalidLimit,
        "caller: plan: there is no plan 'stater'; allowed are starter, growth",
    ),
    (
        'plain_gate(identify=StaticKeys({"starter": "awx_example_key"}))',
        InvalidLimit,
        "StaticKeys: the plan 'starter' stands in the place of a key; write StaticKeys({key: 'starter'})",
    ),
    (
        "StoredKeys(KeyVerifier)",
        TypeError,
        "verifier is the class KeyVerifier; write StoredKeys(KeyVerifier(store))",
    ),
    (
        'StoredKeys("keys.db")',
        TypeError,
        "verifier is a str; write StoredKeys(KeyVerifier(store))",
    ),
    (
        'KeyVerifier("keys.db")',
        TypeError,
        "store: expected a KeyStore, got a str; write KeyVerifier(KeyStore.open('keys.db'))",
    ),
    (
        "KeyService(KeyStore)",
        TypeError,
        "store: expected a KeyStore, got the class KeyStore; write KeyService(KeyStore.open('keys.db'))",
    ),
    (
        "KeyStore.open(None)",
        TypeError,
        "address: expected a path or a URL such as postgresql://user@host/database, got None",
    ),
    (
        'ManagementApi("keys.db", "secret", limiter=limiter, plans=table)',
        TypeError,
        "tokens: expected AccessTokens, got a str; write ManagementApi(KeyService(store), AccessTokens(...), ...)",
    ),
    (
        'tokens(algorithms="HS256")',
        InvalidKeyRequest,
        "algorithms: got 'HS256'; expected a list of " + ", ".join(ALGORITHMS),
    ),
    (
        "tokens(leeway_s=3_600)",
        InvalidKeyRequest,
        "leeway_s: got 3600 (int); expected an integer from 0 to 300",
    ),
    (
        "tokens(issuer=None)",
        InvalidKeyRequest,
        "issuer: got None (NoneType); expected a non-empty string",
    ),
    # Plans.
    (
        'Plan.of("p", "60/minute")',
        TypeError,
        "Plan.of takes each limit as a keyword argument, got '60/minute'; write Plan.of('p', per_minute=60)",
    ),
    (
        'Plan.of("p", 60)',
        TypeError,
        "Plan.of takes each limit as a keyword argument, got 60; write Plan.of('p', per_minute=60)",
    ),
    (
        'Plan.of("p")',
        InvalidLimit,
        "plan 'p' has no limit; add a Rate or a Concurrency",
    ),
    (
        'Plan.of("p", per_minute="60")',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got '60'",
    ),
    (
        'Plan.of("p", per_minute=60.0)',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got 60.0",
    ),
    (
        'Plan.of("p", concurrent=True)',
        InvalidLimit,
        "concurrent: slots: expected an integer >= 1, got True",
    ),
    (
        'Plan("p", "60/minute")',
        InvalidLimit,
        "plan 'p': rates: expected a tuple of Rate objects, got '60/minute'; write rates=(Rate.parse('60/minute'),)",
    ),
    (
        'Plan("p", Rate.parse("60/minute"))',
        InvalidLimit,
        "plan 'p': rates: expected a tuple of Rate objects, got a Rate; write rates=(Rate.parse('60/minute'),)",
    ),
    (
        'Plan("p", ("60/minute",))',
        InvalidLimit,
        "plan 'p': rates[0]: expected a Rate, got '60/minute'; write Rate.parse('60/minute')",
    ),
    (
        'Plan("p", (Rate.parse("60/minute"),), 5)',
        InvalidLimit,
        "plan 'p': concurrency: expected a Concurrency or None, got 5; write Concurrency(5)",
    ),
    (
        'Plan("p", (Rate.parse("60/minute"),), shadow="yes")',
        InvalidLimit,
        "plan 'p': shadow: expected true or false, got 'yes'",
    ),
    (
        'Plan("", (Rate.parse("60/minute"),))',
        InvalidLimit,
        "a plan's name: expected a non-empty string, got ''",
    ),
    (
        'Rate("60/minute")',
        InvalidLimit,
        "a limit's name: expected 1 to 32 of a-z, 0-9, '_', '.' and '-', got '60/minute'; write "
        "Rate.parse('60/minute')",
    ),
    (
        'Rate("minute")',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got None",
    ),
    (
        'Rate("minute", 60.0, 60_000)',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got 60.0",
    ),
    (
        'Rate("minute", True, 60_000)',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got True",
    ),
    (
        'Rate("minute", 60, "1m")',
        InvalidLimit,
        "minute: period_ms: expected an integer >= 1, got '1m'",
    ),
    (
        'Rate.parse("60")',
        InvalidLimit,
        "expected one rate, such as '60/minute' or '100 per 2 hours', got '60'",
    ),
    (
        "Rate.parse(60)",
        InvalidLimit,
        "expected one rate, such as '60/minute' or '100 per 2 hours', got 60",
    ),
    (
        'Concurrency("5")',
        InvalidLimit,
        "concurrent: slots: expected an integer >= 1, got '5'",
    ),
    (
        "Concurrency(True)",
        InvalidLimit,
        "concurrent: slots: expected an integer >= 1, got True",
    ),
    # Tables.
    (
        'PlanTable({"p": plan})',
        TypeError,
        "plans is a dict; write PlanTable([plan]), or PlanTable.from_mapping(...) for numbers",
    ),
    (
        "PlanTable(plan)",
        TypeError,
        "plans is a Plan; write PlanTable([plan]), a list",
    ),
    (
        'PlanTable("plans.toml")',
        TypeError,
        "plans is 'plans.toml' (str); write PlanTable.from_toml(path) for a file",
    ),
    (
        "PlanTable(None)",
        TypeError,
        "plans is None; write PlanTable([plan]), a list",
    ),
    (
        'PlanTable(["starter"])',
        TypeError,
        "plans[0] is 'starter' (str); use a Plan such as Plan.of(\"api\", per_minute=60)",
    ),
    (
        'PlanTable([plan], default="gold")',
        InvalidLimit,
        "plan table: default: there is no plan 'gold'; allowed are api",
    ),
    (
        'PlanTable([plan, plan.of("api", per_day=5)])',
        InvalidLimit,
        "plan table: plans.api: two plans have this name",
    ),
    (
        'PlanTable([plan], overrides=[("acct_acme", {})])',
        InvalidLimit,
        "plan table: overrides: expected a table with the keys <name>, got [('acct_acme', {})]",
    ),
    (
        'PlanTable([plan], overrides={"acct_acme": plan})',
        InvalidLimit,
        "plan table: overrides.acct_acme: expected a table with the keys plan, per_second, per_minute, per_hour, "
        "per_day, rates, concurrent, shadow, got Plan(name='api', rates=(Rate(name='minute', tokens=60, "
        "period_ms=60000, burst=60...",
    ),
    (
        'PlanTable([plan], overrides={"acct_acme": {"per_minut": 5}})',
        InvalidLimit,
        "plan table: overrides.acct_acme.per_minut: unknown key; allowed are plan, per_second, "
        "per_minute, per_hour, per_day, rates, concurrent, shadow",
    ),
    (
        'PlanTable([plan], overrides={"acct_acme": {"plan": "gold"}})',
        InvalidLimit,
        "plan table: overrides.acct_acme.plan: there is no plan 'gold'; allowed are api",
    ),
    (
        'PlanTable([plan], overrides={"": {"per_minute": 5}})',
        InvalidLimit,
        "plan table: overrides: a key is ''; use a subject or an account",
    ),
    (
        'PlanTable([plan], overrides={7: {"per_minute": 5}})',
        InvalidLimit,
        "plan table: overrides.7: unknown key; allowed are strings",
    ),
    (
        "PlanTable.from_toml(None)",
        TypeError,
        "path is None; use the path of a TOML file, or PlanTable.from_mapping(...)",
    ),
    (
        'PlanTable.from_toml({"plans": {}})',
        TypeError,
        "path is a dict; use the path of a TOML file, or PlanTable.from_mapping(...)",
    ),
    (
        "PlanTable.watch(None)",
        TypeError,
        "path is None; use the path of a TOML file, or PlanTable.from_mapping(...)",
    ),
    (
        'table.resolve("starter")',
        TypeError,
        "caller is 'starter' (str); write resolve(Caller(subject, plan))",
    ),
    (
        'table.resolve(Caller("u", "gold"))',
        InvalidLimit,
        "caller: plan: there is no plan 'gold'; allowed are starter, growth",
    ),
    # Rules.
    (
        'Rule("/login", budget="login", plan="login")',
        InvalidLimit,
        "Rule('/login'): plan is 'login' (str); use a Plan such as Plan.of('login', per_minute=5)",
    ),
    (
        'Rule("/login", budget=5, plan=plan)',
        InvalidLimit,
        "Rule('/login'): budget is 5 (int); use a name such as 'login'",
    ),
    (
        'Rule("/login", budget="login")',
        InvalidLimit,
        "Rule('/login'): a budget needs a name and a plan: budget='login', plan=Plan.of('login', per_minute=5)",
    ),
    (
        'Rule("/login", methods=5)',
        InvalidLimit,
        "Rule('/login'): methods: expected a list of names such as ['GET', 'POST'], got 5",
    ),
    (
        'Rule("/login", methods="POST")',
        InvalidLimit,
        "Rule('/login'): methods: expected a list of names such as ['GET', 'POST'], got 'POST'",
    ),
    (
        'Rule("/login", cost=61, budget="login", plan=plan)',
        InvalidLimit,
        "Rule('/login'): cost is 61, and the budget 'login' never has more than 60 tokens at once; lower "
        "the cost or raise the burst",
    ),
    (
        'Rule("/login", cost="5")',
        InvalidLimit,
        "Rule('/login'): cost: expected an integer >= 0, got '5'",
    ),
    # Apps.
    (
        "Asgi(flask_app, gate=async_gate())",
        TypeError,
        "app is a Flask, a WSGI app; the ASGI middleware needs app(scope, receive, send), and WSGI apps "
        "have awx_ratelimit.adapters.werkzeug.RateLimitMiddleware",
    ),
    (
        "Asgi(flask_app.wsgi_app, gate=async_gate())",
        TypeError,
        "app is the function Flask.wsgi_app, a WSGI app; the ASGI middleware needs app(scope, receive, "
        "send), and WSGI apps have awx_ratelimit.adapters.werkzeug.RateLimitMiddleware",
    ),
    (
        "Wsgi(starlette_app, gate=plain_gate())",
        TypeError,
        "app is a Starlette, an ASGI app; the WSGI middleware needs app(environ, start_response), and "
        "ASGI apps have awx_ratelimit.adapters.starlette.RateLimitMiddleware",
    ),
    (
        "Asgi(starlette_app, gate=plain_gate())",
        TypeError,
        "the ASGI middleware takes an AsyncGate, not Gate; write gate=AsyncGate(AsyncLimiter(backend), "
        "plans=..., identify=...)",
    ),
    (
        "Wsgi(flask_app, gate=async_gate())",
        TypeError,
        "the WSGI middleware takes a Gate, not AsyncGate; write gate=Gate(Limiter(backend), plans=..., identify=...)",
    ),
    (
        "Asgi(starlette_app, gate=None)",
        TypeError,
        "the ASGI middleware takes an AsyncGate, not None; write gate=AsyncGate(AsyncLimiter(backend), "
        "plans=..., identify=...)",
    ),
    (
        "Asgi(starlette_app, gate=AsyncGate)",
        TypeError,
        "the ASGI middleware takes an AsyncGate, not the class AsyncGate; write "
        "gate=AsyncGate(AsyncLimiter(backend), plans=..., identify=...)",
    ),
    (
        "Wsgi(flask_app, gate=limiter)",
        TypeError,
        "the WSGI middleware takes a Gate, not Limiter; write gate=Gate(Limiter(backend), plans=..., identify=...)",
    ),
    (
        "Asgi(Starlette, gate=async_gate())",
        TypeError,
        "app is the class Starlette; pass an instance, which is called as app(scope, receive, send)",
    ),
    (
        "Asgi(None, gate=async_gate())",
        TypeError,
        "app is None, which cannot be called; use an app that is called as app(scope, receive, send)",
    ),
    (
        'Asgi("main:app", gate=async_gate())',
        TypeError,
        "app is a str, which cannot be called; use an app that is called as app(scope, receive, send)",
    ),
    (
        "Asgi(none, gate=async_gate())",
        TypeError,
        "app is the function none, not an ASGI app; the ASGI middleware needs app(scope, receive, send), and "
        "WSGI apps have awx_ratelimit.adapters.werkzeug.RateLimitMiddleware",
    ),
    (
        "Wsgi(Flask, gate=plain_gate())",
        TypeError,
        "app is the class Flask; pass an instance, which is called as app(environ, start_response)",
    ),
    (
        "AsgiApp(ManagementApi)",
        TypeError,
        "AsgiApp serves a ManagementApi or a Console, not the class ManagementApi; write AsgiApp(ManagementApi(...))",
    ),
    (
        "AsgiApp(starlette_app)",
        TypeError,
        "AsgiApp serves a ManagementApi or a Console, not a Starlette; write AsgiApp(ManagementApi(...))",
    ),
    (
        "WsgiApp(flask_app)",
        TypeError,
        "WsgiApp serves a ManagementApi or a Console, not a Flask; write WsgiApp(ManagementApi(...))",
    ),
    (
        "document_limits(async_gate(), FastAPI())",
        TypeError,
        "document_limits takes a FastAPI app and its AsyncGate, not an AsyncGate and a FastAPI; write "
        "document_limits(app, gate)",
    ),
    (
        "document_limits(starlette_app, async_gate())",
        TypeError,
        "document_limits takes a FastAPI app and its AsyncGate, not a Starlette and an AsyncGate; write "
        "document_limits(app, gate)",
    ),
]


@pytest.mark.parametrize(("subject", "says"), SUBJECTS)
@pytest.mark.parametrize("taker", TAKES_A_SUBJECT)
def test_a_subject_is_a_string_that_is_not_empty(taker: str, subject: Any, says: str) -> None:
    """Whatever takes a subject refuses anything but a non-empty string, and never shows bytes, which may be a key."""
    with pytest.raises(TypeError, match=f"^{re.escape(says)}$"):
        TAKES_A_SUBJECT[taker](subject)


@pytest.mark.parametrize(("written", "error", "says"), MISTAKES, ids=[written for written, _, _ in MISTAKES])
def test_a_mistake_is_refused_by_a_sentence_that_helps(written: str, error: type[Exception], says: str) -> None:
    """The error comes from the very line with the mistake, and is exactly this sentence."""
    with pytest.raises(error, match=f"^{re.escape(says)}$"):
        eval(written, globals())


REQUEST = Request("GET", "/", "192.0.2.1", lambda _: [])


@pytest.mark.parametrize("returned", ["awx_example_key", False, "", 0, ("user_1", "starter"), Caller])
def test_an_identify_that_returns_something_else_lets_nobody_in(returned: Any) -> None:
    """An identify that returns neither a Caller nor None raises a TypeError that names only the type, in both gates."""
    says = r"^identify returned (a|an|the class) \w+; return a Caller, or None for a request without a key$"

    async def asynchronous(_: Request) -> Any:
        return returned

    with pytest.raises(TypeError, match=says):
        plain_gate(identify=lambda _: returned).admit(REQUEST)
    with pytest.raises(TypeError, match=says):
        asyncio.run(async_gate(identify=asynchronous).admit(REQUEST))


LARGE = Plan.of("large", per_minute=500)
SHADOW = Plan.of("shadow", per_minute=5, shadow=True)
OVERRIDDEN = PlanTable([plan], overrides={"acct_acme": {"per_minute": 500}})


@pytest.mark.parametrize(
    "arguments",
    [
        {"plans": PlanTable([plan, LARGE])},
        {"plans": PlanTable([plan, SHADOW])},
        {"plans": PlanTable([plan, Plan.of("slots", concurrent=5)])},
        {"plans": OVERRIDDEN},
        {"anonymous": LARGE},
        {"identify": StaticKeys({"awx_example_key": LARGE})},
        {"identify": StaticKeys({"awx_example_key": Caller("u", "api", overrides={"per_minute": 500})})},
        {"plans": PlanTable([])},
    ],
)
def test_a_cost_that_one_plan_can_pay_is_no_mistake(arguments: dict[str, Any]) -> None:
    """A rule is accepted if any plan, override, known caller or anonymous caller could ever pay its cost."""
    rules = [Rule("/export", cost=500)]

    gate = plain_gate(**{"plans": PlanTable([plan]), "identify": lambda _: None, "rules": rules} | arguments)

    assert not gate.is_exempt("GET", "/export")


@pytest.mark.parametrize(
    ("swapped", "what"),
    [
        ({"starter": "a_secret_of_another_form"}, "the plan 'starter' stands in the place of a key"),
        ({"premium": "awx_example_key"}, "a key is where a plan is expected"),
    ],
)
def test_keys_in_the_place_of_plans_are_in_no_error(swapped: dict[str, str], what: str) -> None:
    """Neither in its text nor in an error before it, which a traceback would show."""
    with pytest.raises(
        InvalidLimit, match=rf"^StaticKeys: {what}; write StaticKeys\(\{{key: .starter.\}}\)$"
    ) as caught:
        plain_gate(identify=StaticKeys(swapped))

    assert caught.value.__context__ is None


def test_a_middleware_around_the_app_that_it_is_set_on_says_so() -> None:
    """``app.wsgi_app = RateLimitMiddleware(app)`` makes the two call each other."""
    looped = Flask("looped")
    looped.wsgi_app = Wsgi(looped, gate=plain_gate())  # type: ignore[method-assign]

    with pytest.raises(RuntimeError, match=r"write app\.wsgi_app = RateLimitMiddleware\(app\.wsgi_app, gate=gate\)$"):
        Client(looped).get("/", headers={"X-API-Key": "awx_example_key"})


def test_an_asgi_middleware_around_the_app_that_it_is_set_on_says_so() -> None:
    """The same error for an app that calls its own `asgi_app` attribute, as Quart does."""

    class Quartish:
        asgi_app: Any

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.asgi_app(scope, receive, send)

    looped = Quartish()
    looped.asgi_app = Asgi(looped, gate=async_gate())

    with pytest.raises(RuntimeError, match=r"write app\.asgi_app = RateLimitMiddleware\(app\.asgi_app, gate=gate\)$"):
        TestClient(looped).get("/", headers={"X-API-Key": "awx_example_key"})


def wrapped(app: Any) -> Any:
    def wrapper(*arguments: Any, **more: Any) -> Any:
        return app(*arguments, **more)

    return wrapper


class Endpoint:
    """An app as Starlette's endpoints are: a class that is made for each request, and awaited."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Any: ...


def test_apps_of_every_form_are_taken() -> None:
    """Objects, functions, methods, wrappers and classes with the right interface are accepted."""
    for app in (starlette_app, FastAPI(), wrapped(starlette_app), starlette_app.__call__, Endpoint):
        assert Asgi(app, gate=async_gate()).app is app
    wsgi: Any
    for wsgi in (flask_app, flask_app.wsgi_app, wrapped(flask_app), lambda environ, start_response: []):
        assert Wsgi(wsgi, gate=plain_gate()).app is wsgi
