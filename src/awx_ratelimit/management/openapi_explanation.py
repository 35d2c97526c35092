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
    "remaining": says(COUNT, "How much is left before the request."),
    "cost": says(COUNT, "What the request asks for."),
    "reset_after_ms": says(COUNT, "The time until the limit is full again. 0 for slots."),
    "refuses": says(FLAG, "Whether it has no room for the request."),
    "shadow": says(FLAG, "Whether a refusal is only reported, and refuses nothing."),
    "retry_after_ms": says(COUNT, "The wait for room. 0 if there is room, or if no wait can help."),
}
_BUDGET: Final[Mapping[str, Any]] = {
    "scope": says(TEXT_OR_NULL, "Such as `account`. null: the caller's own limits."),
    "subject": says(TEXT, "Whose limits they are."),
    "plan": says(TEXT, _PLAN),
    "charge_on": says(
        {"type": ["array", "null"], "items": {"type": "integer"}},
        "Only responses with these statuses are charged. null: all.",
    ),
    "limits": array_of("ExplainedLimit", "Its limits."),
}
_RULE: Final[Mapping[str, Any]] = {
    "path": says(TEXT, "The path of the rule."),
    "methods": says({"type": ["array", "null"], "items": TEXT}, "Its methods. null: every method."),
    "budget": says(TEXT_OR_NULL, "The name of its budget. null: it has none."),
    "exempts": says(FLAG, "Whether it exempts requests, or some of them."),
}
_CALLER: Final[Mapping[str, Any]] = {
    "subject": says(TEXT, "The subject that is charged. Never the key."),
    "plan": says(TEXT_OR_NULL, "The name of its plan. null: the table has no such plan, or the caller is exempt."),
    "account": says(TEXT_OR_NULL, "Its account. null: it has none."),
}
_EXPLANATION: Final[Mapping[str, Any]] = {
    "method": says(TEXT, "The method of the request."),
    "path": says(TEXT, "The path of the request."),
    "outcome": says(choice(*get_args(Outcome)), "What the gate would do."),
    "rules": array_of("ExplainedRule", "The rules that match. None: the request costs 1."),
    "caller": says(
        {"oneOf": [reference("ExplainedCaller"), {"type": "null"}]}, "Whose request it is. null: it has no key."
    ),
    "cost": says(COUNTS | {"type": ["object", "null"]}, "What it costs, by measure. null: unknown."),
    "wait_ms": says(COUNT, "How long it would wait for room at most."),
    "budgets": array_of("ExplainedBudget", "All limits that it would be charged by."),
    "status": says(_COUNT_OR_NULL, "The status of the refusal. null: it is not refused."),
    "code": says(TEXT_OR_NULL, "The code of the refusal."),
    "reason": says(TEXT_OR_NULL, "Why it is refused."),
    "retry_after_ms": says(_COUNT_OR_NULL, "When to retry. null: it is not refused, or no wait can help."),
    "is_fallback": says(FLAG, "Whether the backend is unavailable, and its guard has decided."),
    "has_route_limits": says(FLAG, "Whether the request is exempt but its route has limits, which are not shown."),
    "refusing": says({"type": "array", "items": TEXT}, "The names of the limits that refuse it."),
}


def explanation_schemas() -> dict[str, Schema]:
    """Return the schemas of an explanation and of its parts."""
    parts = {"Rule": _RULE, "Caller": _CALLER, "Budget": _BUDGET, "Limit": _LIMIT}
    schemas = {f"Explained{name}": object_of(fields) for name, fields in parts.items()}
    return {"Explanation": object_of(_EXPLANATION), **schemas}
