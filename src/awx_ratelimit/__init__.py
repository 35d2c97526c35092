"""Rate limits for ASGI and WSGI apps: requests per minute, per day and concurrent, decided in one atomic step.

The docstrings of the names exported here state what they promise.
"""

from typing import TYPE_CHECKING

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.claim import Caller, Claim
from awx_ratelimit.core.decision import Decision, Lease
from awx_ratelimit.core.plan import GROWTH, STARTER, Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.core.usage import Usage
from awx_ratelimit.errors import (
    AwxRateLimitError,
    BackendUnavailable,
    ImpossibleClaim,
    InvalidLimit,
    KeyRefused,
    RateLimited,
)
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.identity.client_address import ClientAddress
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.message import Refusal, Reply, Request
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.observability.listeners import RefusalLog
from awx_ratelimit.runtime.extras import lazy_exports

if TYPE_CHECKING:
    from awx_ratelimit.adapters.middleware import RateLimitMiddleware, WsgiRateLimitMiddleware
    from awx_ratelimit.adapters.settle import settle
    from awx_ratelimit.backends.host.backend import HostBackend
    from awx_ratelimit.backends.open import open_async_backend, open_backend
    from awx_ratelimit.backends.postgres.backend import AsyncPostgresBackend
    from awx_ratelimit.backends.postgres.backend_sync import PostgresBackend
    from awx_ratelimit.backends.redis.backend import AsyncRedisBackend
    from awx_ratelimit.backends.redis.backend_sync import RedisBackend
    from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
    from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
    from awx_ratelimit.http.identity.stored_keys import StoredKeys
    from awx_ratelimit.keys.usage_history import UsageHistory
    from awx_ratelimit.keys.warnings.listener import QuotaWarnings
    from awx_ratelimit.management.auth.jwt_subject import JwtSubject

__all__ = [
    "GROWTH",
    "STARTER",
    "AsyncGate",
    "AsyncGuardedBackend",
    "AsyncLimiter",
    "AwxRateLimitError",
    "BackendUnavailable",
    "Budget",
    "Caller",
    "Claim",
    "ClientAddress",
    "Concurrency",
    "Decision",
    "Gate",
    "GuardedBackend",
    "ImpossibleClaim",
    "InvalidLimit",
    "KeyRefused",
    "Lease",
    "Limiter",
    "MemoryBackend",
    "Plan",
    "PlanTable",
    "QuotaWarnings",
    "Rate",
    "RateLimitMiddleware",
    "RateLimited",
    "Refusal",
    "RefusalLog",
    "Reply",
    "Request",
    "Rule",
    "StaticKeys",
    "StoredKeys",
    "Usage",
    "WsgiRateLimitMiddleware",
    "open_async_backend",
    "open_backend",
    "settle",
]
#: Imported on first use. `import *` skips those that need an extra or Linux.
_LAZY = {
    "AsyncGuardedBackend": "awx_ratelimit.backends.resilience.guarded",
    "AsyncPostgresBackend": "awx_ratelimit.backends.postgres.backend",
    "AsyncRedisBackend": "awx_ratelimit.backends.redis.backend",
    "GuardedBackend": "awx_ratelimit.backends.resilience.guarded_sync",
    "JwtSubject": "awx_ratelimit.management.auth.jwt_subject",
    "HostBackend": "awx_ratelimit.backends.host.backend",
    "PostgresBackend": "awx_ratelimit.backends.postgres.backend_sync",
    "QuotaWarnings": "awx_ratelimit.keys.warnings.listener",
    "RateLimitMiddleware": "awx_ratelimit.adapters.middleware",
    "RedisBackend": "awx_ratelimit.backends.redis.backend_sync",
    "StoredKeys": "awx_ratelimit.http.identity.stored_keys",
    "UsageHistory": "awx_ratelimit.keys",
    "WsgiRateLimitMiddleware": "awx_ratelimit.adapters.middleware",
    "open_async_backend": "awx_ratelimit.backends.open",
    "open_backend": "awx_ratelimit.backends.open",
    "settle": "awx_ratelimit.adapters.settle",
}
if TYPE_CHECKING:
    __all__ += [
        "AsyncPostgresBackend",
        "AsyncRedisBackend",
        "HostBackend",
        "JwtSubject",
        "PostgresBackend",
        "RedisBackend",
        "UsageHistory",
    ]

__getattr__ = lazy_exports(__name__, _LAZY)


def __dir__() -> list[str]:
    # `help` and `inspect.getmembers` load every name in it, so one without its extra would break them.
    return sorted({*globals(), *filter(_can_load, _LAZY)})


def _can_load(name: str) -> bool:
    try:
        __getattr__(name)
    except ImportError:
        return False
    return True
