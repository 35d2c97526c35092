"""An example of each call of the REST API for keys, for its OpenAPI document. A test makes these calls. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ID: Final = "key_2fXk9sQd81LmPz0a"
_MASKED: Final = "awx_...x4f2"
SHOWN_KEY: Final = {"id": ID, "name": "production-backend", "prefix": _MASKED}
KEY: Final = {**SHOWN_KEY, "created_at": "2025-06-01T10:00:00Z", "last_used_at": "2025-06-01T10:05:00Z"}
_CREATED: Final = {
    "id": "key_7RtB0wYc35HnVj9e",
    "name": "production-backend",
    "key": "awx_Zk3mT9qLx7Vb2NcR8sWdY5fJh1GpQ6aE0ux4f2",
    "prefix": _MASKED,
    "created_at": "2025-06-01T10:05:00Z",
    "last_used_at": None,
}


def _limit(name: str, measure: str, capacity: int, used: int, reset_seconds: int) -> Mapping[str, Any]:
    remaining = capacity - used
    shown = {"name": name, "measure": measure, "capacity": capacity, "used": used, "remaining": remaining}
    return {**shown, "reset_seconds": reset_seconds}


_LIMITS: Final = [_limit("minute", "requests", 300, 12, 3), _limit("concurrent", "concurrent-requests", 25, 0, 0)]
USAGE: Final = {
    "account": {"limits": [_limit("account.minute", "requests", 1_000, 12, 1)]},
    "data": [{**SHOWN_KEY, "status": "active", "expires_at": None, "plan": "growth", "limits": _LIMITS}],
}
_DAY: Final = {
    "begins_at": "2025-06-01T00:00:00Z",
    "allowed": 12,
    "refused": 1,
    "costs": {"requests": 12},
    "refusals": {"minute": 1},
    "peak_concurrent": 3,
    "last_used_at": "2025-06-01T10:05:00Z",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A call with its `query` and `body`, and the body of the reply. None: there is none."""

    reply: Any = None
    body: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)


HISTORY: Final = Example({"by": "day", "data": [_DAY]}, query={"from": "2025-06-01", "to": "2025-06-02"})
EXAMPLES: Final[Mapping[str, Example]] = {
    "listApiKeys": Example({"data": [KEY], "total": 1, "has_more": False}, query={"page_num": 1, "page_size": 20}),
    "createApiKey": Example(_CREATED, {"name": "production-backend", "expires_in_days": 365}),
    "getApiKey": Example(KEY),
    "renameApiKey": Example({**KEY, "name": "staging-backend"}, {"name": "staging-backend"}),
    "revokeApiKey": Example(),
    "rotateApiKey": Example(_CREATED, {"grace_period_seconds": 86_400}),
    "getUsage": Example(USAGE),
    "getUsageHistory": HISTORY,
}
