"""The schemas of an Explanation in the OpenAPI document of the operator's API: those of `Explanation.fields`. Pure."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from awx_ratelimit.http.explanation import Outcome
from awx_ratelimit.management.openapi_fields import (
    COUNT,
    COUNTS,
    FLAG,
    TEXT,
    TEXT_OR_NULL,
    Schema,
    choice,
    says,
)
from awx_ratelimit.management.openapi_parts import array_of, object_of, reference

_COUNT_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
_PLAN: Final = "The name of the plan."
_LIMIT: Final[Mapping[str, Any]] = {
    "limit": says(TEXT, "The name of the limit, with its scope: `account.minute`."),
    "counts": says(TEXT, "What it counts: `requests`, `concurrent-requests` for slots, or a measure such as `tokens`."),
    "capacity": says(COUNT, "The burst of a rate, or the number of slots."),
    "remaining": says(COUNT, "How much was left before the request."),
    "cost": says(COUNT, "How much the request would use."),
    "reset_after_ms": says(COUNT, "The time until the limit is full again. 0 for slots."),
    "refuses": says(FLAG, "Whether the limit has no room for the request."),
    "shadow": says(FLAG, "Whether the limit is in shadow mode: it is evaluated and reported, and refuses nothing."),
    "retry_after_ms": says(COUNT, "How long to wait for room. 0 if there is room, or if waiting cannot help."),
}
_BUDGET: Final[Mapping[str, Any]] = {
    "scope": says(TEXT_OR_NULL, "The scope of the limits, such as `account`. null: the caller's own."),
    "subject": says(TEXT, "The subject whose limits they are."),
    "plan": says(TEXT, _PLAN),
    "charge_on": says(
        {"type": ["array", "null"], "items": {"type": "integer"}},
        "Only responses with these statuses are charged. null: all.",
    ),
    "limits": array_of("ExplainedLimit", "The limits of the budget."),
}
_RULE: Final[Mapping[str, Any]] = {
    "path": says(TEXT, "The path of the rule."),
    "methods": says({"type": ["array", "null"], "items": TEXT}, "The methods of the rule. null: every method."),
    "budget": says(TEXT_OR_NULL, "The name of the rule's budget. null: it has none."),
    "exempts": says(FLAG, "Whether the rule exempts all or some requests."),
}
_CALLER: Final[Mapping[str, Any]] = {
    "subject": says(TEXT, "The subject that is charged. It is never the key."),
    "plan": says(
        TEXT_OR_NULL, "The name of the caller's plan. null: the table has no such plan, or the caller is exempt."
    ),
    "account": says(TEXT_OR_NULL, "The account of the caller. null: it has none."),
}
_EXPLANATION: Final[Mapping[str, Any]] = {
    "method": says(TEXT, "The method of the request."),
    "path": says(TEXT, "The path of the request."),
    "outcome": says(choice(*get_args(Outcome)), "What the gate would do with the request."),
    "rules": array_of("ExplainedRule", "The matching rules. If there are none, the request costs 1."),
    "caller": says(
        {"oneOf": [reference("ExplainedCaller"), {"type": "null"}]}, "The caller. null: the request has no key."
    ),
    "cost": says(COUNTS | {"type": ["object", "null"]}, "The cost of the request, by measure. null: unknown."),
    "wait_ms": says(COUNT, "The longest time that the request would wait for room."),
    "budgets": array_of("ExplainedBudget", "All budgets that the request would be charged to."),
    "status": says(_COUNT_OR_NULL, "The status of the refusal. null: the request is not refused."),
    "code": says(TEXT_OR_NULL, "The code of the refusal."),
    "reason": says(TEXT_OR_NULL, "Why the request is refused."),
    "retry_after_ms": says(_COUNT_OR_NULL, "When to retry. null: the request is not refused, or waiting cannot help."),
    "is_fallback": says(FLAG, "Whether the backend is unavailable, so that its guard decided instead."),
    "has_route_limits": says(FLAG, "Whether the request is exempt but its route has limits, which are not shown."),
    "unknown_keys_wait_ms": says(
        COUNT,
        "The time for which the address has to wait because of too many unknown keys: a server that has seen them "
        "refuses every key of that address that it does not have in memory. 0: no wait.",
    ),
    "refusing": says({"type": "array", "items": TEXT}, "The names of the limits that refuse the request."),
}


def explanation_schemas() -> dict[str, Schema]:
    """Return the schemas of an explanation and of its parts."""
    parts = {"Rule": _RULE, "Caller": _CALLER, "Budget": _BUDGET, "Limit": _LIMIT}
    schemas = {f"Explained{name}": object_of(fields) for name, fields in parts.items()}
    return {"Explanation": object_of(_EXPLANATION), **schemas}
