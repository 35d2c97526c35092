"""An example of each call of the operator's API, for its OpenAPI document. A test makes these calls. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from awx_ratelimit.management.openapi_examples import HISTORY, ID, KEY, USAGE, Example

_ACCOUNT: Final[Mapping[str, Any]] = {
    "id": "acct_acme",
    "plan": "growth",
    "overrides": None,
    "temporary_override": None,
    "status": "active",
    "max_keys": 100,
    "created_at": "2025-06-01T10:00:00Z",
}
_TIMES: Final = {"by": "day", "from": "2025-06-01T00:00:00Z", "to": "2025-06-02T00:00:00Z"}
_ONE: Final = {"total": 1, "has_more": False}
_SHADOWS: Final = {"day": 4}
_CHANGES: Final = {"overrides": {"per_minute": 600}, "max_keys": 20}
_UNTIL: Final = "2030-06-09T00:00:00Z"


def _limit(name: str, limit: int, measure: str = "requests", *, shadow: bool = False) -> Mapping[str, Any]:
    return {"name": name, "measure": measure, "limit": limit, "burst": limit, "shadow": shadow}


def _explained(name: str, counts: str, capacity: int, remaining: int, cost: int, reset_ms: int) -> Mapping[str, Any]:
    asked = {"limit": name, "counts": counts, "capacity": capacity, "remaining": remaining, "cost": cost}
    return {**asked, "reset_after_ms": reset_ms, "refuses": False, "shadow": False, "retry_after_ms": 0}


_LIMITS: Final = [
    _limit("minute", 300),
    _limit("day", 100_000, shadow=True),
    _limit("concurrent", 25, "concurrent-requests"),
    _limit("account.minute", 1_000),
]
_EVENT: Final = {
    "number": 2,
    "account_id": "acct_acme",
    "key_id": ID,
    "action": "key.created",
    "actor": "ann@acme.example",
    "at": "2025-06-01T10:00:00Z",
    "details": {"name": "production-backend", "masked": KEY["prefix"], "rotated_from": None},
}
_BUDGETS: Final = [
    {
        "scope": None,
        "subject": ID,
        "plan": "growth",
        "charge_on": None,
        "limits": [
            _explained("minute", "requests", 300, 288, 5, 2_400),
            {**_explained("day", "requests", 100_000, 99_988, 5, 10_368), "shadow": True},
            _explained("concurrent", "concurrent-requests", 25, 25, 1, 0),
        ],
    },
    {
        "scope": "account",
        "subject": "acct_acme",
        "plan": "growth.account",
        "charge_on": None,
        "limits": [_explained("account.minute", "requests", 1_000, 988, 5, 720)],
    },
]
_EXPLANATION: Final = {
    "method": "POST",
    "path": "/v1/transfers",
    "outcome": "allowed",
    "rules": [{"path": "/v1/transfers", "methods": ["POST"], "budget": None, "exempts": False}],
    "caller": {"subject": ID, "plan": "growth", "account": "acct_acme"},
    "cost": {"requests": 5},
    "wait_ms": 0,
    "budgets": _BUDGETS,
    "status": None,
    "code": None,
    "reason": None,
    "retry_after_ms": None,
    "is_fallback": False,
    "has_route_limits": False,
    "unknown_keys_wait_ms": 0,
    "refusing": [],
}
_STATE: Final = {"status": "active", "expires_at": None, "revoked_at": None}
EXAMPLES: Final[Mapping[str, Example]] = {
    "listAccounts": Example(
        {**_TIMES, "data": [{**_ACCOUNT, "allowed": 12, "refused": 1}], **_ONE},
        query={"order": "refusals", "from": "2025-06-01", "page_size": 10},
    ),
    "getAccount": Example({**_ACCOUNT, "limits": _LIMITS, "keys": {"data": [KEY], **_ONE}}),
    "changeAccount": Example({**_ACCOUNT, **_CHANGES}, _CHANGES),
    "setOverride": Example(
        {**_ACCOUNT, "temporary_override": {"overrides": {"times": 2}, "until": _UNTIL}},
        {"times": 2, "until": "2030-06-09"},
    ),
    "endOverride": Example(),
    "suspendAccount": Example({**_ACCOUNT, "status": "suspended"}),
    "resumeAccount": Example(_ACCOUNT),
    "getUsage": Example({**USAGE, **_ONE}),
    "getUsageHistory": HISTORY,
    "getShadowRefusals": Example({"limits": _SHADOWS}, query={"from": "2025-06-01", "to": "2025-06-02"}),
    "getAllShadowRefusals": Example(
        {**_TIMES, "limits": _SHADOWS, "accounts": [{"id": "acct_acme", "number": 4, "limits": _SHADOWS}]},
        query={"from": "2025-06-01", "number": 10},
    ),
    "getAudit": Example(
        {"data": [_EVENT], "total": 2, "has_more": True}, query={"account": "acct_acme", "page_size": 1}
    ),
    "findKeys": Example(
        {"data": [{"account_id": "acct_acme", "subject": ID, **KEY, **_STATE}]}, query={"key": KEY["prefix"]}
    ),
    "revokeKey": Example(),
    "resetUsage": Example(
        {"subject": "acct_acme", "scope": "account", "was_counted": True}, {"subject": "acct_acme", "scope": "account"}
    ),
    "explain": Example(_EXPLANATION, query={"path": "/v1/transfers", "method": "POST", "key": ID}),
}
