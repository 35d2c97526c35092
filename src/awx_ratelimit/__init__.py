"""Plans of requests per minute, per day and concurrent connections, decided together in one atomic step.

Promises are written in the docstrings of what is exported here, and in README.md with the commands that show them.
"""

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.claim import Claim
from awx_ratelimit.core.decision import Decision, Lease, Usage
from awx_ratelimit.core.plan import GROWTH, STARTER, Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable, ImpossibleClaim, InvalidLimit, KeyRefused
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.identity.stored_keys import StoredKeys
from awx_ratelimit.http.message import Reply, Request
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.observability.refusal_log import RefusalLog

__all__ = [
    "GROWTH",
    "STARTER",
    "AsyncGate",
    "AsyncLimiter",
    "AwxRateLimitError",
    "BackendUnavailable",
    "Caller",
    "Claim",
    "Concurrency",
    "Decision",
    "Gate",
    "ImpossibleClaim",
    "InvalidLimit",
    "KeyRefused",
    "Lease",
    "Limiter",
    "MemoryBackend",
    "Plan",
    "PlanTable",
    "Rate",
    "RefusalLog",
    "Reply",
    "Request",
    "Rule",
    "StaticKeys",
    "StoredKeys",
    "Usage",
]
