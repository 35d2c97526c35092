"""Plans of requests per minute, per day and concurrent connections, decided together in one atomic step.

Promises are written in the docstrings of what is exported here, and in README.md with the commands that show them.
"""

from awx_ratelimit.backends.memory import MemoryBackend
from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.decision import Claim, Decision, Lease, Usage
from awx_ratelimit.core.plans import GROWTH, STARTER, Plan
from awx_ratelimit.core.rates import Concurrency, Rate
from awx_ratelimit.core.table import PlanTable
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable, ImpossibleClaim, InvalidLimit, KeyRefused
from awx_ratelimit.limiter import AsyncLimiter, Limiter
from awx_ratelimit.refusals import RefusalLog
from awx_ratelimit.web.gate import AsyncGate, Gate
from awx_ratelimit.web.identify import StaticKeys
from awx_ratelimit.web.message import Reply, Request
from awx_ratelimit.web.rules import Rule
from awx_ratelimit.web.stored_keys import StoredKeys

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
